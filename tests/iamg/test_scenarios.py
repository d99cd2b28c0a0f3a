import json
from dataclasses import asdict

import pytest

from iamg.scenarios import load_scenarios

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
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    path.write_text("\n".join([f'["{name}"]', *lines]), encoding="utf-8-sig")
    return path


def test_the_paper_s_scenarios_fill_their_prompts():
    scenarios = load_scenarios()
    assert list(scenarios) == list(FOCUS)
    for name, (image_focus, text_focus) in FOCUS.items():
        scenario = scenarios[name]
        image_prompt = scenario.image_prompt.format(**asdict(scenario))
        text_prompt = scenario.text_prompt.format(**asdict(scenario), text="THE TEXT")
        assert name in image_prompt and image_focus in image_prompt and "less than 8" in image_prompt
        assert "THE TEXT" in text_prompt and text_focus in text_prompt and "less than 8" in text_prompt


def test_a_user_s_file_adds_and_replaces(tmp_path):
    scenarios = load_scenarios(write(tmp_path / "a.toml"), write(tmp_path / "b.toml", "outfit", phi="costume"))
    assert list(scenarios) == ["movie poster", "news poster", "outfit", "book cover"]
    assert scenarios["book cover"].tag_limit == 6
    assert scenarios["outfit"].phi == "costume"


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
