"""Several taggers as one: each sees every item, and their tags are joined by modality."""

from collections.abc import Sequence

from PIL import Image

from ..scenarios import Scenario
from . import IncompleteTags, ItemTags, Tagger


class CombinedTagger:
    def __init__(self, taggers: Sequence[Tagger]):
        self.taggers = tuple(taggers)
        self.name = " + ".join(tagger.name for tagger in self.taggers)
        self.parameters = {tagger.name: dict(tagger.parameters) for tagger in self.taggers}

    def tag(
        self, images: Sequence[Image.Image | None], texts: Sequence[str | None], scenario: Scenario
    ) -> list[ItemTags]:
        """IncompleteTags, with the items that every tagger finished, when one fails midway."""
        answers, failed = [], None
        for tagger in self.taggers:
            try:
                answers.append(dict(enumerate(tagger.tag(images, texts, scenario))))
            except IncompleteTags as error:
                answers.append(error.tags)
                failed = error
        finished = [row for row in range(len(images)) if all(row in answer for answer in answers)]
        joined = {row: _joined([answer[row] for answer in answers]) for row in finished}
        if failed:
            raise IncompleteTags(joined, failed.cause) from failed.cause
        return list(joined.values())


def _joined(tags: Sequence[ItemTags]) -> ItemTags:
    return ItemTags(
        image=tuple(tag for item in tags for tag in item.image), text=tuple(tag for item in tags for tag in item.text)
    )
