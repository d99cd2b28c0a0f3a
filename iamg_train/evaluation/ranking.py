"""Which methods are preferred, and how surely: ranks, shares of best, and Bradley-Terry strengths, from who beat whom.

A user is one observation, and what is drawn with replacement for the intervals; a user's cases are averaged first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from iamg_train.evaluation.statistics import LEVEL, RESAMPLES, Bootstrap, Estimate, holm, paired_permutation

STRENGTH_RESAMPLES = 2_000
TIES_ADDED = 1.0  # between each two methods, so that one which always wins has a strength
Z = 1.959964  # of the normal distribution, for LEVEL


@dataclass(frozen=True)
class Standing:
    """How one method fared against all others; of cases without a gap, if there are some, what is of ranks."""

    mean_rank: Estimate | None
    best: Estimate | None  # how often it came first, a shared first place divided; Wilson's interval
    strength: Estimate  # natural log, of mean 0 over the methods


@dataclass(frozen=True)
class Duel:
    """How one method fared against another; `won`, `tied` and `lost` are shares that sum to 1."""

    one: str
    other: str
    won: float
    tied: float
    lost: float
    preferred: Estimate  # won, and half of what is tied; 0.5 is no preference
    p: float  # that neither is preferred: paired permutation test, two-sided
    p_holm: float  # corrected for all duels


def outcome_table(answers: Iterable[Sequence[Sequence[str]]], names: Sequence[str]) -> np.ndarray:
    """(names, names): 1 where the row's method was preferred to the column's, 0 where the other was, 1/2 for a tie.

    answers: of each set of methods that was shown together, its rankings, best first. Two methods tie where their
    rankings do not agree on them. NaN where nothing was answered, and on the diagonal.
    """
    table = np.full((len(names), len(names)), np.nan)
    for rankings in answers:
        for one, other in combinations(rankings[0], 2) if rankings else ():
            ahead = np.mean([ranking.index(one) < ranking.index(other) for ranking in rankings])
            outcome = ahead if ahead in (0.0, 1.0) else 0.5
            table[names.index(one), names.index(other)] = outcome
            table[names.index(other), names.index(one)] = 1 - outcome
    return table


def rank_methods(
    tables: np.ndarray, owners: np.ndarray, names: Sequence[str], seed: int
) -> tuple[dict[str, Standing], list[Duel]]:
    """Standings by method, and the duels of each two.

    tables: (cases, names, names), of `outcome_table`; owners: (cases,), the number of each case's user, from 0.
    """
    users = int(owners.max()) + 1
    bootstrap = Bootstrap(users, seed)
    ranks = 1 + _losses(tables)  # (cases, names)
    first = ranks == ranks.min(axis=1, keepdims=True)
    best = np.where(np.isnan(ranks), np.nan, first / np.maximum(first.sum(axis=1, keepdims=True), 1))
    user_ranks, user_best = user_means(ranks, owners), user_means(best, owners)
    ranked = not np.isnan(ranks).all()
    standings = {
        name: Standing(
            bootstrap.estimate(user_ranks[:, place]) if ranked else None,
            wilson(user_best[:, place]) if ranked else None,
            strength,
        )
        for place, (name, strength) in enumerate(zip(names, _strengths(user_means(tables, owners), seed), strict=True))
    }
    return standings, _duels(tables, owners, names, bootstrap, seed)


def user_means(values: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """(users, ...): the mean of each user's cases, (cases, ...); NaN where no case counts."""
    shape = (int(owners.max()) + 1, *values.shape[1:])
    total, count = np.zeros(shape), np.zeros(shape)
    np.add.at(total, owners, np.nan_to_num(values))
    np.add.at(count, owners, ~np.isnan(values))
    return np.divide(total, count, out=np.full(shape, np.nan), where=count > 0)


def wilson(shares: np.ndarray) -> Estimate:
    """Wilson's (1927) interval of a mean of 0 and 1, one a user, (users,); fractions are as exact as it gets. NaN: not counted."""
    counted = shares[~np.isnan(shares)]
    n, share = counted.size, float(counted.mean())
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return Estimate(share, float(middle - half), float(middle + half))


def bradley_terry(beaten: np.ndarray) -> np.ndarray:
    """(methods,): the logs of the strengths that make wins (methods, methods) likeliest, of mean 0.

    A tie is half a win for both, and TIES_ADDED ties are added between each two. Of complete rankings, these are
    consistent estimates of Plackett-Luce's strengths (Azari Soufiani et al. 2013: full breaking).
    """
    import choix

    wins = np.nan_to_num(beaten) + TIES_ADDED / 2
    np.fill_diagonal(wins, 0.0)
    strengths = choix.ilsr_pairwise_dense(wins)
    return strengths - strengths.mean()


def _strengths(beaten: np.ndarray, seed: int) -> list[Estimate]:
    """beaten: (users, methods, methods)."""
    users, flat = len(beaten), np.nan_to_num(beaten).reshape(len(beaten), -1)
    counts = np.random.default_rng(seed).multinomial(users, np.full(users, 1 / users), size=STRENGTH_RESAMPLES)
    drawn = np.stack([bradley_terry(x) for x in (counts @ flat).reshape(-1, *beaten.shape[1:])])
    tail = 50 * (1 - LEVEL)
    ends = np.percentile(drawn, (tail, 100 - tail), axis=0)
    found = bradley_terry(np.nansum(beaten, axis=0))
    return [Estimate(*map(float, (strength, *ends[:, place]))) for place, strength in enumerate(found)]


def _duels(tables: np.ndarray, owners: np.ndarray, names: Sequence[str], bootstrap: Bootstrap, seed: int) -> list[Duel]:
    met = []
    for one, other in combinations(range(len(names)), 2):
        outcomes = tables[:, one, other]
        preferred = user_means(outcomes, owners)
        if np.isnan(preferred).all():
            continue
        shares = [
            float(np.nanmean(user_means(np.where(np.isnan(outcomes), np.nan, outcomes == value), owners)))
            for value in (1.0, 0.5, 0.0)
        ]
        p = paired_permutation(preferred - 0.5, RESAMPLES, seed)
        met.append((names[one], names[other], *shares, bootstrap.estimate(preferred), p))
    corrected = holm([p for *_, p in met])
    return [Duel(*duel, p_holm) for duel, p_holm in zip(met, corrected, strict=True)]


def _losses(tables: np.ndarray) -> np.ndarray:
    """(cases, methods): how many others were preferred, a tie as a half; NaN in a case where not all is known."""
    others = ~np.eye(tables.shape[1], dtype=bool)
    lost = np.where(others, tables, 0.0).sum(axis=1)
    return np.where(np.isnan(lost).any(axis=1, keepdims=True), np.nan, lost)
