import random

import pytest

from iamg.prompt_text import clean_text, escape_prompt, fit_text


@pytest.fixture(scope="module")
def count_tokens():
    tokenizer = pytest.importorskip("open_clip.tokenizer").SimpleTokenizer()
    return lambda text: len(tokenizer.encode(text))


def words(text):
    return len(text.split())


def test_cleaning_leaves_one_line_without_what_breaks_a_tokenizer():
    text = "A\tb\r\nc\x00\x07 \ud83d <|EndOfText|><|startoftext|> d  “e’s”"
    assert clean_text(text) == 'A b c d "e\'s"'


def test_a_text_within_the_budget_stays_whole():
    assert fit_text("One two. Three", words, 3) == "One two. Three"


def test_a_long_text_is_cut_at_the_last_sentence_that_fits():
    assert fit_text("One two three. Four five! Six seven eight.", words, 6) == "One two three. Four five!"


def test_an_abbreviated_number_is_no_end_of_a_sentence():
    assert fit_text("Version 1.5 of it ends. Then more", words, 5) == "Version 1.5 of it ends."


def test_a_sentence_that_would_waste_most_of_the_room_gives_way_to_a_word():
    assert fit_text("Heat. " + "word " * 50, words, 9) == "Heat." + " word" * 8


def test_chinese_has_no_spaces_and_is_cut_at_a_character(count_tokens):
    kept = fit_text("雨" * 500, count_tokens)
    assert count_tokens(kept) <= 75 < count_tokens(kept + "雨")


def test_a_single_word_too_long_for_the_budget_is_left_out(count_tokens):
    assert fit_text("x" * 100_000, count_tokens) == ""
    assert fit_text("A film. " + "x" * 100_000, count_tokens) == "A film."


def test_the_cut_text_starts_the_text_and_fits_whatever_the_text(count_tokens):
    random.seed(0)
    pieces = [
        "word",
        "Toy Story (1995)",
        "((a))",
        "🎉",
        "e\u0301",
        "naïve",
        "&amp;",
        "\n",
        ".",
        "! ",
        "日本語。",
        "x" * 90,
    ]
    for length in [0, 1, 5, 40, 120, 5000]:
        text = " ".join(random.choice(pieces) for _ in range(length))
        kept = fit_text(text, count_tokens)
        assert count_tokens(kept) <= 75
        assert clean_text(text).startswith(kept)
        assert fit_text(kept, count_tokens) == kept
        if length >= 120:
            assert count_tokens(kept) > 25


def test_escaping_hides_parentheses_and_embeddings_and_nothing_else():
    assert escape_prompt(r"Toy (1995) {a|b} c\d") == r"Toy \(1995\) {a|b} c\d"
    assert escape_prompt("embedding:foo") == "embedding :foo"


@pytest.mark.parametrize("text", ["embedding:foo", "x embedding: y", "embedding:!", "embedding:embedding:a"])
def test_a_hidden_embedding_has_the_same_clip_tokens(text):
    tokenizer = pytest.importorskip("open_clip.tokenizer").SimpleTokenizer()
    assert tokenizer.encode(escape_prompt(text)) == tokenizer.encode(text)
