import json

from iamg.scenarios import load_scenarios
from iamg.tagging import ItemTags
from iamg.tagging.cache import CachedTagger
from iamg.tagging.filters import FilteredTagger, TagFilter
from iamg.tagging.keywords import KeywordTagger

SCENARIO = load_scenarios()["movie poster"]
TAGS = ItemTags(image=("red", "dark tones", "sci-fi"), text=("heroes", "city", "red"))


def test_nothing_asked_nothing_lost():
    assert TagFilter().keep(TAGS) == TAGS


def test_excluded_tags_go_whatever_their_spelling():
    kept = TagFilter(exclude=("Dark-Tone", "HERO", " 1. red ")).keep(TAGS)
    assert kept == ItemTags(image=("sci-fi",), text=("city",))


def test_only_the_listed_tags_stay_in_their_own_spelling():
    kept = TagFilter(only=("scifi", "Hero")).keep(TAGS)
    assert kept == ItemTags(image=("sci-fi",), text=("heroes",))


def test_what_is_in_both_lists_goes():
    assert TagFilter(exclude=("red",), only=("red", "cities")).keep(TAGS) == ItemTags(text=("city",))


def test_a_filter_around_the_cache_can_be_taken_away(tmp_path):
    cached = CachedTagger(KeywordTagger(), tmp_path / "tags.sqlite")
    filtered = FilteredTagger(cached, TagFilter(exclude=("comedies",)))
    text = "Genres: Comedy, Drama, Crime."
    assert filtered.tag([None], [text], SCENARIO)[0].text == ("drama", "crime")
    assert cached.tag([None], [text], SCENARIO)[0].text == ("comedy", "drama", "crime")


def test_another_filter_is_another_tagger_and_another_spelling_is_not():
    def parameters(*exclude: str) -> str:
        return json.dumps(FilteredTagger(KeywordTagger(), TagFilter(exclude=exclude)).parameters)

    assert parameters("red", "dark tones") == parameters("Dark-Tone", "red")
    assert parameters("red") != parameters("blue")
    assert FilteredTagger(KeywordTagger(), TagFilter()).name == "keywords"
