"""Text on its way to CLIP: cleaned, cut to one window, escaped for ComfyUI's prompt syntax (D12, D13)."""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable

TOKEN_BUDGET = 75  # CLIP's 77-token window without its start and end tokens
LONGEST_TOKEN = 64  # characters: above the longest in CLIP's vocabulary (32), so a longer text cannot fit
SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s|$)|[。！？]+")
WORD_END = re.compile(r"(?<=\S)(?=\s|$)|(?<=[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff])")  # Chinese, Japanese: no spaces
STRAIGHT_QUOTES = str.maketrans("‘’“”", "''\"\"")
SPECIAL_TOKEN = re.compile(r"<\|(?:start|end)oftext\|>", re.IGNORECASE)


def clean_text(text: str) -> str:
    """Text in one line, without control characters, lone surrogates, or CLIP's own start and end tokens.

    Quotes become straight, as CLIP met them in training.
    """
    text = "".join(
        " " if character.isspace() else character
        for character in unicodedata.normalize("NFC", text).translate(STRAIGHT_QUOTES)
        if character.isspace() or unicodedata.category(character) not in ("Cc", "Cs")
    )
    return " ".join(SPECIAL_TOKEN.sub(" ", text).split())


def fit_text(text: str, count_tokens: Callable[[str], int], token_budget: int = TOKEN_BUDGET) -> str:
    """The longest start of the cleaned text that `count_tokens` finds within the budget.

    It ends with a sentence where that keeps at least half of what a cut at a word would, else with a word.
    Empty where not even the first word fits.
    """
    text = clean_text(text)

    def fits(end: int) -> bool:
        return end <= token_budget * LONGEST_TOKEN and count_tokens(text[:end]) <= token_budget

    def last_fitting(boundary: re.Pattern) -> int:
        ends = [match.end() for match in boundary.finditer(text, 0, token_budget * LONGEST_TOKEN)]
        position = bisect_right(ends, False, key=lambda end: not fits(end))
        return ends[position - 1] if position else 0

    if fits(len(text)):
        return text
    sentence, word = last_fitting(SENTENCE_END), last_fitting(WORD_END)
    return text[: sentence if sentence * 2 >= word else word]


def escape_prompt(text: str) -> str:
    r"""Text that ComfyUI's CLIP tokenizer reads as the plain CLIP tokens of `text`, every weight 1.

    ComfyUI unescapes `\(` and `\)` only, so other backslashes and braces stay as they are, and "embedding :"
    has the tokens of "embedding:" without asking for an embedding file.
    """
    return text.replace("(", r"\(").replace(")", r"\)").replace("embedding:", "embedding :")
