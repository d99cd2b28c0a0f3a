"""Tags that are not wanted, and tags that alone are: what a tagger says, filtered."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image

from ..scenarios import Scenario
from ..tag_text import merge_key, normalize_tag
from . import ItemTags, Tagger


@dataclass(frozen=True)
class TagFilter:
    """Which tags stay, whatever their spelling, plural or hyphen: all but `exclude`; with `only`, no others."""

    exclude: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    def keep(self, tags: ItemTags) -> ItemTags:
        exclude, only = _keys(self.exclude), _keys(self.only)

        def kept(spellings: Sequence[str]) -> tuple[str, ...]:
            keys = [(tag, merge_key(normalize_tag(tag))) for tag in spellings]
            return tuple(tag for tag, key in keys if key not in exclude and (not only or key in only))

        return ItemTags(image=kept(tags.image), text=kept(tags.text))


class FilteredTagger:
    """A tagger whose tags pass a filter. It stands around a cache, which keeps what the tagger itself said."""

    def __init__(self, tagger: Tagger, tag_filter: TagFilter):
        self.tagger = tagger
        self.tag_filter = tag_filter
        self.name = tagger.name
        self.parameters = {
            **tagger.parameters,
            "exclude": sorted(_keys(tag_filter.exclude)),
            "only": sorted(_keys(tag_filter.only)),
        }

    def tag(
        self, images: Sequence[Image.Image | None], texts: Sequence[str | None], scenario: Scenario
    ) -> list[ItemTags]:
        return [self.tag_filter.keep(tags) for tags in self.tagger.tag(images, texts, scenario)]


def _keys(tags: Iterable[str]) -> set[str]:
    return {merge_key(normalize_tag(tag)) for tag in tags}
