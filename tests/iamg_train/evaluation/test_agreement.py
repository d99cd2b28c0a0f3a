"""Agreement: published examples, and the textbook formulas written out naively."""

from itertools import permutations
from math import isnan, sqrt

import numpy as np
import pytest

from iamg_train.evaluation.agreement import kendall_w, krippendorff_alpha, share


def naive_w(ranks):
    """Kendall and Smith's 12 S / (m^2 (n^3 - n) - m T), one loop a sum."""
    m, n = len(ranks), len(ranks[0])
    sums = [sum(row[j] for row in ranks) for j in range(n)]
    s = sum((x - sum(sums) / n) ** 2 for x in sums)
    t = sum(row.count(x) ** 3 - row.count(x) for row in ranks for x in set(row))
    return 12 * s / (m**2 * (n**3 - n) - m * t)


def test_w_is_the_textbooks_with_ties_and_without():
    random = np.random.default_rng(0)
    for raters in (2, 5, 15):
        untied = np.array([random.permutation(4) + 1 for _ in range(raters)])
        assert kendall_w(untied) == pytest.approx(naive_w(untied.tolist()), abs=1e-12)
        tied = [list(random.permutation([1.5, 1.5, 3, 4])) for _ in range(raters)]
        assert kendall_w(np.array(tied)) == pytest.approx(naive_w(tied), abs=1e-12)


def test_w_of_known_cases():
    same = np.tile([1, 2, 3, 4], (6, 1))
    assert kendall_w(same) == pytest.approx(1) and kendall_w(10 * same) == pytest.approx(1)  # any numbers in that order
    assert kendall_w(np.array([[1, 2, 3], [3, 2, 1]])) == 0
    assert kendall_w(np.array(list(permutations([1, 2, 3, 4])))) == 0  # every order once
    # Siegel and Castellan, Nonparametric Statistics (1988), 9.6: three executives rank six applicants, W = 0.16
    assert kendall_w(np.array([[1, 6, 3, 2, 5, 4], [1, 5, 6, 4, 2, 3], [6, 3, 2, 5, 4, 1]])) == pytest.approx(
        0.162, abs=5e-4
    )
    assert isnan(kendall_w(np.array([[1, 2, 3]]))) and isnan(kendall_w(np.ones((3, 4))))


def test_w_of_chance_is_one_over_the_raters():
    random = np.random.default_rng(0)
    drawn = [kendall_w(np.array([random.permutation(4) for _ in range(5)])) for _ in range(2000)]
    assert np.mean(drawn) == pytest.approx(1 / 5, abs=0.01)


def test_alpha_is_that_of_krippendorffs_own_example():
    """Computing Krippendorff's Alpha-Reliability (2011), C: four observers, twelve units, ordinal 0.815."""
    nan = np.nan
    ratings = np.array(
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
            [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan],
        ]
    )
    assert krippendorff_alpha(ratings) == pytest.approx(0.815, abs=5e-4)
    alone = np.vstack([ratings, np.full(12, nan)])
    assert krippendorff_alpha(alone) == pytest.approx(0.815, abs=5e-4)  # who rated nothing changes nothing


def test_alpha_without_two_ratings_of_anything_is_no_number():
    assert isnan(krippendorff_alpha(np.array([[1.0, 2.0, np.nan], [np.nan, np.nan, 3.0]])))
    assert isnan(krippendorff_alpha(np.array([[1.0, 1.0], [1.0, 1.0]])))
    assert krippendorff_alpha(np.array([[1.0, 2.0, 3.0, 4.0]] * 3)) == pytest.approx(1)


def test_a_share_has_wilsons_interval():
    """The paper's 58 of 120 votes: 39.6 to 57.2 %; and the formula written out."""
    found = share(58, 120)
    assert (found["count"], found["share"]) == (58, 58 / 120)
    assert (round(found["low"], 3), round(found["high"], 3)) == (0.396, 0.572)
    z, p, n = 1.959963984540054, 58 / 120, 120
    middle, reach = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert found["low"] == pytest.approx((middle - reach) / (1 + z * z / n))
    assert share(0, 10)["low"] == 0 and share(10, 10)["high"] == 1
