"""How sure a mean over users is, and a difference of two: intervals, tests, effect sizes and what could have been seen.

The user is the unit throughout: a user's pictures, objectives and seeds are averaged first (`by_user`), because pictures
of one user are no independent observations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import nct, t

RESAMPLES = 10_000
LEVEL = 0.95
POWER = 0.8
EFFECT = "Cohen's d_z"
TOGETHER = 500  # resamples in memory at once


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


def by_user(values: Mapping[str, np.ndarray], users: Sequence[str]) -> np.ndarray:
    """(users,): the mean of each user's values, NaN where there is none; each user counts once, however many pictures."""
    means = np.full(len(users), np.nan)
    for place, user_id in enumerate(users):
        own = np.asarray(values.get(user_id, ()), dtype=np.float64)
        if not np.isnan(own).all():
            means[place] = np.nanmean(own)
    return means


def paired_permutation(differences: np.ndarray, resamples: int, seed: int) -> float:
    """The two-sided p that the mean of paired differences, one a user, is 0: their signs are flipped at random.

    differences: (users,); NaN: the user does not count. The smallest p is 1 / (resamples + 1); NaN without users.
    """
    counted = differences[~np.isnan(differences)]
    if not counted.size:
        return float("nan")
    chance, as_far = np.random.default_rng(seed), 0
    found = abs(counted.sum()) * (1 - 1e-9)  # sums of the same numbers in another order are as far
    for start in range(0, resamples, TOGETHER):
        flips = chance.integers(0, 2, (min(TOGETHER, resamples - start), len(counted)), dtype=np.int8)
        as_far += int((np.abs((2.0 * flips - 1) @ counted) >= found).sum())
    return (as_far + 1) / (resamples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down correction, in the order given; p that are NaN stay so and are no tests."""
    tests = sorted((p, place) for place, p in enumerate(p_values) if p == p)
    corrected, highest = list(p_values), 0.0
    for rank, (p, place) in enumerate(tests):
        highest = max(highest, min(1.0, p * (len(tests) - rank)))
        corrected[place] = highest
    return corrected


def effect_size(differences: np.ndarray) -> float:
    """Cohen's d_z: the mean of paired differences in units of their standard deviation; NaN where they do not vary."""
    mean, deviation, _ = _moments(differences)
    return mean / deviation if deviation > 0 else float("nan")


def smallest_detectable(differences: np.ndarray, power: float = POWER, level: float = 1 - LEVEL) -> float:
    """The true mean difference that so many users, differing so much, show at this level (two-sided) with this power.

    By the paired t-test's noncentral t; in the differences' units. NaN for fewer than two users, and where the differences
    do not vary: such a sample says nothing of how far others would.
    """
    _, deviation, users = _moments(differences)
    if not deviation > 0:
        return float("nan")
    critical = t.isf(level / 2, users - 1)

    def excess(shift: float) -> float:  # the other tail is below 1e-4 where the power is worth asking for
        return nct.sf(critical, users - 1, shift) - power

    return float(brentq(excess, 0, 10 * critical + 10)) * deviation / np.sqrt(users)


def _moments(differences: np.ndarray) -> tuple[float, float, int]:
    """Mean, standard deviation (n - 1) and number of what is counted; NaN where there is too little."""
    counted = differences[~np.isnan(differences)]
    mean = float(counted.mean()) if counted.size else float("nan")
    return mean, float(counted.std(ddof=1)) if counted.size > 1 else float("nan"), counted.size
