"""Interest Rewrite: an item's tags (Eq 4), a user's interests (Eq 5), and the rewritten text T* (section 4.1)."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .prompt_text import LONGEST_TOKEN, TOKEN_BUDGET, clean_text, escape_prompt, fit_text
from .scenarios import Scenario
from .tag_text import merge_key, split_tags
from .tagging import ItemTags


@dataclass(frozen=True)
class Rewrite:
    """T* and what became of everything that could have stood in it."""

    text: str  # T* as CLIP reads it
    prompt: str  # T* as ComfyUI's prompt syntax writes it
    tokens: int  # of T*, without CLIP's start and end tokens
    text_kept: str
    text_cut: str
    item_tags: tuple[str, ...]
    item_tags_cut: tuple[str, ...]
    interest_tags: tuple[str, ...]
    interest_tags_cut: tuple[str, ...]
    merged: tuple[tuple[str, str], ...]  # (as written, as shown)

    def report(self) -> str:
        """What was kept, cut and merged, a line each."""
        lines = [
            ("rewritten text", self.text),
            ("tokens", str(self.tokens)),
            ("text kept", self.text_kept),
            ("text cut", self.text_cut),
            ("item tags", ", ".join(self.item_tags)),
            ("item tags cut", ", ".join(self.item_tags_cut)),
            ("interest tags", ", ".join(self.interest_tags)),
            ("interest tags cut", ", ".join(self.interest_tags_cut)),
            ("merged", ", ".join(f"{written} = {shown}" for written, shown in self.merged)),
        ]
        return "\n".join(f"{name}: {value or '-'}" for name, value in lines)


def item_tags(tags: ItemTags) -> tuple[str, ...]:
    """Eq 4: the union of the image's tags and the text's, in that order, variants of a tag once."""
    shown = _shown_forms([tags])
    return tuple(shown[key] for key in dict.fromkeys(map(merge_key, _spellings(tags))))


def interest_tags(history: Sequence[ItemTags], limit: int) -> tuple[str, ...]:
    """Eq 5: the `limit` most frequent tags of the user's last k items, newest first; an item counts a tag once.

    Ties (D14): the smaller sum of recency ranks, then tags found in both modalities, then the alphabet.
    """
    ages: dict[str, list[int]] = {}  # of the items that have the tag, the newest 0
    in_image, in_text = set(), set()
    for age, tags in enumerate(history):
        image, text = _keys(tags.image), _keys(tags.text)
        in_image |= image
        in_text |= text
        for key in image | text:
            ages.setdefault(key, []).append(age)
    shown = _shown_forms(history)
    both = in_image & in_text
    ranked = sorted(ages, key=lambda key: (-len(ages[key]), sum(ages[key]), key not in both, shown[key]))
    return tuple(shown[key] for key in ranked[:limit])


def rewrite(
    text: str,
    tags: ItemTags,
    history: Sequence[ItemTags],
    scenario: Scenario,
    count_tokens: Callable[[str], int],
    max_interest_tags: int = 8,
    token_budget: int = TOKEN_BUDGET,
) -> Rewrite:
    """T* = T_i + "This φ is about {tags_i}, maybe related to {tags_U,i}.", within the budget (section 4.1, D12).

    Room goes to the interest tags first, then to item tags by rank, then to T_i, cut as `fit_text` cuts.
    Interest tags are cut, from the least frequent, only where they alone exceed the budget. Where a set of
    tags is empty its half of the sentence is left out. `count_tokens` counts CLIP's tokens of a text without
    the start and end tokens.
    """
    text = clean_text(text)

    def fits(about: Sequence[str], related: Sequence[str]) -> bool:
        sentence = _sentence(scenario.phi, about, related)
        return len(sentence) <= token_budget * LONGEST_TOKEN and count_tokens(sentence) <= token_budget

    wanted_interests = interest_tags(history, max_interest_tags)
    interests = [tag for tag in wanted_interests if fits((), (tag,))]
    while not fits((), interests):
        interests.pop()

    wanted_tags = item_tags(tags)
    about: list[str] = []
    for tag in wanted_tags:
        if fits((*about, tag), interests):
            about.append(tag)

    sentence = _sentence(scenario.phi, about, interests)
    kept = fit_text(text, lambda start: count_tokens(_join(start, sentence)), token_budget)
    rewritten = _join(kept, sentence)
    return Rewrite(
        text=rewritten,
        prompt=escape_prompt(rewritten),
        tokens=count_tokens(rewritten),
        text_kept=kept,
        text_cut=text[len(kept) :].strip(),
        item_tags=tuple(about),
        item_tags_cut=tuple(tag for tag in wanted_tags if tag not in about),
        interest_tags=tuple(interests),
        interest_tags_cut=tuple(tag for tag in wanted_interests if tag not in interests),
        merged=tuple(dict.fromkeys((*_merged([tags], wanted_tags), *_merged(history, wanted_interests)))),
    )


def _sentence(phi: str, about: Sequence[str], related: Sequence[str]) -> str:
    clauses = [f"about {', '.join(about)}"] if about else []
    if related:
        clauses.append(f"maybe related to {', '.join(related)}")
    return f"This {phi} is {', '.join(clauses)}." if clauses else ""


def _join(text: str, sentence: str) -> str:
    return f"{text} {sentence}".strip()


def _spellings(tags: ItemTags) -> list[str]:
    return [spelling for tag in (*tags.image, *tags.text) for spelling in split_tags(tag)]


def _keys(tags: Iterable[str]) -> set[str]:
    return {merge_key(spelling) for tag in tags for spelling in split_tags(tag)}


def _shown_forms(items: Iterable[ItemTags]) -> dict[str, str]:
    """For each merged tag its most frequent spelling, an item counting a spelling once; ties by the alphabet."""
    counts = Counter(spelling for tags in items for spelling in set(_spellings(tags)))
    shown: dict[str, str] = {}
    for spelling in sorted(counts, key=lambda spelling: (-counts[spelling], spelling)):
        shown.setdefault(merge_key(spelling), spelling)
    return shown


def _merged(items: Sequence[ItemTags], wanted: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The spellings that stand under another one among the wanted tags."""
    shown = _shown_forms(items)
    spellings = dict.fromkeys(spelling for tags in items for spelling in _spellings(tags))
    pairs = ((spelling, shown[merge_key(spelling)]) for spelling in spellings)
    return tuple(pair for pair in pairs if pair[0] != pair[1] and pair[1] in wanted)
