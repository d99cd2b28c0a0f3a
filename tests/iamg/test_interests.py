import random
from collections import Counter

import pytest

from iamg.interests import interest_tags, item_tags, rewrite
from iamg.prompt_text import clean_text
from iamg.scenarios import load_scenarios
from iamg.tagging import ItemTags

POSTER = load_scenarios()["movie poster"]


@pytest.fixture(scope="module")
def count_tokens():
    tokenizer = pytest.importorskip("open_clip.tokenizer").SimpleTokenizer()
    return lambda text: len(tokenizer.encode(text))


def words(text):
    return len(text.split())


def test_an_item_s_tags_are_the_union_image_first_variants_once():
    tags = ItemTags(image=("Dark Tones", "red"), text=("dark-tones", "drama, red", "🎉"))
    assert item_tags(tags) == ("dark tones", "red", "drama")


def test_interests_without_ties_are_those_of_collections_counter():
    random.seed(1)
    names = [f"tag{letter}" for letter in "abcdefgh"]
    items = [ItemTags(text=tuple(names[: size + 1])) for size in range(len(names))]
    random.shuffle(items)
    counter = Counter(tag for item in items for tag in item.text)
    assert len(set(counter.values())) == len(names)
    for limit in range(len(names) + 2):
        assert interest_tags(items, limit) == tuple(tag for tag, _ in counter.most_common(limit))


def naive_interests(history, limit):
    """Eq 5 and D14 word by word, for tags that need no normalising."""
    tags = {tag for item in history for tag in (*item.image, *item.text)}

    def rank(tag):
        ages = [age for age, item in enumerate(history) if tag in item.image or tag in item.text]
        in_both = any(tag in item.image for item in history) and any(tag in item.text for item in history)
        return -len(ages), sum(ages), 0 if in_both else 1, tag

    return tuple(sorted(tags, key=rank)[:limit])


def test_ties_follow_count_recency_modality_alphabet():
    generator = random.Random(2)
    names = ["ant", "bee", "cat", "dog", "elk", "fox"]
    decided = set()
    for _ in range(300):
        history = [
            ItemTags(
                image=tuple(generator.sample(names, generator.randint(0, 3))),
                text=tuple(generator.sample(names, generator.randint(0, 3))),
            )
            for _ in range(generator.randint(0, 4))
        ]
        limit = generator.randint(0, 6)
        assert interest_tags(history, limit) == naive_interests(history, limit)
        decided.add(len(naive_interests(history, 6)) - limit)
    assert max(decided) > 0  # some limits did cut


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([ItemTags(text=("old", "new"))] + [ItemTags(text=("old",))], ("old", "new")),
        ([ItemTags(text=("new",)), ItemTags(text=("aged",))], ("new", "aged")),
        ([ItemTags(image=("zebra",), text=("ant", "zebra"))], ("zebra", "ant")),
        ([ItemTags(text=("bee", "ant"))], ("ant", "bee")),
        ([ItemTags(text=("Red", "red", "reds")), ItemTags(text=("ant",)), ItemTags(text=("ant",))], ("ant", "red")),
    ],
)
def test_each_rule_in_turn(history, expected):
    assert interest_tags(history, 8) == expected


def test_the_most_frequent_spelling_is_shown_then_the_alphabet():
    history = [ItemTags(text=("dark-tones",)), ItemTags(text=("Dark Tone",)), ItemTags(image=("dark tone",))]
    assert interest_tags(history, 1) == ("dark tone",)
    assert interest_tags(history[:2], 1) == ("dark tone",)


