import json
import subprocess
import sys

import numpy as np
import pytest

from iamg.scenarios import load_scenarios
from iamg.tagging import ItemTags
from iamg.tagging.keywords import KeywordTagger
from iamg.tagging.synonyms import (
    MergedTagger,
    Synonym,
    near_synonyms,
    read_synonyms,
    sentence_embedder,
    write_synonyms,
)

SCENARIO = load_scenarios()["movie poster"]


def at_angles(degrees: dict[str, float]):
    """An embedder whose tags lie on a circle: their cosine is that of the angle between them."""

    def embed(tags):
        radians = np.radians([degrees[tag] for tag in tags])
        return np.stack([np.cos(radians), np.sin(radians)], axis=1) * 3

    return embed


def merged(counts: dict[str, int], degrees: dict[str, float], threshold: float) -> dict[str, str]:
    return {found.tag: found.merged_into for found in near_synonyms(counts, at_angles(degrees), threshold)}


def test_near_tags_merge_into_the_most_frequent_and_far_ones_stay():
    degrees = {"gloomy": 0, "dark": 10, "happy": 120, "joyful": 125}
    assert merged({"gloomy": 1, "dark": 5, "happy": 2, "joyful": 3}, degrees, 0.9) == {
        "gloomy": "dark",
        "happy": "joyful",
    }


def test_of_equally_frequent_tags_the_shortest_then_the_first_stays():
    degrees = {"noir film": 0, "noir": 1, "onir": 2}
    assert merged(dict.fromkeys(degrees, 1), degrees, 0.9) == {"noir film": "noir", "onir": "noir"}


def test_small_steps_do_not_add_up():
    """a - b - c - d are 20 degrees apart each: b is near a, but c is near b only, which has gone."""
    degrees = {"a": 0, "b": 20, "c": 40, "d": 60}
    near = np.cos(np.radians(25))
    assert merged({"a": 4, "b": 3, "c": 2, "d": 1}, degrees, near) == {"b": "a", "d": "c"}


def test_every_merge_is_within_the_threshold_and_no_two_that_stay_are():
    random = np.random.default_rng(0)
    tags = [f"tag {number}" for number in range(300)]
    vectors = random.normal(size=(300, 4))
    embeds = dict(zip(tags, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), strict=True))
    counts = dict(zip(tags, random.integers(1, 9, 300).tolist(), strict=True))
    found = near_synonyms(counts, lambda asked: np.stack([embeds[tag] for tag in asked]), 0.9)
    gone = {synonym.tag for synonym in found}
    staying = [tag for tag in tags if tag not in gone]
    assert 0 < len(found) < 300 and [x.cosine for x in found] == sorted(x.cosine for x in found)
    for synonym in found:
        assert synonym.cosine == pytest.approx(embeds[synonym.tag] @ embeds[synonym.merged_into], abs=1e-4)
        assert synonym.cosine >= 0.9 and synonym.merged_into in staying
        assert counts[synonym.merged_into] >= counts[synonym.tag]
    gram = np.stack([embeds[tag] for tag in staying])
    assert ((gram @ gram.T) - np.eye(len(staying)) < 0.9).all()


def test_nothing_comes_of_nothing():
    assert near_synonyms({}, at_angles({}), 0.9) == []


@pytest.mark.parametrize("threshold", [0, -1, 1.1, 90, float("nan")])
def test_a_threshold_that_is_no_cosine_is_refused(threshold):
    with pytest.raises(ValueError, match="expected a cosine above 0, up to 1"):
        near_synonyms({"a": 1}, at_angles({"a": 0}), threshold)


def test_an_embedder_that_fails_is_told():
    with pytest.raises(ValueError, match="expected a finite vector for each"):
        near_synonyms({"a": 1}, lambda tags: np.full((1, 2), np.nan), 0.9)
    with pytest.raises(ValueError, match=r"gave \(1, 2\) for 2 tags"):
        near_synonyms({"a": 1, "b": 1}, lambda tags: np.ones((1, 2)), 0.9)


# ---- the file


