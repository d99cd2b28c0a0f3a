"""What a vision-language or language model answers when it is asked for tags (Eq 2, Eq 3), read into tags.

Models are asked for tags with commas between, or for JSON. They answer with that, or with numbered lists, with lines
such as "Color: red, blue", preambles, remarks, explanations, refusals, sentences and loops.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from ..prompt_text import clean_text
from ..tag_text import merge_key, normalize_tag, split_tags
from .answer_json import json_strings
from .answer_phrases import CATEGORIES, CLOSING, FILLERS, LEAD, NOTHING, PREAMBLE, REFUSAL, REMARK, SUBJECT, VERB
from .answer_turn import first_turn

LONGEST_ANSWER = 20_000  # characters that are read
MAX_WORDS = 5  # of a tag
MAX_CHARACTERS = 40  # of a tag
SENTENCE_WORDS = 4  # and a verb make a sentence
LOOP = 4  # times the same tag, and no other
PHRASE_LOOP = 3  # times the same words in one tag

LINE_BREAK = re.compile(r"[\r\n]+|</?[A-Za-z]\w*[^<>\n]{0,40}>")  # "<tags>red, blue</tags>"
MARKUP = re.compile(r"\*\*|__|`{3}\w*|\\")
ASIDE = re.compile(r"\([^()]*,[^()]*\)|\((?:[^()\s]+\s+){2}[^()]*\)|\(\d{1,3}(?:\.\d+)?\s?%\)")
NUMBERED = re.compile(r"(?:.*:)?\s*\(?\d{1,2}[.)]\s")  # "The tags are: 1. red 2. blue"
NUMBER = re.compile(r"(?:^|\s)\(?\d{1,2}[.)]\s+")
BULLET = re.compile(r"(?:^|\s)(?:[*•▪●◦·]\s+|#(?=\w))|^\s*[-–—]\s+|\|")
SENTENCE_END = re.compile(r"(?<=[\w)\]\"'%]{3}[.!?])\s+(?=\S)")  # not after "Mr." or "2."
LABEL = re.compile(r"([^:,;]{1,60}?)(\s*:(?!\S)|\s+[-–—]+(?=\s))\s*(.*)")  # "Color: red", "Color - red"
LOOPED = re.compile(r"(.{1,200}?)\1{3,}")
LOOP_WINDOW = 2000  # characters at the end of an answer in which a loop shows
LATIN = re.compile(r"[a-z\u00df-\u024f]")


@dataclass(frozen=True)
class Answer:
    tags: tuple[str, ...] = ()
    problem: str = ""
    """What the answer does instead of giving tags, such as "it refuses"; empty where it gives some."""


def read_answer(text: str, limit: int) -> Answer:
    """The first `limit` tags of a model's answer, normalised, variants of a tag once (D14), or what is wrong with it.

    Only the first turn after the model's thoughts is read, and of a long one the start: any answer takes bounded time.
    Tags wholly in another script than Latin are left out, for the questions are English, and CLIP reads no other.
    """
    turn, thinking = first_turn(text, LONGEST_ANSWER)
    if not turn:
        return Answer(problem="it ends before its thoughts do" if thinking else "it is empty")
    strings = json_strings(turn)
    passages = [turn] if strings is None else strings
    found = _Found()
    for sentence in (sentence for passage in passages for sentence in _sentences(passage)):
        if CLOSING.match(sentence) and found.tags:
            break
        found.add(sentence)
    tags = [tag for tag in found.distinct() if not _script(tag)]
    if not tags:
        return Answer(problem=_problem(" ".join(passages or [turn]), found))
    if len(tags) == 1 and len(found.tags) >= LOOP:
        return Answer(problem="it repeats itself")
    return Answer(tuple(tags[:limit]))


class _Found:
    """The tags that were found, repeats included, and what was passed over."""

    def __init__(self):
        self.tags: list[str] = []
        self.refused = self.prose = False

    def add(self, sentence: str) -> None:
        sentence = ASIDE.sub("", sentence).strip(" \"'")
        if preamble := PREAMBLE.match(sentence):
            sentence = sentence[preamble.end() :]
        if REFUSAL.match(sentence):
            self.refused = True
        elif not REMARK.fullmatch(sentence):
            lead = LEAD.match(sentence)
            self._add_list(_unlabelled(sentence[lead.end() :] if lead else sentence))

    def distinct(self) -> list[str]:
        """The tags, variants of a tag once; without the last where it is one of a loop, cut off."""
        tags: dict[str, str] = {}
        for tag in self.tags:
            tags.setdefault(merge_key(tag), tag)
        *others, last = [*tags.values()] or [""]
        looped = len(tags) < len(self.tags)
        return others if looped and any(tag.startswith(last) for tag in others) else [*tags.values()]

    def _add_list(self, text: str) -> None:
        parts = [part for written in split_tags(text) for part in _unlooped(_bare(written)) if not _says_nothing(part)]
        tags = [part for part in parts if _is_tag(part)]
        if parts and not _is_tag(parts[0]) and (_is_sentence(parts[0]) or 2 * len(tags) <= len(parts)):
            self.prose |= len(text.split()) >= SENTENCE_WORDS
        else:
            self.tags += tags


def _sentences(text: str) -> Iterator[str]:
    """What stands in lines, items of lists and sentences of their own, without the marks that say so."""
    for line in LINE_BREAK.split(unicodedata.normalize("NFKC", text)):
        line = clean_text(MARKUP.sub("", line).replace("_", " "))
        for item in (NUMBER if NUMBERED.match(line) else BULLET).split(line):
            yield from SENTENCE_END.split(item.strip())


def _unlabelled(sentence: str) -> str:
    """A sentence without the label before its tags, or the explanation behind its tag."""
    match = LABEL.fullmatch(sentence)
    if not match:
        return sentence
    head, mark, rest = match.groups()
    if not rest:
        return ""
    members = split_tags(rest)
    listed = bool(members) and all(map(_is_tag, members))
    if _says_nothing(normalize_tag(head)) or (listed and _is_category(head)):
        return rest
    if not listed:
        return head
    if ":" not in mark:
        return f"{head}, {_unlabelled(rest)}"  # "western - outlaws - desert"
    return rest if len(members) > 1 else sentence  # "Mission: Impossible" is one tag


def _bare(tag: str) -> str:
    """A tag without "and" before it, or a label: "mood: dark" amid a list."""
    tag = tag.removeprefix("and ").removeprefix("or ").removeprefix("& ")
    match = LABEL.fullmatch(tag)
    return normalize_tag(match[3]) if match and _is_category(match[1]) else tag


def _unlooped(tag: str) -> list[str]:
    """The tags that a loop without commas repeats: "night sky night sky night sky" is three; else the tag alone."""
    words = tag.split()
    for length in range(1, MAX_WORDS + 1):
        again = zip(words, words[length:-1], strict=False)
        if len(words) >= PHRASE_LOOP * length and all(one == other for one, other in again):
            if words[-1 - length].startswith(words[-1]):  # the last may be cut off
                return [" ".join(words[:length])] * (len(words) // length)
    return [tag]


def _is_tag(text: str) -> bool:
    named = any(character.isalpha() for character in text) or (text.isdecimal() and len(text) == 4)  # a year
    return named and len(text) <= MAX_CHARACTERS and len(text.split()) <= MAX_WORDS and not _is_sentence(text)


def _is_sentence(text: str) -> bool:
    return bool(len(text.split()) >= SENTENCE_WORDS and SUBJECT.match(text) and VERB.search(text))


def _is_category(text: str) -> bool:
    return any(merge_key(word) in CATEGORIES for word in normalize_tag(text).split())


def _says_nothing(tag: str) -> bool:
    """Whether a tag is but a word for tags, or for what was asked about: "color palette", "tags", "n/a"."""
    keys = {merge_key(word) for word in tag.split()}
    return not tag or tag in NOTHING or (bool(keys & CATEGORIES) and keys <= CATEGORIES | FILLERS)


def _script(text: str) -> str:
    """The script of a text without a Latin letter; empty where it has one, or no letters."""
    letter = next((character for character in text if character.isalpha()), "")
    if not letter or LATIN.search(text.casefold()):
        return ""
    return unicodedata.name(letter, "unknown").split()[0]


def _problem(text: str, found: _Found) -> str:
    """What an answer without tags does instead."""
    if script := _script(text):
        return f"it is in another script than the question ({script})"
    if found.refused:
        return "it refuses"
    if LOOPED.search(" ".join(text.split())[-LOOP_WINDOW:]):
        return "it repeats itself"
    return "it gives sentences instead of tags" if found.prose else "it gives no tags"
