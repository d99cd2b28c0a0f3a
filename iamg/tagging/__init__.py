"""Eq 2 and Eq 3: tags of an item's picture and of its text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL import Image

    from ..scenarios import Scenario

TAGGERS = ("visual + keywords", "visual", "keywords")


@dataclass(frozen=True)
class ItemTags:
    """One item's tags with their modality: `image` is tags^I (Eq 2), `text` is tags^T (Eq 3)."""

    image: tuple[str, ...] = ()
    text: tuple[str, ...] = ()


class Tagger(Protocol):
    """Reads tags from items' pictures, texts, or both."""

    name: str
    parameters: Mapping[str, object]  # JSON-able; other parameters, other tags

    def tag(
        self,
        images: Sequence["Image.Image | None"],
        texts: Sequence[str | None],
        scenario: "Scenario",
    ) -> list[ItemTags]:
        """One ItemTags an item, in order; images and texts are equally long, None where an item has none.

        Each modality gives fewer than `scenario.tag_limit` tags.
        """
        ...


def make_tagger(name: str) -> Tagger:
    """The tagger of that name; one of TAGGERS."""
    from .combined import CombinedTagger
    from .keywords import KeywordTagger
    from .visual import VisualTagger

    taggers = {
        "visual + keywords": lambda: CombinedTagger((VisualTagger(), KeywordTagger())),
        "visual": VisualTagger,
        "keywords": KeywordTagger,
    }
    if name not in taggers:
        raise ValueError(f"there is no tagger {name!r}; choose one of {', '.join(map(repr, TAGGERS))}")
    return taggers[name]()
