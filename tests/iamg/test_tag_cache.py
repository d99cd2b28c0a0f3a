import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from iamg.scenarios import load_scenarios
from iamg.tagging import ItemTags
from iamg.tagging.cache import CachedTagger

POSTER = load_scenarios()["movie poster"]
RED, BLUE = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")


class CountingTagger:
    name = "counting"

    def __init__(self, **parameters):
        self.parameters = parameters
        self.asked = []

    def tag(self, images, texts, scenario):
        self.asked.append(list(texts))
        return [
            ItemTags((str(image.getpixel((0, 0))),) if image else (), (text,) if text else ())
            for image, text in zip(images, texts, strict=True)
        ]


def test_only_what_is_new_reaches_the_tagger_and_the_order_stays(tmp_path):
    tagger = CountingTagger()
    first = CachedTagger(tagger, tmp_path / "tags.sqlite").tag([RED, None], ["a", "b"], POSTER)
    second = CachedTagger(tagger, tmp_path / "tags.sqlite").tag(
        [None, BLUE, RED, BLUE, None], ["c", "a", "a", "a", "b"], POSTER
    )
    assert tagger.asked == [["a", "b"], ["c", "a"]]
    assert second == CountingTagger().tag([None, BLUE, RED, BLUE, None], ["c", "a", "a", "a", "b"], POSTER)
    assert [second[2], second[4]] == first


@pytest.mark.parametrize(
    "other",
    [
        {"scenario": replace(POSTER, tag_limit=5)},
        {"scenario": replace(POSTER, image_prompt="another {tag_limit}")},
        {"tagger": CountingTagger(temperature=1)},
        {"text": None},
        {"text": "a "},
        {"image": None},
        {"image": BLUE},
        {"image": Image.new("RGB", (2, 8), "red")},
    ],
)
def test_another_question_is_not_answered_from_the_cache(tmp_path, other):
    CachedTagger(CountingTagger(), tmp_path / "tags").tag([RED], ["a"], POSTER)
    tagger = other.get("tagger", CountingTagger())
    image, text = other.get("image", RED), other.get("text", "a")
    CachedTagger(tagger, tmp_path / "tags").tag([image], [text], other.get("scenario", POSTER))
    assert tagger.asked == [[text]]


@pytest.mark.parametrize("damage", ["no database", "cut short", "overwritten pages"])
def test_a_damaged_file_is_set_aside_with_a_warning(tmp_path, damage, caplog):
    path = tmp_path / "tags.sqlite"
    texts = [f"text {n} " * 20 for n in range(200)]
    CachedTagger(CountingTagger(), path).tag([None] * 200, texts, POSTER)
    content = path.read_bytes()
    broken = {
        "no database": b"not a database at all " * 100,
        "cut short": content[: len(content) // 2],
        "overwritten pages": content[:4096] + b"\xa5" * (len(content) - 4096),
    }[damage]
    path.write_bytes(broken)
    with caplog.at_level(logging.WARNING):
        tags = CachedTagger(CountingTagger(), path).tag([None] * 200, texts, POSTER)
    assert tags == CountingTagger().tag([None] * 200, texts, POSTER)
    assert "tags.sqlite" in caplog.text and "set aside" in caplog.text
    assert (tmp_path / "tags.sqlite.damaged").read_bytes() == broken
    again = CountingTagger()
    assert CachedTagger(again, path).tag([None] * 200, texts, POSTER) == tags
    assert again.asked == []


def test_a_cache_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(ValueError, match="missing.*cannot be used"):
        CachedTagger(CountingTagger(), tmp_path / "missing" / "tags").tag([None], ["a"], POSTER)


SHARING = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from iamg.scenarios import load_scenarios
from iamg.tagging import make_tagger
from iamg.tagging.cache import CachedTagger
tagger = CachedTagger(make_tagger("keywords"), Path(sys.argv[2]))
for n in range(60):
    tagger.tag([None], [f"Genres: genre{n}, {sys.argv[3]}{n}"], load_scenarios()["outfit"])
"""


def test_two_processes_share_a_file(tmp_path):
    root, path = Path(__file__).parents[2], tmp_path / "tags"
    running = [
        subprocess.Popen([sys.executable, "-c", SHARING, root, path, who], stderr=subprocess.PIPE) for who in "xy"
    ]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
    inner = CountingTagger()
    inner.name, inner.parameters = "keywords", {"version": 1}
    texts = [f"Genres: genre{n}, {who}{n}" for n in range(60) for who in "xy"]
    CachedTagger(inner, path).tag([None] * 120, texts, load_scenarios()["outfit"])
    assert inner.asked == []
