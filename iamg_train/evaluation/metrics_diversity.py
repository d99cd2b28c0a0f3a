"""How much the pictures of one item differ between the users they were drawn for."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from iamg_train.evaluation.embeddings import Embeddings
from iamg_train.evaluation.methods import Shot
from iamg_train.evaluation.metrics import Definition, hash_of
from iamg_train.evaluation.metrics_embeddings import weights_of
from iamg_train.evaluation.pictures import Pictures


class Diversity:
    """One value an item that was drawn for two users or more."""

    def __init__(self, name: str, embeddings: Embeddings, pictures: Pictures):
        what = (
            f"for each item, the mean of 1 - cosine, by {embeddings.encoder.name}, over pairs of its pictures that are of "
            "two users and have the same number (so where seeds are counted from one number, the same noise)"
        )
        self.definition = Definition(f"diversity, {name}", what, "higher", weights_of(embeddings))
        self._embeddings, self._pictures = embeddings, pictures

    def key(self, shots: Sequence[Shot]) -> str | None:
        hashes = [[self._pictures.hash(shot.file) for shot in group] for group in _same_number(shots)]
        return hash_of(self.definition, hashes) if hashes else None

    def value(self, shots: Sequence[Shot]) -> float:
        distances, pairs = 0.0, 0
        for group in _same_number(shots):
            rows = self._embeddings.of_pictures([shot.file for shot in group])
            of_group = len(rows) * (len(rows) - 1) / 2
            # Of rows of length 1, |sum|^2 is their number and twice the sum of the pairs' cosines.
            distances += of_group - float((rows.sum(axis=0) ** 2).sum() - (rows**2).sum()) / 2
            pairs += of_group
        return distances / pairs


def _same_number(shots: Sequence[Shot]) -> Iterator[list[Shot]]:
    """Pictures of several users and one number."""
    ordered = sorted(shots, key=lambda shot: (shot.number, shot.user_id))
    groups = (list(group) for _, group in groupby(ordered, key=lambda shot: shot.number))
    return (group for group in groups if len(group) > 1)