def test_the_file_is_read_back_and_can_be_edited(tmp_path):
    path = tmp_path / "synonyms.jsonl"
    write_synonyms(path, [Synonym("gloomy", "dark", 0.91), Synonym("fête", "party", 0.95)])
    assert json.loads(path.read_text(encoding="utf-8").splitlines()[1]) == {
        "tag": "fête",
        "merged_into": "party",
        "cosine": 0.95,
    }
    assert read_synonyms(path) == {"gloomy": "dark", "fête": "party"}
    kept = path.read_text(encoding="utf-8").splitlines()[1]
    path.write_text("\ufeff" + kept + '\r\n\r\n{"tag": "Film-Noir", "merged_into": "Noir"}\r\n', encoding="utf-8")
    assert read_synonyms(path) == {"fête": "party", "film-noir": "noir"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "synonyms.jsonl"
    write_synonyms(path, [Synonym("gloomy", "dark", 0.91)])
    before = path.read_bytes()

    def failing():
        yield Synonym("a", "b", 0.9)
        raise OSError("disk full")

    with pytest.raises(OSError):
        write_synonyms(path, failing())
    assert path.read_bytes() == before


LINES = {
    "not json": ("gloomy = dark", "line 2 of synonyms file .* is not JSON"),
    "no object": ('["gloomy", "dark"]', "line 2 .* expected"),
    "no target": ('{"tag": "gloomy"}', "line 2 .* expected"),
    "no text": ('{"tag": "gloomy", "merged_into": 3}', "line 2 .* expected"),
    "empty tag": ('{"tag": "!!", "merged_into": "dark"}', "line 2 .* expected"),
    "twice": ('{"tag": "Night", "merged_into": "dark"}', "line 2 .* merges 'night', as line 1 does"),
    "a chain": (
        '{"tag": "moon", "merged_into": "nights"}',
        "line 2 .* merges 'moon' into 'nights', which line 1 merges",
    ),
    "itself": ('{"tag": "moon", "merged_into": "Moon"}', "line 2 .* into 'moon', which line 2 merges itself"),
}


@pytest.mark.parametrize(("line", "message"), LINES.values(), ids=LINES.keys())
def test_a_line_that_cannot_be_meant_is_named(tmp_path, line, message):
    path = tmp_path / "synonyms.jsonl"
    path.write_text('{"tag": "nights", "merged_into": "night sky"}\n' + line, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_synonyms(path)


def test_another_kind_of_file_is_told(tmp_path):
    path = tmp_path / "synonyms.jsonl"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is not UTF-8"):
        read_synonyms(path)


# ---- the tagger


class Said:
    name, parameters = "said", {"version": 1}

    def tag(self, images, texts, scenario):
        return [ItemTags(image=("gloomy", "red", "Dark"), text=("Gloomy!", "party"))]


def test_synonyms_are_merged_once_an_item_and_undone_by_taking_them_away():
    tagger = MergedTagger(Said(), {"gloomies": "dark", "night": "evening"})
    (tags,) = tagger.tag([None], [None], SCENARIO)
    assert tags == ItemTags(image=("dark", "red"), text=("dark", "party"))
    assert tagger.tagger.tag([None], [None], SCENARIO)[0].image == ("gloomy", "red", "Dark")


def test_other_synonyms_are_another_tagger():
    one, same, other = (
        json.dumps(MergedTagger(KeywordTagger(), synonyms).parameters)
        for synonyms in ({"a b": "c", "d": "c"}, {"d": "c", "a-b": "c"}, {"a b": "d"})
    )
    assert one == same != other


# ---- the embedder


KINDS = [f"sentence_transformers.models.{kind}" for kind in ("Transformer", "Pooling", "Normalize")]


@pytest.fixture(scope="module")
def small_embedder(tmp_path_factory):
    """A seeded BERT of one layer over a few words, in the files that all-MiniLM-L6-v2 is published in."""
    pytest.importorskip("sentence_transformers")
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("embedder")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"dark gloomy red night sky tones film noir a the".split()]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    places = ["", "1_Pooling", "2_Normalize"]
    modules = [
        {"idx": idx, "name": str(idx), "path": place, "type": kind}
        for idx, (place, kind) in enumerate(zip(places, KINDS, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 64, "do_lower_case": false}')
    for place in places[1:]:
        (folder / place).mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        '{"word_embedding_dimension": 32, "pooling_mode_mean_tokens": true, "pooling_mode_cls_token": false}'
    )
    return folder


def test_a_sentence_embedding_model_is_loaded_from_its_folder(small_embedder):
    import torch
    from transformers import AutoModel, AutoTokenizer

    tags = ["dark", "film noir", "the dark night sky"]
    embeds = sentence_embedder(small_embedder)(tags)
    tokenizer, bert = AutoTokenizer.from_pretrained(small_embedder), AutoModel.from_pretrained(small_embedder)
    for tag, embed in zip(tags, embeds, strict=True):  # mean pooling, by hand, one tag at a time
        with torch.no_grad():
            mean = bert(**tokenizer(tag, return_tensors="pt")).last_hidden_state[0].mean(dim=0)
        np.testing.assert_allclose(embed, mean / mean.norm(), atol=1e-5)
    counts = {"dark night": 3, "DARK night": 1, "red": 2}
    found = near_synonyms(counts, sentence_embedder(small_embedder), 0.999)
    assert [(synonym.tag, synonym.merged_into) for synonym in found] == [("DARK night", "dark night")]


def copied(model, folder, modules=None):
    import shutil

    shutil.copytree(model, folder)
    if modules:
        (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def test_code_in_the_folder_never_runs(small_embedder, tmp_path):
    kinds = [{"idx": 0, "name": "0", "path": "", "type": "evil.Evil"}]
    folder = copied(small_embedder, tmp_path / "model", kinds)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    with pytest.raises(ValueError, match="names the module 'evil.Evil'"):
        sentence_embedder(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["sentence_transformers.models.Dense", "os.Transformer", None, 3])
def test_modules_that_could_import_anything_are_refused(small_embedder, tmp_path, kind):
    folder = copied(small_embedder, tmp_path / "model", [{"idx": 0, "name": "0", "path": "", "type": kind}])
    with pytest.raises(ValueError, match="only sentence-transformers' Transformer, Pooling and Normalize"):
        sentence_embedder(folder)


def test_a_folder_without_a_model_is_told(small_embedder, tmp_path):
    with pytest.raises(FileNotFoundError, match="has no modules.json"):
        sentence_embedder(tmp_path)
    folder = copied(small_embedder, tmp_path / "model")
    (folder / "modules.json").write_text('{"0": "x"}')
    with pytest.raises(ValueError, match="no list of modules"):
        sentence_embedder(folder)
    folder = copied(small_embedder, tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="no model.safetensors"):
        sentence_embedder(folder)


def test_synonyms_are_read_without_the_embedders_package():
    script = "import sys, iamg.tagging.synonyms; assert not {'sentence_transformers', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
