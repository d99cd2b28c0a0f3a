"""What a metric is: its definition, as results say it, and how it is asked for values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import xxhash

from iamg_train.evaluation.methods import Shot


@dataclass(frozen=True)
class Definition:
    """What is computed, which way is better, and the weights that compute it."""

    name: str
    definition: str
    direction: Literal["higher", "lower", ""]  # "": neither is better in itself
    weights: str | None = None  # file and hash
    unit: str = ""
    chance: float | None = None  # what pictures that know nothing of the history have; None: unknown, or no such metric


class PictureMetric(Protocol):
    """One value a picture."""

    definition: Definition

    def key(self, shot: Shot) -> str | None:
        """Hash of all that the value depends on; None where the metric says nothing of the picture."""
        ...

    def values(self, shots: Sequence[Shot]) -> Sequence[float]:
        """Of pictures that have a key; as many as there are shots."""
        ...


class ItemMetric(Protocol):
    """One value an item of all that a method drew of it."""

    definition: Definition

    def key(self, shots: Sequence[Shot]) -> str | None: ...

    def value(self, shots: Sequence[Shot]) -> float: ...


def hash_of(*parts: object) -> str:
    """32 hex digits."""
    return xxhash.xxh3_128_hexdigest(repr(parts).encode("utf-8", "surrogatepass"))
