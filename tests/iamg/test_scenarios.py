import json
from dataclasses import asdict

import pytest

from iamg.interests import item_tags
from iamg.scenarios import Scenario, load_scenarios
from iamg.tagging import ItemTags

OWN = {
    "phi": "book cover",
    "tag_limit": 6,
    "image_prompt": "fewer than {tag_limit} tags of this {phi}",
    "text_prompt": "{text}: fewer than {tag_limit} tags",
}
FOCUS = {  # Appendix E
    "movie poster": ("symbolism, artistic style, cultural elements", "tone, character, expression, setting, cultural"),
    "news poster": ("news theme, location, figures, color, mood, style", "news theme, location, mood, style"),
    "outfit": (
        "color, style, material, pattern, occasion, size, seasonality",
        "style, pattern, occasion, seasonality",
    ),
}


def write(path, name="book cover", **changes):
    table = {key: value for key, value in {**OWN, **changes}.items() if value is not None}
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for key, groups in table.items():
        if isinstance(groups, dict):
            lines += [f'["{name}".{key}]', *(f"{group} = {json.dumps(tags)}" for group, tags in groups.items())]
    path.write_text("\n".join([f'["{name}"]', *lines]), encoding="utf-8-sig")
    return path


def test_the_paper_s_scenarios_fill_their_prompts():
    scenarios = load_scenarios()
    assert list(scenarios) == [*FOCUS, "mini poster"]
    for name, (image_focus, text_focus) in FOCUS.items():
        scenario = scenarios[name]
        image_prompt = scenario.image_prompt.format(**asdict(scenario))
        text_prompt = scenario.text_prompt.format(**asdict(scenario), text="THE TEXT")
        assert name in image_prompt and image_focus in image_prompt and "less than 8" in image_prompt
        assert "THE TEXT" in text_prompt and text_focus in text_prompt and "less than 8" in text_prompt


def test_a_user_s_file_adds_and_replaces(tmp_path):
    scenarios = load_scenarios(write(tmp_path / "a.toml"), write(tmp_path / "b.toml", "outfit", phi="costume"))
    assert list(scenarios) == ["movie poster", "news poster", "outfit", "mini poster", "book cover"]
    assert scenarios["book cover"].tag_limit == 6
    assert scenarios["outfit"].phi == "costume"


@pytest.mark.parametrize("name", load_scenarios())
def test_built_in_vocabularies_are_groups_of_tags_that_a_picture_can_be_given(name):
    scenario = load_scenarios()[name]
    assert 4 <= len(scenario.vocabulary) < scenario.tag_limit
    for tags in scenario.vocabulary.values():
        assert 4 <= len(tags) <= 12
        assert item_tags(ItemTags(image=tags)) == tags  # as they are shown, and none a variant of another
    prompt = scenario.tag_prompt.format(phi=scenario.phi, tag="red")
    assert prompt == ("red" if name == "mini poster" else f"{'an' if name == 'outfit' else 'a'} {name}, red")


@pytest.mark.parametrize("name", load_scenarios())
def test_a_description_of_a_sentence_or_two_is_asked_for(name, tmp_path):
    scenario = load_scenarios()[name]
    prompt = scenario.description_prompt.format(phi=scenario.phi)
    assert scenario.phi in prompt and "one or two plain sentences" in prompt and "\n" not in prompt
    own = load_scenarios(write(tmp_path / "a.toml", description_prompt="What is on this {phi}?"))["book cover"]
    assert own.description_prompt.format(phi=own.phi) == "What is on this book cover?"


def test_a_user_s_vocabulary_is_kept_in_its_order(tmp_path):
    vocabulary = {"light": ["dark", "bright"], "colour": ["red", "blue-green", "1,000 colours"]}
    path = write(tmp_path / "a.toml", vocabulary=vocabulary, tag_prompt="{tag}, on {phi}")
    scenario = load_scenarios(path)["book cover"]
    assert list(scenario.vocabulary.items()) == [(group, tuple(tags)) for group, tags in vocabulary.items()]
    assert scenario.tag_prompt.format(tag="dark", phi=scenario.phi) == "dark, on book cover"
    assert json.loads(json.dumps(asdict(scenario)))["vocabulary"] == vocabulary


