"""The arguments of every command that tags, and the tagger that they give."""

import argparse
import json

import pytest
from fake_endpoint import FakeEndpoint
from PIL import Image

from iamg.scenarios import load_scenarios
from iamg.tagging import ItemTags, TaggerModels
from iamg.tagging.synonyms import Synonym, write_synonyms
from iamg_train.tagger_arguments import add_tagger_arguments, tagger_models, tagger_of

POSTER = load_scenarios()["movie poster"]
RED = Image.new("RGB", (40, 60), "red")


def parsed(*argv):
    parser = argparse.ArgumentParser()
    add_tagger_arguments(parser)
    return parser.parse_args([str(word) for word in argv])


def test_nothing_is_wrapped_that_was_not_asked_for():
    tagger = tagger_of(parsed())
    assert type(tagger).__name__ == "CombinedTagger" and tagger.name == "visual + keywords"
    assert tagger_models(parsed()) == TaggerModels()


def test_models_are_chosen_by_their_arguments(tmp_path):
    argv = ["--clip-model", "c", "--vision-model", "v", "--language-model", "o/l", "--tagger-device", "cpu"]
    argv += ["--tagger-dtype", "bfloat16", "--tagger-batch-size", 3, "--endpoint", tmp_path]
    assert tagger_models(parsed(*argv)) == TaggerModels("c", "v", "o/l", "cpu", "bfloat16", 3, tmp_path)


def test_the_cache_keeps_what_the_model_said_and_filters_can_change_afterwards(tmp_path):
    with FakeEndpoint(tags=lambda request: ["red", "calm", "Night"]) as server:
        settings = tmp_path / "endpoint.toml"
        settings.write_text(f"url = {json.dumps(server.url)}\nvision_model = 'v'\n")
        argv = ["--tagger", "endpoint", "--endpoint", settings, "--tag-cache", tmp_path / "tags.sqlite"]
        for more, expected in (
            ((), ("red", "calm", "night")),
            (("--exclude-tags", "Calm"), ("red", "night")),
            (("--only-tags", "nights", "red"), ("red", "night")),
        ):
            assert tagger_of(parsed(*argv, *more)).tag([RED], [None], POSTER) == [ItemTags(expected)]
    assert len(server.requests) == 1


def test_what_was_merged_into_a_tag_goes_with_it(tmp_path):
    with FakeEndpoint(tags=lambda request: ["red", "scarlet", "night"]) as server:
        settings, synonyms = tmp_path / "endpoint.toml", tmp_path / "synonyms.jsonl"
        settings.write_text(f"url = {json.dumps(server.url)}\nvision_model = 'v'\n")
        write_synonyms(synonyms, [Synonym("scarlet", "red", 0.95)])
        argv = ["--tagger", "endpoint", "--endpoint", settings, "--synonyms", synonyms]
        assert tagger_of(parsed(*argv)).tag([RED], [None], POSTER) == [ItemTags(("red", "night"))]
        argv += ["--exclude-tags", "red"]
        assert tagger_of(parsed(*argv)).tag([RED], [None], POSTER) == [ItemTags(("night",))]


@pytest.mark.parametrize("argv", [("--tagger", "llava"), ("--tagger-batch-size", 0), ("--tagger-dtype", "int8")])
def test_other_values_are_refused(argv, capsys):
    with pytest.raises(SystemExit):
        parsed(*argv)
    assert str(argv[1]) in capsys.readouterr().err
