"""Embeddings of pictures and texts, computed once and kept on disk."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from iamg.fingerprint import probe_image
from iamg_train.evaluation.encoders import Clip, ImageEncoder
from iamg_train.evaluation.metrics import hash_of
from iamg_train.evaluation.pictures import Pictures
from iamg_train.row_cache import RowCache

TOGETHER = 32  # pictures or texts embedded at once


class Embeddings:
    """Rows of an encoder by the content of what they are of; in memory are those that are asked for."""

    def __init__(self, folder: Path, encoder: ImageEncoder, pictures: Pictures):
        self.encoder, self._folder, self._pictures = encoder, folder, pictures
        self._cache: RowCache | None = None

    def of_pictures(self, paths: Sequence[Path]) -> np.ndarray:
        """(n, width)."""
        keys = {path: hash_of("picture", self._pictures.hash(path)) for path in paths}

        def embed(missing: Sequence[Path]) -> torch.Tensor:
            return self.encoder.embed_images([self._pictures.open(path) for path in missing])

        return self._rows(paths, keys, embed)

    def _rows(self, wanted: Sequence, keys: dict, embed: Callable[[Sequence], torch.Tensor]) -> np.ndarray:
        cache = self._open()
        missing = list({keys[x]: x for x in wanted if keys[x] not in cache}.values())
        for start in range(0, len(missing), TOGETHER):
            batch = missing[start : start + TOGETHER]
            cache.append([keys[x] for x in batch], embed(batch))
        return torch.stack([cache[keys[x]] for x in wanted]).numpy()

    def _open(self) -> RowCache:
        """The encoder is loaded for its width."""
        if self._cache is None:
            width = self.encoder.embed_images([probe_image()]).shape[1]
            folder = self._folder / hash_of(self.encoder.fingerprint)
            self._cache = RowCache.open(folder, (width,), self.encoder.dtype)
        return self._cache


class ClipEmbeddings(Embeddings):
    """Of texts too."""

    def __init__(self, folder: Path, encoder: Clip, pictures: Pictures):
        super().__init__(folder, encoder, pictures)
        self._embed_texts = encoder.embed_texts

    def of_texts(self, texts: Sequence[str]) -> np.ndarray:
        """(n, width)."""
        return self._rows(texts, {text: hash_of("text", text) for text in texts}, self._embed_texts)