def test_vocabulary_and_tag_prompt_may_be_left_out(tmp_path):
    scenario = load_scenarios(write(tmp_path / "a.toml"))["book cover"]
    assert scenario == Scenario(name="book cover", **OWN)
    assert scenario.vocabulary == {} and scenario.tag_prompt == "a {phi}, {tag}"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"phi": None}, "phi missing"),
        ({"tags": 3}, "unknown key tags"),
        ({"tag_limit": "8"}, "tag_limit must be int, got '8'"),
        ({"tag_limit": 1}, "must be 2 or more"),
        ({"phi": ""}, "phi must be"),
        ({"phi": "two\nlines"}, "phi must be"),
        ({"image_prompt": "tags"}, r"image_prompt lacks the placeholder \{tag_limit\}"),
        ({"text_prompt": "{tag_limit} tags"}, r"text_prompt lacks the placeholder \{text\}"),
        ({"image_prompt": "{tag_limit} {text}"}, r"image_prompt has the unknown placeholder \{text\}"),
        ({"text_prompt": "{text.__class__} {text} {tag_limit}"}, r"unknown placeholder \{text.__class__\}"),
        ({"text_prompt": "{text:>9999999999} {text} {tag_limit}"}, "unknown placeholder"),
        ({"image_prompt": "{tag_limit} {"}, "image_prompt: .*write {{ and }} for braces"),
        ({"tag_prompt": 3}, "tag_prompt must be str, got 3"),
        ({"tag_prompt": "a {phi}"}, r"tag_prompt lacks the placeholder \{tag\}"),
        ({"tag_prompt": "{tag} {text}"}, r"tag_prompt has the unknown placeholder \{text\}"),
        (
            {"description_prompt": "{text}"},
            r"description_prompt has the unknown placeholder \{text\}; it may use \{phi\}",
        ),
        ({"vocabulary": ["red", "blue"]}, r"vocabulary must be a table of lists of tags, got \['red', 'blue'\]"),
        ({"vocabulary": {"colour": "red"}}, "vocabulary.colour must be a list of two tags or more.*got 'red'"),
        ({"vocabulary": {"colour": ["red"]}}, "vocabulary.colour must be a list of two tags or more"),
        ({"vocabulary": {"colour": ["red", 3]}}, "vocabulary.colour: a tag is .*got 3"),
        ({"vocabulary": {"colour": ["red", "Blue"]}}, "vocabulary.colour: a tag is .*got 'Blue'"),
        ({"vocabulary": {"colour": ["red", "sea, sky"]}}, "vocabulary.colour: a tag is .*got 'sea, sky'"),
        ({"vocabulary": {"colour": ["red", ""]}}, "vocabulary.colour: a tag is .*got ''"),
        ({"vocabulary": {"a": ["red", "blue"], "b": ["pink", "red"]}}, "vocabulary.b has 'red', .*already"),
    ],
)
def test_a_wrong_scenario_is_named_with_its_file(tmp_path, changes, said):
    path = write(tmp_path / "mine.toml", **changes)
    with pytest.raises(ValueError, match=said) as caught:
        load_scenarios(path)
    assert str(path) in str(caught.value) and "book cover" in str(caught.value)


@pytest.mark.parametrize("content", [b"[a\n", b"\xff\xfe\x00", b"phi = 'a'"])
def test_a_file_that_is_no_scenario_file_is_named(tmp_path, content):
    (tmp_path / "mine.toml").write_bytes(content)
    with pytest.raises(ValueError, match="mine.toml"):
        load_scenarios(tmp_path / "mine.toml")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="mine.toml"):
        load_scenarios(tmp_path / "mine.toml")
