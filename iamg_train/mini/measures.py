"""What is measured on pictures, one number a user: how much of what they love is shown, and how much of the item is left."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from skimage.metrics import structural_similarity

from iamg_train.mini.attribute_reader import AttributeReader
from iamg_train.mini.posters import HELD_OUT, Poster
from iamg_train.mini.world import LOVABLE, Taste

FIDELITY, OWN, OTHER = "interest fidelity", "own history", "other history"
SUBJECT, COLOUR, SSIM = "subject kept", "colour kept", "SSIM"
MEASURES = (FIDELITY, OWN, OTHER, SUBJECT, COLOUR, SSIM)
NEW, KNOWN = "never trained together", "trained together"  # an objective's subject and colour

Values = dict[str, np.ndarray]
"""By the measure's name: (users,) averages over a user's seeds; NaN where it says nothing of a user."""


@dataclass(frozen=True)
class Truth:
    """What is true of a case, and hidden from the method."""

    taste: Taste
    objective: Poster
    original: np.ndarray  # the objective's picture, (64, 64, 3) uint8


def measure(reader: AttributeReader, truths: Sequence[Truth], own: np.ndarray, other: np.ndarray) -> Values:
    """Of pictures (users, seeds, 64, 64, 3) uint8, drawn with the user's own history and with another's, of one noise."""
    seen_own, seen_other = (_Seen(reader, pictures) for pictures in (own, other))
    shown, shown_other = (_loved(seen, truths) for seen in (seen_own, seen_other))
    objectives = [x.objective for x in truths]
    values = {
        OWN: np.nanmean(shown, axis=1),
        OTHER: np.nanmean(shown_other, axis=1),
        SUBJECT: np.array([seen_own.share(user, "subject", x.subject) for user, x in enumerate(objectives)]),
        COLOUR: np.array([seen_own.share(user, "colour", x.colour) for user, x in enumerate(objectives)]),
        SSIM: np.array([_similarity(pictures, x.original) for pictures, x in zip(own, truths, strict=True)]),
    }
    values[FIDELITY] = values[OWN] - values[OTHER]
    values |= {of_loved(name): (shown - shown_other)[:, place] for place, name in enumerate(LOVABLE)}
    new = np.array([(x.subject, x.colour) in HELD_OUT for x in objectives])
    for name in MEASURES:
        values[of_objectives(name, NEW)] = np.where(new, values[name], np.nan)
        values[of_objectives(name, KNOWN)] = np.where(new, np.nan, values[name])
    return values


def of_loved(attribute: str) -> str:
    """The name of the interest fidelity in one attribute, of users who love a value of it."""
    return f"{FIDELITY}, {attribute}"


def of_objectives(name: str, kind: str) -> str:
    """The name of a measure on objectives of one kind alone."""
    return f"{name}, {kind}"


class _Seen:
    """What the reader reads off pictures (users, seeds, 64, 64, 3)."""

    def __init__(self, reader: AttributeReader, pictures: np.ndarray):
        self._shape = pictures.shape[:2]
        self._readings = reader.read(pictures.reshape(-1, *pictures.shape[2:]))

    def share(self, user: int, attribute: str, value: str) -> float:
        """Of the user's pictures, that show it."""
        return float(self._readings.shows(attribute, value).reshape(self._shape)[user].mean())


def _loved(seen: _Seen, truths: Sequence[Truth]) -> np.ndarray:
    """(users, attributes): how often a user's loved value is shown; NaN where they love none."""
    loved = [dict(truth.taste.loved) for truth in truths]
    return np.array(
        [
            [seen.share(user, name, values[name]) if name in values else np.nan for name in LOVABLE]
            for user, values in enumerate(loved)
        ]
    )


def _similarity(pictures: np.ndarray, original: np.ndarray) -> float:
    """The mean SSIM as Wang et al. (2004) have it: Gaussian windows of 11 pixels, σ = 1.5, over the colour channels."""
    how = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255, "channel_axis": 2}
    return float(np.mean([structural_similarity(picture, original, **how) for picture in pictures]))
