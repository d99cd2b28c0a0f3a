"""What becomes of an item in a pool: embeddings, tags, and a checksum of what they were made from."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import xxhash
from PIL import Image

from . import pool_files
from .fingerprint import PROBE_TEXT, probe_image
from .items import Item
from .pictures import open_picture, resolve_inside
from .pool_draft import Probes
from .scenarios import Scenario
from .tagging import ItemTags, Tagger
from .vector_file import normalised


class Encoders(Protocol):
    """The two encoders F_text and F_img (D1, D2)."""

    crop: str  # "center_crop", "pad" or "squash" (D16)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Pooled text keys, float32 (n, text_width)."""
        ...

    def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Image embeddings, float32 (n, image_width)."""
        ...

    def fit_text(self, text: str) -> str:
        """The text cut to the encoder's one window."""
        ...


@dataclass(frozen=True)
class LoadedItem:
    """An item with its picture decoded; `content` is the checksum of both."""

    item: Item
    image: Image.Image
    content: str


@dataclass(frozen=True)
class RowMaker:
    """Turns items into rows: embeddings and tags."""

    folder: Path
    encoders: Encoders
    tagger: Tagger
    scenario: Scenario

    def probes(self) -> Probes:
        text, image = self.encoders.encode_texts([PROBE_TEXT]), self.encoders.encode_images([probe_image()])
        return Probes(text[0], image[0])

    def manifest(self, skipped: list[tuple[str, str]]) -> dict[str, object]:
        names = {"tagger": self.tagger.name, "scenario": self.scenario.name}
        return {"crop": self.encoders.crop, **names, "skipped": skipped}

    def parameters(self) -> dict[str, object]:
        """All that rows depend on, besides the items and the encoders' weights; as JSON gives it back."""
        parameters = {
            "crop": self.encoders.crop,
            "tagger": [self.tagger.name, dict(self.tagger.parameters)],
            "scenario": asdict(self.scenario),
        }
        return json.loads(json.dumps(parameters))

    def content(self, item: Item) -> str:
        """Checksum of the item's texts and of its picture's bytes."""
        picture = pool_files.checksum(resolve_inside(self.folder, item.picture))
        fields = [item.title, item.text, item.tags, item.picture, picture]
        return xxhash.xxh3_64_hexdigest(json.dumps(fields).encode())

    def load(self, item: Item, content: str) -> LoadedItem:
        return LoadedItem(item, open_picture(resolve_inside(self.folder, item.picture)), content)

    def embed(self, batch: Sequence[LoadedItem]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Text and image embeddings of length 1, float16, and how long the image embeddings were, (n,).

        NaN where an encoder overflowed.
        """
        texts = [self.encoders.fit_text(loaded.item.description) for loaded in batch]
        images = [loaded.image for loaded in batch]
        text, image = self.encoders.encode_texts(texts), self.encoders.encode_images(images)
        return normalised(text), normalised(image), np.linalg.norm(image.astype(np.float64), axis=1)

    def tags(self, batch: Sequence[LoadedItem]) -> list[ItemTags]:
        """The tagger's tags. An item's own tags are all kept, first among those of its text, and the tagger's
        fill up what the scenario's limit leaves."""
        texts = [loaded.item.description or None for loaded in batch]
        found = self.tagger.tag([loaded.image for loaded in batch], texts, self.scenario)
        return [
            ItemTags(tags.image, self._text_tags(loaded.item.tags, tags.text))
            for loaded, tags in zip(batch, found, strict=True)
        ]

    def _text_tags(self, own: tuple[str, ...], found: tuple[str, ...]) -> tuple[str, ...]:
        merged = tuple(dict.fromkeys((*own, *found)))
        return merged[: max(len(own), self.scenario.tag_limit - 1)]
