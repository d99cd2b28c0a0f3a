"""Tags of a picture by CLIP, which compares it with every tag of the scenario's vocabulary: zero-shot classification.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (2021), section 3.1.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from PIL import Image

from ..scenarios import Scenario
from . import ItemTags

if TYPE_CHECKING:
    from torch import Tensor

LIKELY = 0.5  # of a group's probability: the tag that has it is likelier than all others of its group together
SAME_TEXT = 1 - 1e-6  # cosine of two tags' embeddings: the model reads them alike
BATCH = 32  # pictures embedded together


class ClipModel(Protocol):
    """A text tower and an image tower whose embeddings share a space."""

    fingerprint: str  # other weights, other fingerprint

    @property
    def logit_scale(self) -> float:
        """What a cosine is multiplied by before the softmax."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> "Tensor":
        """(n, width) of length 1."""
        ...

    def embed_images(self, images: Sequence[Image.Image]) -> "Tensor":
        """(n, width) of length 1."""
        ...


class ClipTagger:
    """tags^I (Eq 2): of each group of the vocabulary the tag that is likely, if one is; texts are not read."""

    name = "clip"

    def __init__(self, model: ClipModel):
        self.model = model
        self.parameters = {"version": 1, "model": model.fingerprint}
        self._embedded: dict[tuple[str, ...], Tensor] = {}  # by the prompts of a group

    def tag(
        self, images: Sequence[Image.Image | None], texts: Sequence[str | None], scenario: Scenario
    ) -> list[ItemTags]:
        """ValueError where the scenario has no vocabulary, or the model cannot tell two of its tags apart."""
        if not scenario.vocabulary:
            raise ValueError(
                f"scenario {scenario.name!r} has no vocabulary for the clip tagger to choose from; add a table "
                f'["{scenario.name}".vocabulary] to its TOML file, or choose another tagger'
            )
        found = self._tags([image for image in images if image is not None], scenario)
        return [
            ItemTags(image=next(found)[: scenario.tag_limit - 1] if image is not None else ())
            for image, _ in zip(images, texts, strict=True)
        ]

    def _tags(self, pictures: Sequence[Image.Image], scenario: Scenario) -> Iterator[tuple[str, ...]]:
        """Each picture's likely tags, in the order of the groups."""
        for start in range(0, len(pictures), BATCH):
            embeds = self.model.embed_images(pictures[start : start + BATCH])
            likely = [self._likely(embeds, tags, scenario) for tags in scenario.vocabulary.values()]
            yield from (tuple(filter(None, of_picture)) for of_picture in zip(*likely, strict=True))

    def _likely(self, pictures: "Tensor", tags: Sequence[str], scenario: Scenario) -> list[str]:
        """The likely one of a group's tags for each picture (n, width), empty where none is."""
        logits = self.model.logit_scale * pictures @ self._texts(tags, scenario).T  # (n, tags)
        chances, places = (x.tolist() for x in logits.softmax(dim=1).max(dim=1))
        return [tags[place] if chance >= LIKELY else "" for chance, place in zip(chances, places, strict=True)]

    def _texts(self, tags: Sequence[str], scenario: Scenario) -> "Tensor":
        """The embeddings (tags, width) of a group, made once."""
        prompts = tuple(scenario.tag_prompt.format(tag=tag, phi=scenario.phi) for tag in tags)
        if prompts not in self._embedded:
            embeds = self.model.embed_texts(prompts)
            for row, cosines in enumerate((embeds @ embeds.T).tolist()):
                for other in range(row):
                    if not cosines[other] < SAME_TEXT:
                        raise ValueError(
                            f"the CLIP model does not know the words of scenario {scenario.name!r}: it reads "
                            f"{tags[other]!r} and {tags[row]!r} alike; choose another CLIP model"
                        )
            self._embedded[prompts] = embeds
        return self._embedded[prompts]