@pytest.mark.parametrize(
    ("tags", "history", "expected"),
    [
        (("red", "city"), ("drama",), "A film. This movie poster is about red, city, maybe related to drama."),
        (("red",), (), "A film. This movie poster is about red."),
        ((), ("drama", "war"), "A film. This movie poster is maybe related to drama, war."),
        ((), (), "A film."),
    ],
)
def test_t_star_and_its_form_where_a_set_of_tags_is_empty(tags, history, expected):
    history = [ItemTags(text=(tag,)) for tag in history]
    assert rewrite("A  film.\n", ItemTags(image=tags), history, POSTER, words).text == expected
    assert rewrite("", ItemTags(image=tags), history, POSTER, words).text == expected.removeprefix("A film.").strip()


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (17, "T one. T two. This movie poster is about a1, a2, maybe related to b1, b2, b3."),
        (16, "T one. This movie poster is about a1, a2, maybe related to b1, b2, b3."),
        (13, "This movie poster is about a1, a2, maybe related to b1, b2, b3."),
        (12, "This movie poster is about a1, maybe related to b1, b2, b3."),
        (10, "This movie poster is maybe related to b1, b2, b3."),
        (9, "This movie poster is maybe related to b1, b2."),
        (7, "This movie poster is about a1, a2."),
        (5, "T one. T two."),
    ],
)
def test_room_goes_to_interests_then_item_tags_then_the_text(budget, expected):
    tags, history = ItemTags(text=("a1", "a2")), [ItemTags(text=("b1", "b2", "b3"))]
    result = rewrite("T one. T two.", tags, history, POSTER, words, token_budget=budget)
    assert result.text == expected
    assert result.item_tags + result.item_tags_cut == ("a1", "a2")
    assert result.interest_tags + result.interest_tags_cut == ("b1", "b2", "b3")


def test_the_result_accounts_for_everything_within_the_budget(count_tokens):
    generator = random.Random(3)
    pieces = ["city", "Dark-Tones", "dark tone", "(1995)", "((a))", "🎉", "a, b", "1. x\n2. y", "日本", "embedding:foo"]
    pieces += ["long " * 12, "superheroes"]

    def some_tags(most):
        return tuple(" ".join(generator.choices(pieces, k=2)) for _ in range(generator.randint(0, most)))

    for length in [0, 3, 30, 200, 5000] * 3:
        text = " ".join(generator.choice([*pieces, "word", "end."]) for _ in range(length))
        tags = ItemTags(image=some_tags(7), text=some_tags(7))
        history = [ItemTags(image=some_tags(4), text=some_tags(4)) for _ in range(generator.randint(0, 5))]
        result = rewrite(text, tags, history, POSTER, count_tokens)
        assert result.tokens == count_tokens(result.text) <= 75
        assert result.text.startswith(result.text_kept)
        assert (result.text_kept + result.text_cut).replace(" ", "") == clean_text(text).replace(" ", "")
        assert {*result.item_tags, *result.item_tags_cut} == set(item_tags(tags))
        assert {*result.interest_tags, *result.interest_tags_cut} == set(interest_tags(history, 8))
        assert all(tag in result.text for tag in (*result.item_tags, *result.interest_tags))
        assert result == rewrite(text, tags, history, POSTER, count_tokens)
        alone = f"This movie poster is maybe related to {', '.join(interest_tags(history, 8))}."
        if count_tokens(alone) <= 75:
            assert result.interest_tags_cut == ()


def test_eight_interests_survive_fourteen_item_tags_and_a_long_text(count_tokens):
    tags = ItemTags(tuple(f"vivid color {n}" for n in "abcdefg"), tuple(f"old story {n}" for n in "abcdefg"))
    history = [ItemTags(text=tuple(f"slow drama {n}" for n in "stuvwxyz"))]
    result = rewrite("Once upon a time. " * 500, tags, history, POSTER, count_tokens)
    assert len(result.interest_tags) == 8 and result.interest_tags_cut == ()
    assert result.item_tags == item_tags(tags)[: len(result.item_tags)] and result.item_tags_cut
    assert result.tokens <= 75


def test_a_tag_too_long_for_any_budget_costs_no_other_tag(count_tokens):
    history = [ItemTags(text=("word " * 5000, "drama", "x" * 100_000))]
    result = rewrite("A film.", ItemTags(text=("word " * 5000, "red")), history, POSTER, count_tokens)
    assert result.text == "A film. This movie poster is about red, maybe related to drama."
    assert len(result.interest_tags_cut) == 2 and len(result.item_tags_cut) == 1


def test_the_prompt_is_escaped_and_the_report_says_what_happened():
    tags, history = ItemTags(text=("toy story (1995)",)), [ItemTags(text=("dark-tones", "dark tone"))]
    result = rewrite("Toy Story (1995).", tags, history, POSTER, words)
    assert result.prompt == result.text.replace("(1995)", r"\(1995\)")
    assert result.merged == (("dark-tones", "dark tone"),)
    assert "dark-tones = dark tone" in result.report()
    assert f"tokens: {words(result.text)}" in result.report()
