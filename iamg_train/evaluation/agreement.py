"""How far people agree in their rankings, and the interval of a share."""

import numpy as np
from scipy.stats import binomtest, rankdata

from iamg_train.evaluation.statistics import LEVEL


def kendall_w(ranks: np.ndarray) -> float:
    """Kendall's coefficient of concordance W, corrected for ties: 0 none, 1 the same order; 1 / raters by chance.

    ranks: (raters, pictures), any numbers that order them. NaN with fewer than two raters, or where all is tied.
    """
    ranks = rankdata(ranks, axis=1)
    raters, pictures = ranks.shape
    ties = sum(float((counts**3 - counts).sum()) for counts in (np.unique(row, return_counts=True)[1] for row in ranks))
    most = raters**2 * (pictures**3 - pictures) - raters * ties
    sums = ranks.sum(axis=0)
    return 12 * float(((sums - sums.mean()) ** 2).sum()) / most if raters > 1 and most > 0 else float("nan")


def krippendorff_alpha(ratings: np.ndarray) -> float:
    """Krippendorff's alpha of ordinal ratings: 1 agreement, 0 chance.

    ratings: (raters, units), NaN where a rater did not rate a unit. NaN where no unit has two, or all are the same.
    """
    import krippendorff

    shared = ratings[:, (~np.isnan(ratings)).sum(axis=0) > 1]
    if len(np.unique(shared[~np.isnan(shared)])) < 2:
        return float("nan")
    return float(krippendorff.alpha(shared, level_of_measurement="ordinal"))


def share(count: int, total: int) -> dict[str, float]:
    """A share and Wilson's interval, as JSON has them."""
    interval = binomtest(count, total).proportion_ci(LEVEL, method="wilson")
    return {"count": count, "share": count / total, "low": float(interval.low), "high": float(interval.high)}
