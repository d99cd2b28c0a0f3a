"""Eq 2 and Eq 3 by models that are asked: what is asked, what is asked again, and what is kept where a model fails."""

import json
from dataclasses import replace

import pytest
from PIL import Image

from iamg.scenarios import load_scenarios
from iamg.tagging import IncompleteTags, ItemTags, make_tagger
from iamg.tagging.asking import PICTURE_SIDE, REPAIRS, TEXT_CHARACTERS, AskingTagger
from iamg.tagging.cache import CachedTagger
from iamg.tagging.combined import CombinedTagger

POSTER = load_scenarios()["movie poster"]
RED, BLUE = Image.new("RGB", (20, 30), "red"), Image.new("RGB", (20, 30), "blue")
REFUSAL = "I'm sorry, but I can't help with that."


class Scripted:
    """Answers by a function of the question; keeps what it was asked, batch by batch."""

    fingerprint, batch_size = "scripted", 2

    def __init__(self, answer):
        self.batches, self.reply = [], answer

    def answer(self, questions):
        self.batches.append(list(questions))
        return [self.reply(question) for question in questions]

    @property
    def asked(self):
        return [question for batch in self.batches for question in batch]


def colour(question) -> str:
    return {(255, 0, 0): "red, warm", (0, 0, 255): "blue, cool"}[question.image.getpixel((0, 0))]


def last_word(question) -> str:
    return question.prompt.splitlines()[0].split()[-1]


def fails_at(number, reply):
    """A model whose answer to the question of that number is a broken connection."""
    asked = []

    def answer(question):
        asked.append(question)
        if len(asked) > number:
            raise ValueError("the endpoint is gone")
        return reply(question)

    return Scripted(answer)


def test_pictures_are_seen_by_one_model_and_texts_read_by_the_other():
    vision, language = Scripted(colour), Scripted(last_word)
    tagger = AskingTagger("transformers", vision, language)
    found = tagger.tag([RED, None, BLUE, None], ["a film of war", "about love", "  ", None], POSTER)
    assert found == [
        ItemTags(("red", "warm"), ("war",)),
        ItemTags((), ("love",)),
        ItemTags(("blue", "cool"), ()),
        ItemTags(),
    ]
    assert [len(batch) for batch in vision.batches] == [2]
    assert vision.asked[0].prompt == POSTER.image_prompt.format(phi="movie poster", tag_limit=8)
    assert language.asked[0].prompt == POSTER.text_prompt.format(text="a film of war", phi="movie poster", tag_limit=8)
    assert all(question.image is None for question in language.asked)
    assert {question.tag_limit for question in vision.asked + language.asked} == {7}
    assert tagger.parameters == {"version": 1, "vision": "scripted", "language": "scripted"}


def test_a_modality_without_a_model_has_no_tags():
    assert AskingTagger("x", None, Scripted(last_word)).tag([RED], ["war"], POSTER) == [ItemTags((), ("war",))]
    assert AskingTagger("x", Scripted(colour), None).tag([RED], ["war"], POSTER) == [ItemTags(("red", "warm"), ())]


