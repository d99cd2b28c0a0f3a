"""The strings of JSON in a model's answer, which may be fenced, stand amid prose, or be cut off."""

import json
import re
from collections.abc import Iterator

OPENING = re.compile(r"[\[{]")
STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},]|"', re.DOTALL)
CLOSING = {"[": "]", "{": "}"}
TAG_KEYS = ("tags", "keywords", "labels")  # of an object that says more than its tags
NAME_KEYS = ("tag", "keyword", "label", "name")  # of an object that is one tag
DEEPEST = 6  # lists and objects within each other
MEMBER = re.compile(r"[\s,]*(?=[\[{])")  # before another value: JSON lines


def json_strings(text: str) -> list[str] | None:
    """The strings that stand for tags, in order, of the first JSON list or object in the text and those right behind it.

    A value that is cut off counts up to its last whole member. None where the text has no JSON.
    """
    found: list[str] = []
    opening = OPENING.search(text)
    begin = end = opening.start() if opening else 0
    while opening:
        value, end = _value(text, opening.start())
        found.extend(_strings(value))
        behind = MEMBER.match(text, end) if value is not None else None
        opening = OPENING.match(text, behind.end()) if behind else None
    return found if found or '"' in text[begin:end] else None  # "[1]" is no JSON to speak of


def _value(text: str, start: int) -> tuple[object, int]:
    """The JSON value that begins at `start`, and where it ends; None where it is none, or is cut off too early."""
    decoder = json.JSONDecoder()
    try:
        return decoder.raw_decode(text, start)
    except (ValueError, RecursionError):
        for mended in _mended(text[start:]):
            try:
                return decoder.decode(mended), len(text)
            except (ValueError, RecursionError):
                continue
    return None, start if CLOSING[text[start]] in text[start:] else len(text)


def _mended(text: str) -> Iterator[str]:
    """What is cut off, closed behind its end, and behind its last member that has a comma."""
    open_now: list[str] = []
    comma, open_at_comma = 0, []
    end = len(text)
    for match in STRUCTURE.finditer(text):
        mark = match[0]
        if mark == '"':  # a string that does not end
            end = match.start()
            break
        if mark in CLOSING:
            open_now.append(mark)
        elif mark in "]}" and open_now:
            open_now.pop()
        elif mark == ",":
            comma, open_at_comma = match.start(), open_now.copy()
    for stop, still_open in ((end, open_now), (comma, open_at_comma)):
        yield text[:stop] + "".join(CLOSING[mark] for mark in reversed(still_open))


def _strings(value: object, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict) and depth < DEEPEST:
        for member in value if isinstance(value, list) else _members(value):
            yield from _strings(member, depth + 1)


def _members(thing: dict[str, object]) -> list[object]:
    """What of an object stands for tags: its tags, its name, its keys where they are scored, else all its values."""
    keys = {key.casefold(): key for key in thing}
    if named := [thing[keys[key]] for key in TAG_KEYS if key in keys]:
        return named
    if named := [thing[keys[key]] for key in NAME_KEYS if key in keys]:
        return named[:1]
    if thing and all(isinstance(member, int | float) for member in thing.values()):
        return list(thing)
    return list(thing.values())
