import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iamg.scenarios import load_scenarios
from iamg.tagging import ItemTags, make_tagger
from iamg.tagging.keywords import keywords
from iamg.tagging.visual import COLORS, to_lab, visual_tags

POSTER = load_scenarios()["movie poster"]
MOVIES = Path(__file__).parents[3] / "shared" / "data" / "movielens_mini"


def bands(*colors, size=(64, 96)):
    """A picture of equal horizontal bands."""
    picture = Image.new("RGB", size)
    height = size[1] // len(colors)
    for row, color in enumerate(colors):
        picture.paste(color, (0, row * height, size[0], size[1]))
    return picture


def test_lab_of_known_colors():
    """Values of the CIE formulas under D65, as published for the sRGB primaries."""
    rgb = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [119, 119, 119]])
    lab = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.2], [87.73, -86.18, 83.18], [32.3, 79.19, -107.86], [50.03, 0, 0]]
    np.testing.assert_allclose(to_lab(rgb), lab, atol=0.02)


@pytest.mark.parametrize("name", COLORS)
def test_a_plain_picture_has_its_color(name):
    assert visual_tags(Image.new("RGB", (40, 60), COLORS[name][0]))[0] == name


@pytest.mark.parametrize(
    ("color", "name"),
    [("crimson", "red"), ("gold", "yellow"), ("navy", "blue"), ("indigo", "purple"), ("hotpink", "pink")]
    + [("forestgreen", "green"), ("saddlebrown", "brown"), ("teal", "turquoise"), ("darkorange", "orange")]
    + [("wheat", "beige"), ("snow", "white"), ("dimgray", "gray"), ("skyblue", "blue"), ("turquoise", "turquoise")],
)
def test_css_colors_have_the_name_people_give_them(color, name):
    assert visual_tags(Image.new("RGB", (40, 60), color))[0] == name


def test_colors_come_by_share_and_at_most_three():
    tags = visual_tags(bands("red", "red", "red", "blue", "blue", "green", size=(60, 96)))
    assert tags[:3] == ("red", "blue", "green")
    tags = visual_tags(bands("red", "red", "blue", "blue", "yellow", "yellow", "black", "black", "green"))
    assert len([tag for tag in tags if tag in COLORS]) == 3


def test_tones():
    assert {"dark tones", "cool colors"} <= set(visual_tags(bands("#0a1440", "#10205a")))
    assert {"bright tones", "warm colors"} <= set(visual_tags(bands("#ffe0a0", "#ffd080")))
    assert {"vivid colors"} <= set(visual_tags(bands("#e81010", "#f0e010")))
    assert {"muted colors"} <= set(visual_tags(bands("#807878", "#786e70")))
    assert {"monochrome", "high contrast"} <= set(visual_tags(bands("black", "white")))
    assert {"monochrome", "low contrast"} <= set(visual_tags(bands("#707070", "#808080")))


def test_middle_values_give_no_tag():
    middling = bands("#7d5f50", "#5a7d64", "#55648c", "#9b8764")
    assert not set(visual_tags(middling)) - set(COLORS) - {"low contrast", "minimalist composition"}


def test_composition_by_edges():
    noise = np.random.default_rng(0).integers(0, 256, (96, 64, 3), dtype=np.uint8)
    assert "busy composition" in visual_tags(Image.fromarray(noise))
    assert "minimalist composition" in visual_tags(bands("#446688", "#557799"))


def test_a_product_on_white_is_measured_without_its_background():
    photo = Image.new("RGB", (120, 160), "#f0f0f0")
    photo.paste("#101840", (40, 50, 80, 110))
    tags = visual_tags(photo)
    assert tags[0] == "blue" and "white" not in tags and "dark tones" in tags and "white background" in tags


def test_an_empty_white_picture_and_a_single_pixel_are_described():
    assert visual_tags(Image.new("RGB", (50, 50), "white"))[0] == "white"
    assert visual_tags(Image.new("RGB", (1, 1), "red"))[0] == "red"
    assert visual_tags(Image.new("RGB", (4000, 1), "red"))[0] == "red"


def test_lists_are_tags_already_and_lose_their_labels():
    text = "Toy Story. Genres: Adventure, Animation, Children. User tags: pixar, based on a book."
    assert keywords(text, 10) == ("adventure", "animation", "children", "pixar", "based on a book", "toy story")
    assert keywords("pixar, fun, space ship", 10) == ("pixar", "fun", "space ship")
    assert keywords("Shrew. User tags: sort of a remake.", 10) == ("sort of a remake", "shrew")
    assert keywords("Genres: Drama.\nColour: Light Blue", 10) == ("drama", "light blue")