def test_what_a_model_is_shown_is_bounded():
    vision, language = Scripted(lambda question: "red"), Scripted(lambda question: "red")
    picture, text = Image.new("RGBA", (4000, 1000)), "{tag_limit} long " * 100_000
    AskingTagger("x", vision, language).tag([picture], [text], POSTER)
    (seen,) = vision.asked
    assert seen.image.mode == "RGB" and seen.image.size == (PICTURE_SIDE, PICTURE_SIDE // 4)
    assert len(language.asked[0].prompt) < TEXT_CHARACTERS + len(POSTER.text_prompt)
    assert language.asked[0].prompt.startswith("{tag_limit} long")


def test_an_item_has_fewer_tags_than_the_limit():
    model = Scripted(lambda question: ", ".join(f"thing {letter}" for letter in "abcdefghijkl"))
    (tags,) = AskingTagger("x", model, model).tag([RED], ["a"], replace(POSTER, tag_limit=4))
    assert len(tags.image) == len(tags.text) == 3


def test_a_refused_question_is_asked_again_with_what_was_wrong_and_only_that_one(caplog):
    def answer(question):
        wrong = question.image.getpixel((0, 0)) == (0, 0, 255) and "could not be used" not in question.prompt
        return REFUSAL if wrong else colour(question)

    model = Scripted(answer)
    found = AskingTagger("x", model, None).tag([RED, BLUE], [None, None], POSTER)
    assert [item.image for item in found] == [("red", "warm"), ("blue", "cool")]
    assert [len(batch) for batch in model.batches] == [2, 1]
    assert model.asked[2].prompt.startswith(model.asked[1].prompt) and "refuses" in model.asked[2].prompt
    assert not caplog.records


def test_repairs_are_bounded_and_an_item_without_usable_answers_is_told(caplog):
    model = Scripted(lambda question: REFUSAL)
    assert AskingTagger("x", model, None).tag([RED], [None], POSTER) == [ItemTags()]
    assert len(model.batches) == 1 + REPAIRS
    assert "no usable answer in 3 attempts" in caplog.text and "refuses" in caplog.text


def test_what_was_answered_before_a_failure_is_kept_and_not_asked_again(tmp_path):
    pictures, texts = [RED, BLUE, RED, RED, BLUE], ["a", "b", None, "d", "e"]
    failing = AskingTagger("x", Scripted(colour), fails_at(2, last_word))
    with pytest.raises(IncompleteTags, match="endpoint is gone") as raised:
        CachedTagger(failing, tmp_path / "tags").tag(pictures, texts, POSTER)
    expected = AskingTagger("x", Scripted(colour), Scripted(last_word)).tag(pictures, texts, POSTER)
    assert raised.value.tags == {row: expected[row] for row in (0, 1, 2)}
    vision, language = Scripted(colour), Scripted(last_word)
    rerun = CachedTagger(AskingTagger("x", vision, language), tmp_path / "tags")
    assert rerun.tag(pictures, texts, POSTER) == expected
    assert [last_word(question) for question in language.asked] == ["d", "e"] and len(vision.asked) == 2


def test_where_the_pictures_model_fails_items_without_a_picture_are_whole_only_with_their_text():
    with pytest.raises(IncompleteTags) as raised:
        AskingTagger("x", fails_at(0, colour), Scripted(last_word)).tag([RED, None, None], ["a", "b", None], POSTER)
    assert raised.value.tags == {2: ItemTags()}


def test_a_failure_beside_another_tagger_keeps_what_both_finished():
    taggers = [AskingTagger("x", fails_at(2, colour), None), make_tagger("keywords")]
    with pytest.raises(IncompleteTags) as raised:
        CombinedTagger(taggers).tag([RED, BLUE, RED], ["Genres: war.", None, "Genres: love."], POSTER)
    assert raised.value.tags == {0: ItemTags(("red", "warm"), ("war",)), 1: ItemTags(("blue", "cool"), ())}


def test_it_can_be_stopped_between_batches():
    class Stopped(BaseException):
        pass

    seen = []

    def progress(done, total):
        seen.append((done, total))
        if done == 4:
            raise Stopped

    model = Scripted(colour)
    with pytest.raises(Stopped):
        AskingTagger("x", model, None, progress).tag([RED] * 7, [None] * 7, POSTER)
    assert seen == [(2, 7), (4, 7)] and len(model.batches) == 2


def test_descriptions_are_plain_text_and_refusals_are_none():
    said = {
        (255, 0, 0): "A red  poster.\n\nIt shows a lighthouse.<|im_end|>\n<|im_start|>user\nmore?",
        (0, 0, 255): REFUSAL,
        (0, 255, 0): "",
        (0, 0, 0): "A long story goes on. " * 100,
    }
    pictures = [Image.new("RGB", (8, 8), rgb) for rgb in said]
    tagger = AskingTagger("x", Scripted(lambda question: said[question.image.getpixel((0, 0))]), None)
    first, refused, empty, long = tagger.describe(pictures, POSTER)
    assert first == "A red poster. It shows a lighthouse."
    assert refused == empty == ""
    assert 250 < len(long) <= 500 and long.endswith("goes on.")
    assert tagger.vision.asked[0].prompt == POSTER.description_prompt.format(phi="movie poster")
    assert tagger.vision.asked[0].tag_limit is None
    assert tagger.describe([None, pictures[0]], POSTER) == ["", first]
    with pytest.raises(ValueError, match="no model that sees"):
        AskingTagger("x", None, tagger.vision).describe(pictures, POSTER)


def test_parameters_are_json_and_tell_models_apart():
    one, other = Scripted(colour), Scripted(colour)
    other.fingerprint = "other"
    taggers = [AskingTagger("x", *pair) for pair in ((one, None), (None, one), (one, one), (one, other), (other, one))]
    assert len({json.dumps(tagger.parameters) for tagger in taggers}) == len(taggers)


@pytest.mark.parametrize("name", ["transformers", "endpoint + keywords"])
def test_without_any_model_it_is_said_what_to_choose(name, monkeypatch):
    monkeypatch.setenv("IAMG_ENDPOINT_URL", "http://127.0.0.1:9/v1")
    for role in ("VISION", "LANGUAGE"):
        monkeypatch.delenv(f"IAMG_ENDPOINT_{role}_MODEL", raising=False)
    with pytest.raises(ValueError, match=f"the {name.split()[0]} tagger has no model; choose a vision-language"):
        make_tagger(name)
