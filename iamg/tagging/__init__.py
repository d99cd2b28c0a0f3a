"""Eq 2 and Eq 3: tags of an item's picture and of its text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL import Image

    from ..scenarios import Scenario
    from .clip import ClipModel

TAGGERS = ("visual + keywords", "visual", "keywords", "clip + keywords", "clip")
MINI_CLIP = "iamg_mini"  # the CLIP model that the pack carries


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


def make_tagger(name: str, clip_model: str | Path | None = None) -> Tagger:
    """The tagger of that name, one of TAGGERS; the clip taggers look with MINI_CLIP or an open_clip model's folder."""
    from .clip import ClipTagger
    from .combined import CombinedTagger
    from .keywords import KeywordTagger
    from .visual import VisualTagger

    taggers = {
        "visual": VisualTagger,
        "keywords": KeywordTagger,
        "clip": lambda: ClipTagger(_clip_model(clip_model)),
    }
    if name not in TAGGERS:
        raise ValueError(f"there is no tagger {name!r}; choose one of {', '.join(map(repr, TAGGERS))}")
    made = [taggers[part]() for part in name.split(" + ")]
    return made[0] if len(made) == 1 else CombinedTagger(made)


def _clip_model(chosen: str | Path | None) -> "ClipModel":
    if not chosen:
        raise ValueError(
            f"the clip tagger needs a CLIP model; give it the folder of an open_clip model, or {MINI_CLIP!r}, which "
            "knows the mini posters only"
        )
    if chosen == MINI_CLIP:
        from .mini_clip import mini_clip

        return mini_clip()
    from .open_clip_files import open_clip_folder

    return open_clip_folder(Path(chosen))
