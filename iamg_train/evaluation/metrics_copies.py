"""How often a picture is hardly more than a copy of one that the method was given."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from iamg.pictures import resolve_inside
from iamg_train.evaluation.embeddings import Embeddings
from iamg_train.evaluation.encoders import GREY_SIDE
from iamg_train.evaluation.methods import Method, Shot
from iamg_train.evaluation.metrics import Definition, hash_of
from iamg_train.evaluation.pictures import Pictures
from iamg_train.gallery import MANIFEST
from iamg_train.jsonl_log import read_log

NEAR_DUPLICATE = 0.95
"""SSIM of small grey copies. Of 150 film posters, 150 photos of clothes and 150 drawn posters no pair of two reached it
(the likest had 0.948); each of them scaled to half, or compressed as JPEG of quality 30, had at least 0.98 with itself."""

Given = Callable[[Shot], Sequence[Path]]
"""The pictures that one may be a copy of."""


class Copies:
    """1 for a near-duplicate of any of the given pictures, else 0."""

    def __init__(self, of: str, given: Given, grey: Embeddings, pictures: Pictures):
        what = (
            f"1 where the picture is a near-duplicate of the {of}: SSIM (Gaussian windows, sigma 1.5) of the middle squares "
            f"in grey, {GREY_SIDE} x {GREY_SIDE} pixels, of {NEAR_DUPLICATE} or more"
        )
        self.definition = Definition(f"copies, {of}", what, "lower")
        self._given, self._grey, self._pictures = given, grey, pictures

    def key(self, shot: Shot) -> str | None:
        given = [self._pictures.hash(path) for path in self._given(shot)]
        return hash_of(self.definition, self._pictures.hash(shot.file), given) if given else None

    def values(self, shots: Sequence[Shot]) -> list[float]:
        paths = list(dict.fromkeys(path for shot in shots for path in (shot.file, *self._given(shot))))
        rows = torch.tensor(self._grey.of_pictures(paths)).view(-1, 1, GREY_SIDE, GREY_SIDE) / 255
        squares = dict(zip(paths, rows, strict=True))
        found = []
        for shot in shots:
            given = torch.stack([squares[path] for path in self._given(shot)])  # (n, 1, side, side)
            drawn = squares[shot.file].expand_as(given)
            likeness = structural_similarity_index_measure(drawn, given, sigma=1.5, data_range=1.0, reduction="none")
            found.append(float(likeness.max() >= NEAR_DUPLICATE))
        return found


def retrieved_pictures(methods: Iterable[Method], pictures: Mapping[str, Path]) -> dict[Path, list[Path]]:
    """By a shot's file: the pictures of the items that were retrieved for it, where the manifest names them."""
    found = {}
    for method in methods:
        for row in read_log(method.folder / MANIFEST):
            ids = row.get("retrieved_pictures")
            if isinstance(ids, list) and isinstance(row.get("file"), str):
                known = [pictures[item] for item in map(str, ids) if item in pictures]
                found[resolve_inside(method.folder, row["file"])] = known
    return found
