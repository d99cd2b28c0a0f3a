"""`iamg-train tag`: what it asks, what it keeps through a kill, and what it tells."""

import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from fake_endpoint import FakeEndpoint, picture_of, prompt_of
from PIL import Image

from iamg.items import read_items
from iamg.pictures import open_picture
from iamg.scenarios import load_scenarios
from iamg.tagging import ItemTags, TaggerModels, make_tagger
from iamg.tagging.cache import CachedTagger
from iamg_train.cli import main
from iamg_train.tag_report import duration, speed

ROOT = Path(__file__).parents[2]
POSTER = load_scenarios()["movie poster"]
ITEMS, BATCH = 1000, 4


def write_items(folder, count, text="A story about number {n}."):
    """Pictures whose colour is their number, a digit a channel; every item has that text."""
    folder.mkdir()
    with (folder / "metadata.jsonl").open("w") as file:
        for n in range(count):
            Image.new("RGB", (4, 4), colour_of(n)).save(folder / f"{n}.png")
            file.write(json.dumps({"item_id": f"i{n}", "file_name": f"{n}.png", "text": text.format(n=n)}) + "\n")
    return folder


def colour_of(n):
    return tuple(12 + 25 * int(digit) for digit in f"{n:03}")  # far enough apart for JPEG


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def endpoint(monkeypatch):
    """Starts endpoints, which the environment then names; both models unless told otherwise."""
    running = []

    def start(*script, models=("VISION", "LANGUAGE"), **options):
        running.append(FakeEndpoint(script or ("json",), **options).__enter__())
        monkeypatch.setenv("IAMG_ENDPOINT_URL", running[-1].url)
        for model in ("VISION", "LANGUAGE"):
            monkeypatch.setenv(f"IAMG_ENDPOINT_{model}_MODEL", model.lower() if model in models else "")
        return running[-1]

    yield start
    for server in running:
        server.__exit__()


