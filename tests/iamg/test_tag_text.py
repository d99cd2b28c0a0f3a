import pytest

from iamg.tag_text import merge_key, normalize_tag, split_tags


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("Dark Tones.", "dark tones"),
        ("1. Red", "red"),
        ("12) Red", "red"),
        ("- 2. “Red”!", "red"),
        ("#hero", "hero"),
        ("ＦＵＬＬ　ＷＩＤＴＨ", "full width"),
        ("'rock 'n' roll'", "rock 'n' roll"),
        ("90s drama", "90s drama"),
        ("3.5 mm film", "3.5 mm film"),
        ("2001", "2001"),
        ("toy story (1995)", "toy story (1995)"),
        ("children’s\tfilm", "children's film"),
        ("🎉🎉", ""),
        ("---", ""),
        ("1.", ""),
        ("", ""),
        ("<|endoftext|>", ""),
        ("\ud83d broken", "broken"),
    ],
)
def test_a_tag_is_shown_without_what_surrounds_it(written, shown):
    assert normalize_tag(written) == shown
    assert normalize_tag(shown) == shown


def test_commas_and_lines_inside_a_tag_separate_tags():
    assert split_tags("Red, dark tones\n- 1. City；雨、, 🎉,") == ("red", "dark tones", "city", "雨")
    assert split_tags("1,000 extras") == ("1,000 extras",)


@pytest.mark.parametrize(
    "variants",
    [
        ("dark-tones", "dark tones", "dark tone"),
        ("sci-fi", "sci fi", "scifi"),
        ("movie", "movies"),
        ("city", "cities"),
        ("superhero", "super-heroes"),
        ("dress", "dresses"),
        ("house", "houses"),
        ("shoe", "shoes"),
        ("box", "boxes"),
        ("children's", "childrens"),
    ],
)
def test_plural_and_hyphen_variants_are_one_tag(variants):
    assert len({merge_key(variant) for variant in variants}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [("new", "news"), ("star", "stare"), ("gras", "grass"), ("dark tone", "dark tonic"), ("bu", "bus")],
)
def test_other_words_stay_apart(one, other):
    assert merge_key(one) != merge_key(other)
