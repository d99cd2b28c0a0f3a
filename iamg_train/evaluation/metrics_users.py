"""Whether a picture suits the user it was drawn for more than it suits others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from iamg_train.evaluation.embeddings import Embeddings
from iamg_train.evaluation.methods import Shot
from iamg_train.evaluation.metrics import Definition, hash_of
from iamg_train.evaluation.pictures import Pictures
from iamg_train.evaluation.user_galleries import UserGalleries

History = tuple[str, ...]


@dataclass(frozen=True)
class Profiles:
    """What a picture's embedding is compared with, of a user."""

    definition: Definition  # of the cosine
    embeddings: Embeddings
    rows: Callable[[Sequence[History]], np.ndarray]  # (n, width)
    content: Callable[[History], object]  # all that a row is made of; falsy where there is nothing


class _Gallery:
    """Cosines of a picture with the profiles of its gallery of users, the first of which is taken for its own."""

    definition: Definition

    def __init__(self, profiles: Profiles, galleries: UserGalleries, pictures: Pictures):
        self._profiles, self._galleries, self._pictures = profiles, galleries, pictures

    def key(self, shot: Shot) -> str | None:
        if shot.pair not in self._galleries:
            return None
        contents = [self._profiles.content(history) for history in self._galleries.of(shot.pair)]
        return hash_of(self.definition, self._pictures.hash(shot.file), contents) if all(contents) else None

    def values(self, shots: Sequence[Shot]) -> list[float]:
        pictures = self._profiles.embeddings.of_pictures([shot.file for shot in shots])
        histories = [history for shot in shots for history in self._galleries.of(shot.pair)]
        profiles = self._profiles.rows(histories).reshape(len(shots), self._galleries.size, -1)
        return [self._value(gallery @ picture) for gallery, picture in zip(profiles, pictures, strict=True)]

    def _value(self, cosines: np.ndarray) -> float:
        raise NotImplementedError


class OwnMinusOthers(_Gallery):
    """The cosine with the user's own profile minus the mean of those with the others'."""

    def __init__(self, profiles: Profiles, galleries: UserGalleries, pictures: Pictures):
        super().__init__(profiles, galleries, pictures)
        cosine, others = profiles.definition, galleries.size - 1
        what = f"{cosine.definition}, minus the mean of the same for {others} other users who have not met the item"
        self.definition = replace(cosine, name=f"{cosine.name} minus others'", definition=what, chance=0.0)

    def _value(self, cosines: np.ndarray) -> float:
        return float(cosines[0] - cosines[1:].mean())


class WhichUser(_Gallery):
    """Which user is this for? Whether the user's own profile is the nearest of the gallery."""

    def __init__(self, profiles: Profiles, galleries: UserGalleries, pictures: Pictures):
        super().__init__(profiles, galleries, pictures)
        cosine, size = profiles.definition, galleries.size
        what = (
            f"1 where, of {size} users who have not met the item, the user is the one with the highest: "
            f"{cosine.definition}; n that tie share it"
        )
        self.definition = replace(cosine, name=f"which user, {cosine.name}", definition=what, chance=1 / size)

    def _value(self, cosines: np.ndarray) -> float:
        best = cosines == cosines.max()
        return float(best[0] / best.sum())