def test_prose_is_no_list():
    assert keywords("Austin Powers: International Man of Mystery", 5) == (
        "austin powers",
        "international man",
        "mystery",
    )
    assert "in a dark" not in keywords("In a dark, cold city, he runs", 5)


def test_rake_s_own_arithmetic():
    """Frequencies and degrees counted by hand: storm 2/5, old 1/3, sea 1/3, city 1/1, night 1/2."""
    text = "The old sea storm. It is the city. A storm night."
    # old sea storm 3 + 3 + 5/2 = 8.5, storm night 5/2 + 2 = 4.5, city 1
    assert keywords(text, 5) == ("old sea storm", "storm night", "city")


def test_a_repeated_phrase_outranks_a_longer_one_met_once():
    assert keywords("Pirates of the big red ship. " + "The pirates are here. " * 9, 2)[0] == "pirates"


@pytest.mark.parametrize("text", ["", " \n\t", "🎉 🎉!", "the of and", "1995 2001", ",,,;;", "Genres: , ."])
def test_nothing_to_say_is_no_tag(text):
    assert keywords(text, 7) == ()


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("Ein Junge, sein Spielzeug und der Weltraum", "ein junge"),
        ("雨の夜。東京の街", "雨の夜"),
        ("एक फिल्म, हिन्दी", "हिन्दी"),
        ("Love 🎉 wins\nBig-city lights", "big-city lights"),
        ("don’t stop the children’s party", "children's party"),
    ],
)
def test_other_scripts_and_signs_give_whole_words(text, tag):
    assert any(found.startswith(tag) for found in keywords(text, 7))


def test_five_thousand_words_give_few_short_tags():
    words = [f"{a}{b}" for a in ["mo", "ta", "ri", "ku"] for b in ["ran", "lix", "den"]]
    text = " ".join(words[i * i % 11] + (" the" if i % 3 else ".") for i in range(5000))
    tags = keywords(text, 7)
    assert 0 < len(tags) <= 7 and all(len(tag) <= 40 for tag in tags)
    assert tags == keywords(text, 7)


@pytest.mark.parametrize("name", ["visual + keywords", "visual", "keywords"])
def test_every_tagger_gives_fewer_tags_than_the_limit(name):
    tagger = make_tagger(name)
    assert tagger.name == name
    json.dumps(tagger.parameters)
    text = "Genres: " + ", ".join(f"genre {letter}" for letter in "abcdefghij")
    picture = bands("white", "black", "red", "white", "red")
    tags = tagger.tag([picture, None, picture, None], [text, text, None, None], POSTER)
    sees, reads = "visual" in name, "keywords" in name
    assert [bool(item.image) for item in tags] == [sees, False, sees, False]
    assert [len(item.text) for item in tags] == [7 * reads, 7 * reads, 0, 0]
    assert all(len(item.image) < POSTER.tag_limit for item in tags)
    assert tags[3] == ItemTags()


def test_an_unknown_tagger_is_answered_with_those_there_are():
    with pytest.raises(ValueError, match="no tagger 'llava'; choose one of 'visual \\+ keywords'"):
        make_tagger("llava")


@pytest.mark.skipif(not MOVIES.is_dir(), reason=f"the real posters are not at {MOVIES}")
@pytest.mark.parametrize(
    ("item_id", "has", "lacks"),
    [
        ("1748", {"black", "dark tones", "cool colors"}, {"bright tones", "warm colors"}),  # Dark City
        ("1094", {"black", "dark tones", "monochrome"}, {"busy composition"}),  # The Crying Game
        ("2617", {"orange", "warm colors", "vivid colors"}, {"cool colors", "bright tones"}),  # The Mummy
        ("2273", {"yellow", "black", "red", "vivid colors"}, {"muted colors"}),  # Rush Hour
        (
            "661",
            {"white background", "red", "high contrast"},
            {"dark tones", "cool colors"},
        ),  # James and the Giant Peach
        ("2687", {"beige", "bright tones", "warm colors"}, {"dark tones"}),  # Tarzan
        ("1278", {"black", "busy composition"}, {"minimalist composition"}),  # Young Frankenstein
        ("1092", {"white", "bright tones", "high contrast"}, {"warm colors", "vivid colors"}),  # Basic Instinct
    ],
)
def test_real_posters_are_described_as_a_person_would(item_id, has, lacks):
    with Image.open(MOVIES / "images" / f"{item_id}.jpg") as poster:
        tags = set(visual_tags(poster))
    assert has <= tags and not lacks & tags
