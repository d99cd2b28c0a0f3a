from random import Random

from iamg.scenarios import load_scenarios
from iamg_train.mini.posters import VALUES, random_poster
from iamg_train.mini.texts import PHI, picture_tags, tag_of, text_tags

SCENARIO = load_scenarios()["mini poster"]
SEEN = ("colour", "pattern", "frame", "setting")


def test_the_vocabulary_is_what_posters_show():
    assert dict(SCENARIO.vocabulary) == {name: tuple(tag_of(name, value) for value in VALUES[name]) for name in SEEN}
    assert SCENARIO.phi == PHI


def test_a_poster_has_one_tag_of_each_group_and_all_fit_the_limit():
    poster = random_poster(Random(0))
    assert [tag in tags for tag, tags in zip(picture_tags(poster), SCENARIO.vocabulary.values(), strict=True)] == [
        True
    ] * 4
    assert len(picture_tags(poster)) + len(text_tags(poster)) < SCENARIO.tag_limit
