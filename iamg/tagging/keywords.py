"""Tags of a text without a model: lists are taken as tags already, prose gives its key phrases by RAKE.

RAKE: Rose, Engel, Cramer, Cowley, "Automatic Keyword Extraction from Individual Documents" (2010).
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from PIL import Image

from ..prompt_text import clean_text
from ..scenarios import Scenario
from ..tag_text import merge_key, normalize_tag, split_tags
from . import ItemTags
from .stop_words import STOP_WORDS

MAX_WORDS = 3  # of a key phrase
MAX_LISTED_WORDS = 5  # of a member of a list: "lord of the rings" is a tag where its author made it one
MAX_CHARACTERS = 40  # of a tag
MARKS = "\u0300-\u036f\u0591-\u05c7\u0610-\u065f\u0900-\u0963\u0966-\u0dff\u0e31-\u0e4e"  # which \w leaves out
SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？।])|[\r\n]+")
LABEL = re.compile(r"\s*[^\W\d_]\w*(?: \w+)?:\s+")  # "Genres: ", "User tags: "
LIST_LABEL = re.compile(r"(?:genres?|tags?|keywords?|topics?|themes?|categor(?:y|ies)):\s+$", re.IGNORECASE)
EMPTY_LIST = re.compile(rf"{LABEL.pattern}\W*$")
PHRASE_END = re.compile(rf"[^\w\s'{MARKS}-]+|\s-+\s|_")
WORD = re.compile(rf"[\w{MARKS}]+(?:['-][\w{MARKS}]+)*")


class KeywordTagger:
    """tags^T (Eq 3) from labelled or comma separated lists, then from key phrases; images are not read."""

    name = "keywords"
    parameters = {"version": 1}

    def tag(
        self, images: Sequence[Image.Image | None], texts: Sequence[str | None], scenario: Scenario
    ) -> list[ItemTags]:
        return [
            ItemTags(text=keywords(text or "", scenario.tag_limit - 1)) for _, text in zip(images, texts, strict=True)
        ]


def keywords(text: str, limit: int) -> tuple[str, ...]:
    """At most `limit` tags of a text: members of its lists in their order, then key phrases, best first."""
    listed: list[str] = []
    prose: list[str] = []
    for sentence in SENTENCE.split(text):
        members = _list_members(sentence)
        listed.extend(members)
        if not members and not EMPTY_LIST.match(sentence):
            prose.append(sentence)
    tags: dict[str, str] = {}
    for tag in (*listed, *_key_phrases(prose)):
        tags.setdefault(merge_key(tag), tag)
    return tuple(tags.values())[:limit]


def _list_members(sentence: str) -> tuple[str, ...]:
    """The tags of a sentence that is a list, empty where it is prose.

    After a label that announces a list, or with two members and more after any label, members may hold stop
    words. A single member after another label ("Alien: the thing in the dark" is no list), and three and more
    without a label, may not.
    """
    label = LABEL.match(sentence)
    members = split_tags(sentence[label.end() :] if label else sentence)
    words = [WORD.findall(member) for member in members]
    if any(len(member) > MAX_CHARACTERS for member in members) or any(len(run) > MAX_LISTED_WORDS for run in words):
        return ()
    if label and (len(members) >= 2 or LIST_LABEL.search(label.group())):
        return members
    plain = all(len(run) <= MAX_WORDS and STOP_WORDS.isdisjoint(run) for run in words)
    return members if plain and (label or len(members) >= 3) else ()


def _key_phrases(sentences: Sequence[str]) -> list[str]:
    """RAKE's phrases, best first: the sum of each word's degree / frequency, times the phrase's occurrences."""
    phrases = Counter(phrase for sentence in sentences for phrase in _candidates(sentence))
    frequency: Counter[str] = Counter()
    degree: Counter[str] = Counter()
    for phrase, count in phrases.items():
        for word in phrase:
            frequency[word] += count
            degree[word] += count * len(phrase)
    scores = {
        phrase: count * sum(degree[word] / frequency[word] for word in phrase) for phrase, count in phrases.items()
    }
    return [" ".join(phrase) for phrase in sorted(scores, key=scores.get, reverse=True)]


def _candidates(sentence: str) -> Iterator[tuple[str, ...]]:
    """Runs of words between stop words and punctuation, short enough to be tags."""
    for part in PHRASE_END.split(clean_text(sentence)):
        run: list[str] = []
        for word in (*WORD.findall(normalize_tag(part)), ""):
            if word and word not in STOP_WORDS:
                run.append(word)
                continue
            letters = any(character.isalpha() for character in "".join(run))
            if letters and len(run) <= MAX_WORDS and 2 < len(" ".join(run)) <= MAX_CHARACTERS:
                yield tuple(run)
            run = []
