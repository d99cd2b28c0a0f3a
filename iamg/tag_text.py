"""Tags as they are written, and which writings are one tag (D14)."""

import re
import unicodedata

from .prompt_text import clean_text

SEPARATOR = re.compile(r"(?<!\d),|,(?!\d)|[;、\n\r]")  # "1,000 extras" is one tag
NUMBERING = re.compile(r"^(?:[-*•·–—#]+\s*|\(?\d{1,2}[.)](?!\d)\s*)+")  # "- ", "#", "1. ", "(2) "
EDGES = " \t\"'`“”‘’«»„.,:;!?…_*[]{}<>"
SIBILANT_PLURAL = re.compile(r"(?<=ss|sh|ch|ro)es$|(?<=x)es$")  # dresses, heroes, boxes
NOT_PLURAL = re.compile(r"(?:ss|us|is|^news)$")


def split_tags(text: str) -> tuple[str, ...]:
    """The tags of a comma or line separated text, normalised, without empty ones."""
    text = unicodedata.normalize("NFKC", text)
    return tuple(tag for part in SEPARATOR.split(text) if (tag := normalize_tag(part)))


def normalize_tag(tag: str) -> str:
    """A tag as it is shown: NFKC, case folded, without numbering, quotes and punctuation around it.

    Empty where nothing is left that has a letter or a digit (an emoji alone, "---").
    """
    tag = clean_text(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", tag).casefold()))
    while (stripped := NUMBERING.sub("", tag).strip(EDGES)) != tag:
        tag = stripped
    return tag if any(character.isalnum() for character in tag) else ""


def merge_key(tag: str) -> str:
    """What plural and hyphen variants of a normalised tag share: "dark-tones", "dark tone" -> "darktone"."""
    words = re.split(r"[\s\-‐‑–_/]+", tag.replace("'", ""))
    return "".join((*words[:-1], _singular(words[-1])))


def _singular(word: str) -> str:
    """The English singular, near enough to compare by; never shown."""
    if len(word) <= 3 or NOT_PLURAL.search(word):
        return word
    if word.endswith(("ies", "ie")):  # movie, movies, city, cities
        return word.removesuffix("s").removesuffix("ie") + "y"
    return SIBILANT_PLURAL.sub("", word) if SIBILANT_PLURAL.search(word) else word.removesuffix("s")
