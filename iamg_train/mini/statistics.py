"""How sure a mean over users is: percentile intervals of the bootstrap."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over users, and the ends of its interval."""

    mean: float
    low: float
    high: float


def sign(estimate: Mapping[str, float]) -> int:
    """1 or -1 where the interval of an estimate, as JSON has it, lies on one side of 0; else 0."""
    return int(estimate["low"] > 0) - int(estimate["high"] < 0)


class Bootstrap:
    """Draws users with replacement, the same ones for whatever is estimated, so that differences are paired."""

    def __init__(self, users: int, seed: int, resamples: int = RESAMPLES):
        chance = np.random.default_rng(seed)
        # How often each user is drawn, (resamples, users).
        self._counts = chance.multinomial(users, np.full(users, 1 / users), size=resamples).astype(np.float64)

    def estimate(self, values: np.ndarray) -> Estimate:
        """Of one value a user, (users,); NaN: the user does not count."""
        counted = ~np.isnan(values)
        with np.errstate(invalid="ignore"):  # a resample in which no user counts
            means = self._counts @ np.where(counted, values, 0.0) / (self._counts @ counted)
        tail = 50 * (1 - LEVEL)
        low, high = np.percentile(means[~np.isnan(means)], (tail, 100 - tail))
        return Estimate(float(values[counted].mean()), float(low), float(high))

    def compare(self, measured: Mapping[str, Mapping[str, np.ndarray]], reference: str) -> dict[str, dict]:
        """What was measured of several things, as JSON has it: estimates, and of their differences to one of them.

        measured: of each thing, by the measure's name, one value a user.
        """
        compared = {}
        for name, values in measured.items():
            counted = {key: x for key, x in values.items() if not np.isnan(x).all()}
            compared[name] = {"estimates": {key: asdict(self.estimate(x)) for key, x in counted.items()}}
            if name != reference:
                differences = {key: self.estimate(x - measured[reference][key]) for key, x in counted.items()}
                compared[name]["differences"] = {key: asdict(x) for key, x in differences.items()}
        return compared
