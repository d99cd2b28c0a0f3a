"""Cosines of a picture's embedding with those of the item's text, its picture, and the user's history."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from iamg_train.evaluation.catalogue import Histories
from iamg_train.evaluation.embeddings import ClipEmbeddings, Embeddings
from iamg_train.evaluation.methods import Shot
from iamg_train.evaluation.metrics import Definition, hash_of
from iamg_train.evaluation.pictures import Pictures


class ClipScore:
    """CLIP score against the item's own text T_i, not against the rewritten T*."""

    def __init__(self, clip: ClipEmbeddings, pictures: Pictures, texts: Mapping[str, str], times_100: bool):
        """texts: by item."""
        name = "CLIP score"
        what = "the cosine of the picture with the objective's own text (title and description, cut to the window)"
        if times_100:
            name, what = f"{name} x100", f"Hessel et al. 2021, as torchmetrics scales it: 100 times {what}, not below 0"
        self.definition = Definition(name, f"{what}, by {clip.encoder.name}", "higher", weights_of(clip))
        self._clip, self._pictures, self._texts, self._times_100 = clip, pictures, texts, times_100

    def key(self, shot: Shot) -> str | None:
        if shot.objective not in self._texts:
            return None
        return hash_of(self.definition, self._pictures.hash(shot.file), self._texts[shot.objective])

    def values(self, shots: Sequence[Shot]) -> np.ndarray:
        pictures = self._clip.of_pictures([shot.file for shot in shots])
        cosines = (pictures * self._clip.of_texts([self._texts[shot.objective] for shot in shots])).sum(axis=1)
        return np.maximum(100 * cosines, 0) if self._times_100 else cosines


class OriginalSimilarity:
    """How much a picture is like the objective's own, to an encoder."""

    def __init__(self, name: str, embeddings: Embeddings, pictures: Pictures, originals: Mapping[str, Path]):
        """originals: by item."""
        what = f"the cosine of the picture with the objective's own, by {embeddings.encoder.name}"
        self.definition = Definition(f"{name}, original", what, "higher", weights_of(embeddings))
        self._embeddings, self._pictures, self._originals = embeddings, pictures, originals

    def key(self, shot: Shot) -> str | None:
        original = self._pictures.hash(self._originals[shot.objective])
        return hash_of(self.definition, self._pictures.hash(shot.file), original)

    def values(self, shots: Sequence[Shot]) -> np.ndarray:
        pictures = self._embeddings.of_pictures([shot.file for shot in shots])
        return (pictures * self._embeddings.of_pictures([self._originals[x.objective] for x in shots])).sum(axis=1)


class HistorySimilarity:
    """How much a picture is like those of the user's history, to an encoder."""

    def __init__(
        self, name: str, embeddings: Embeddings, pictures: Pictures, originals: Mapping[str, Path], histories: Histories
    ):
        """originals: by item."""
        what = f"the mean cosine of the picture with those of the user's history, by {embeddings.encoder.name}"
        self.definition = Definition(f"{name}, history", what, "higher", weights_of(embeddings))
        self._embeddings, self._pictures = embeddings, pictures
        self._originals, self._histories = originals, histories

    def key(self, shot: Shot) -> str | None:
        if shot.pair not in self._histories:
            return None
        history = [self._pictures.hash(self._originals[item]) for item in self._histories[shot.pair]]
        return hash_of(self.definition, self._pictures.hash(shot.file), history)

    def values(self, shots: Sequence[Shot]) -> np.ndarray:
        pictures = self._embeddings.of_pictures([shot.file for shot in shots])
        means = mean_pictures(self._embeddings, self._originals, [self._histories[shot.pair] for shot in shots])
        return (pictures * means).sum(axis=1)


def mean_pictures(
    embeddings: Embeddings, originals: Mapping[str, Path], histories: Sequence[Sequence[str]]
) -> np.ndarray:
    """(histories, width): a cosine with a row is the mean of those with the pictures of a history's items."""
    items = list(dict.fromkeys(item for history in histories for item in history))
    rows = dict(zip(items, embeddings.of_pictures([originals[item] for item in items]), strict=True))
    return np.stack([np.mean([rows[item] for item in history], axis=0) for history in histories])


def weights_of(embeddings: Embeddings) -> str:
    return f"{embeddings.encoder.name} {embeddings.encoder.fingerprint}"
