"""Several taggers as one: each sees every item, and their tags are joined by modality."""

from collections.abc import Sequence

from PIL import Image

from ..scenarios import Scenario
from . import ItemTags, Tagger


class CombinedTagger:
    def __init__(self, taggers: Sequence[Tagger]):
        self.taggers = tuple(taggers)
        self.name = " + ".join(tagger.name for tagger in self.taggers)
        self.parameters = {tagger.name: dict(tagger.parameters) for tagger in self.taggers}

    def tag(
        self, images: Sequence[Image.Image | None], texts: Sequence[str | None], scenario: Scenario
    ) -> list[ItemTags]:
        answers = [tagger.tag(images, texts, scenario) for tagger in self.taggers]
        return [
            ItemTags(
                image=tuple(tag for tags in item for tag in tags.image),
                text=tuple(tag for tags in item for tag in tags.text),
            )
            for item in zip(*answers, strict=True)
        ]