def numbered(request):
    """A tag that says which item a question is about: its picture's colour, or the number in its text."""
    picture = picture_of(request)
    if picture is None:
        return [f"text {re.search(r'about number ([0-9]+)', prompt_of(request)).group(1)}"]
    digits = (str(value // 25) for value in picture.convert("RGB").getpixel((1, 1)))
    return [f"picture {int(''.join(digits))}"]


def test_every_item_gets_the_tags_of_its_tagger_by_modality(tmp_path, capsys):
    folder = write_items(tmp_path / "films", 5)
    (folder / "3.png").write_bytes(b"no picture")
    assert main(["tag", str(folder), "--tagger", "visual + keywords"]) == 0
    told = capsys.readouterr().out
    items = [item for item in read_items(folder, pytest.fail) if item.item_id != "i3"]
    pictures = [open_picture(folder / item.picture) for item in items]
    expected = make_tagger("visual + keywords").tag(pictures, [item.description for item in items], POSTER)
    assert rows_of(folder / "tags.jsonl") == [
        {"item_id": item.item_id, "image_tags": list(tags.image), "text_tags": list(tags.text)}
        for item, tags in zip(items, expected, strict=True)
    ]
    rows = [[cell.strip() for cell in line.split("│")] for line in told.splitlines() if "│" in line]
    assert (
        ["asked for now", "4"] in rows and ["with tags of the text", "4"] in rows and ["without any tag", "0"] in rows
    )
    assert "1 items have problems" in told and "i3: picture" in told and "10000 items take" in told


def test_a_second_run_asks_for_nothing_and_a_changed_item_is_asked_for_again(tmp_path, endpoint, capsys):
    folder = write_items(tmp_path / "films", 6)
    server = endpoint(tags=numbered)
    assert main(["tag", str(folder), "--tagger", "endpoint"]) == 0
    assert len(server.requests) == 12
    first = (folder / "tags.jsonl").read_bytes()
    assert main(["tag", str(folder), "--tagger", "endpoint"]) == 0
    assert len(server.requests) == 12 and (folder / "tags.jsonl").read_bytes() == first
    assert "every answer was there already" in capsys.readouterr().out
    lines = (folder / "metadata.jsonl").read_text().replace("number 2.", "number 77.")
    (folder / "metadata.jsonl").write_text(lines)
    assert main(["tag", str(folder), "--tagger", "endpoint"]) == 0
    assert len(server.requests) == 14
    assert rows_of(folder / "tags.jsonl")[2]["text_tags"] == ["text 77"]


def test_the_answers_are_those_that_a_pool_or_a_node_asks_for(tmp_path, endpoint):
    """They ask a CachedTagger with the same model for a picture and a description."""
    folder, cache = write_items(tmp_path / "films", 3), tmp_path / "shared.sqlite"
    server = endpoint(tags=numbered)
    assert main(["tag", str(folder), "--tagger", "endpoint", "--tag-cache", str(cache)]) == 0
    asked = len(server.requests)
    items = list(read_items(folder, pytest.fail))
    tagger = CachedTagger(make_tagger("endpoint", TaggerModels()), cache)
    found = tagger.tag([open_picture(folder / one.picture) for one in items], [one.text for one in items], POSTER)
    assert len(server.requests) == asked and not (folder / "tags.sqlite").exists()
    assert found == [ItemTags((f"picture {n}",), (f"text {n}",)) for n in range(3)]


@pytest.mark.slow
def test_after_kills_the_rerun_asks_only_for_what_is_missing(tmp_path, endpoint):
    """kill -9 while 1,000 items are tagged, twice; each item is asked for in two questions."""
    folder = write_items(tmp_path / "films", ITEMS)
    server = endpoint(tags=numbered)
    command = [sys.executable, "-m", "iamg_train", "tag", str(folder), "--tagger", "endpoint"]
    command += ["--tagger-batch-size", str(BATCH)]

    def kept():
        with closing(sqlite3.connect(folder / "tags.sqlite", timeout=30)) as database:
            return database.execute("SELECT count(*) FROM tags").fetchone()[0]

    before = 0
    for stop_at in (300, 700):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 240
        while len(server.requests) < 2 * stop_at:
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1].decode()
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        time.sleep(0.2)  # requests that are still on their way to the server
        assert not (folder / "tags.jsonl").exists()
        lost = len(server.requests) - 2 * kept()
        assert 0 <= lost - before <= 2 * BATCH  # the batch that was in flight
        before = lost
    asked, missing = len(server.requests), ITEMS - kept()
    assert 0 < missing < ITEMS - 600
    assert subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, timeout=240).returncode == 0
    assert len(server.requests) - asked == 2 * missing
    assert rows_of(folder / "tags.jsonl") == [
        {"item_id": f"i{n}", "image_tags": [f"picture {n}"], "text_tags": [f"text {n}"]} for n in range(ITEMS)
    ]


def test_what_was_answered_before_an_endpoint_failed_is_kept(tmp_path, endpoint, capsys):
    folder = write_items(tmp_path / "films", 12)
    server = endpoint(*["json"] * 16, "redirect", tags=numbered)
    assert main(["tag", str(folder), "--tagger", "endpoint", "--tagger-batch-size", "4"]) == 2
    assert "iamg-train: error" in capsys.readouterr().err and not (folder / "tags.jsonl").exists()
    asked, server.script = len(server.requests), ["json"]
    assert main(["tag", str(folder), "--tagger", "endpoint", "--tagger-batch-size", "4"]) == 0
    assert len(server.requests) - asked == 8 and len(rows_of(folder / "tags.jsonl")) == 12


def describing(request):
    return ["A lonely fox on a hill."] if "response_format" not in request else ["fox"]


def test_items_without_a_text_are_described_and_no_text_is_overwritten(tmp_path, endpoint, capsys):
    folder = write_items(tmp_path / "films", 6, text="")
    lines = (folder / "metadata.jsonl").read_text().splitlines()
    lines[2] = json.dumps({**json.loads(lines[2]), "text": "Its own text."})
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    (folder / "descriptions.jsonl").write_text('{"item_id": "i4", "text": "Told before."}\n{"item_id": "i5", "te')
    server = endpoint(tags=describing)
    command = ["tag", str(folder), "--tagger", "endpoint + keywords", "--describe"]
    assert main(command) == 0
    assert "4 descriptions written" in capsys.readouterr().out
    texts = {item.item_id: item.text for item in read_items(folder, pytest.fail)}
    fox = "A lonely fox on a hill."
    assert texts == {"i0": fox, "i1": fox, "i2": "Its own text.", "i3": fox, "i4": "Told before.", "i5": fox}
    assert [row["item_id"] for row in rows_of(folder / "descriptions.jsonl")] == ["i4", "i0", "i1", "i3", "i5"]
    assert "lonely fox" in rows_of(folder / "tags.jsonl")[0]["text_tags"]
    asked = len(server.requests)
    assert main(command) == 0 and len(server.requests) == asked


def test_an_item_without_a_usable_description_is_a_problem_and_is_asked_for_again(tmp_path, endpoint, capsys):
    folder = write_items(tmp_path / "films", 1, text="")
    server = endpoint("refusal", models=("VISION",))
    assert main(["tag", str(folder), "--tagger", "endpoint", "--describe"]) == 0
    assert "i0: no description of it could be used" in capsys.readouterr().out
    server.script = ["json"]
    assert main(["tag", str(folder), "--tagger", "endpoint", "--describe"]) == 0
    assert [row["item_id"] for row in rows_of(folder / "descriptions.jsonl")] == ["i0"]


def test_a_tagger_that_cannot_see_in_words_describes_nothing(tmp_path, capsys):
    folder = write_items(tmp_path / "films", 1, text="")
    assert main(["tag", str(folder), "--tagger", "visual", "--describe"]) == 2
    assert "'visual' tagger cannot describe" in capsys.readouterr().err
    assert not (folder / "descriptions.jsonl").exists()


def test_files_are_not_written_through_links_out_of_the_folder(tmp_path, capsys):
    folder, outside = write_items(tmp_path / "films", 1), tmp_path / "outside.txt"
    outside.write_text("mine")
    (folder / "tags.jsonl").symlink_to(outside)
    assert main(["tag", str(folder)]) == 2
    assert "leads out of" in capsys.readouterr().err and outside.read_text() == "mine"


@pytest.mark.parametrize(
    ("seconds", "told"), [(7.4, "7 s"), (61, "1 min"), (3599, "1 h 0 min"), (45_000, "12 h 30 min")]
)
def test_lengths_of_time_are_told_in_units_of_their_size(seconds, told):
    assert duration(seconds) == told


def test_the_speed_is_told_with_what_a_large_catalogue_takes():
    assert speed(20, 90.0) == "0.22 items/s, 4.5 s an item; 10000 items take 12 h 30 min"
    assert speed(0, 0.0) == "every answer was there already"


def test_near_synonyms_are_written_for_people_and_merged_when_asked(tmp_path, monkeypatch, capsys):
    folder, file = write_items(tmp_path / "films", 3, text="Tags: gloomy, fox"), tmp_path / "films" / "synonyms.jsonl"
    lines = (folder / "metadata.jsonl").read_text().replace("gloomy, fox", "somber, fox", 1)
    (folder / "metadata.jsonl").write_text(lines)
    near = {"gloomy": (1.0, 0.0), "somber": (0.95, 0.3), "fox": (0.0, 1.0)}
    monkeypatch.setattr("iamg.tagging.synonyms.sentence_embedder", lambda model: lambda tags: [near[t] for t in tags])
    command = ["tag", str(folder), "--tagger", "keywords"]
    assert main([*command, "--merge-synonyms", "model", "--similarity", "0.9"]) == 0
    assert "somber = gloomy (0.95)" in capsys.readouterr().out
    assert [(row["tag"], row["merged_into"]) for row in rows_of(file)] == [("somber", "gloomy")]
    assert rows_of(folder / "tags.jsonl")[0]["text_tags"] == ["somber", "fox"]
    assert main([*command, "--synonyms", str(file)]) == 0
    assert rows_of(folder / "tags.jsonl")[0]["text_tags"] == ["gloomy", "fox"]
    edited = file.read_bytes() + b"\n"
    file.write_bytes(edited)
    assert main([*command, "--merge-synonyms", "model"]) == 2
    assert "is there already" in capsys.readouterr().err and file.read_bytes() == edited
