"""Intervals of means over users: against scipy, a loop, planted effects, and how often they hold the truth."""

import numpy as np
import pytest

from iamg_train.evaluation.statistics import Bootstrap, sign


def interval(estimate):
    return estimate.low, estimate.high


def ends(values, seed, resamples=10_000):
    """A resample at a time, by index."""
    chance = np.random.default_rng(seed)
    means = [values[chance.integers(len(values), size=len(values))].mean() for _ in range(resamples)]
    return np.percentile(means, (2.5, 97.5))


@pytest.fixture
def chance():
    return np.random.default_rng(5)


def test_an_interval_is_that_of_a_loop_over_resamples(chance):
    values = chance.gamma(1.0, size=60)
    estimate = Bootstrap(60, seed=0).estimate(values)
    assert estimate.mean == pytest.approx(values.mean())
    assert interval(estimate) == pytest.approx(ends(values, seed=1), abs=0.02 * values.std())


def test_an_interval_is_scipys(chance):
    stats = pytest.importorskip("scipy.stats")
    values = chance.beta(0.5, 2, size=200)
    found = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=0).confidence_interval
    estimate = Bootstrap(200, seed=3).estimate(values)
    assert interval(estimate) == pytest.approx((found.low, found.high), abs=0.01 * values.std())


def test_19_of_20_intervals_hold_the_truth(chance):
    found = [Bootstrap(80, n, 1000).estimate(chance.exponential(2.0, size=80)) for n in range(400)]
    assert 0.90 < np.mean([x.low < 2.0 < x.high for x in found]) < 0.98


def test_a_planted_effect_is_found_and_its_absence_too(chance):
    users, bootstrap = chance.normal(0.5, 0.3, size=200), Bootstrap(200, seed=0)
    noise = chance.normal(0, 0.05, size=(2, 200))
    measured = {"full": {"x": users}, "better": {"x": users + 0.03 + noise[0]}, "same": {"x": users + noise[1]}}
    compared = bootstrap.compare(measured, "full")
    better, same = (compared[name]["differences"]["x"] for name in ("better", "same"))
    assert better["mean"] == pytest.approx(0.03 + noise[0].mean())
    assert (sign(better), sign(same)) == (1, 0)
    assert "differences" not in compared["full"]
    worse = bootstrap.compare(measured, "better")["full"]["differences"]["x"]
    assert sign(worse) == -1 and (worse["low"], worse["high"]) == pytest.approx((-better["high"], -better["low"]))
    # Unpaired, the users' spread would drown the effect.
    apart = [compared[name]["estimates"]["x"] for name in ("full", "better")]
    assert apart[0]["high"] > apart[1]["low"]


def test_users_of_whom_a_measure_says_nothing_do_not_count(chance):
    values = chance.normal(size=300)
    some = np.where(np.arange(300) % 3 == 0, values, np.nan)
    bootstrap = Bootstrap(300, seed=0)
    estimate = bootstrap.estimate(some)
    assert estimate.mean == pytest.approx(values[::3].mean())
    assert interval(estimate) == pytest.approx(ends(values[::3], seed=1), abs=0.03)
    compared = bootstrap.compare({"a": {"x": values, "y": np.full(300, np.nan)}}, "a")
    assert set(compared["a"]["estimates"]) == {"x"}


def test_the_seed_alone_decides(chance):
    values = chance.normal(size=50)
    assert Bootstrap(50, 7).estimate(values) == Bootstrap(50, 7).estimate(values)
    assert Bootstrap(50, 7).estimate(values) != Bootstrap(50, 8).estimate(values)


def test_a_sign_is_of_an_interval_that_leaves_0_out():
    assert [sign({"low": low, "high": high}) for low, high in ((0.1, 1), (-1, -0.1), (-1, 1), (0, 1), (0, 0))] == [
        1,
        -1,
        0,
        0,
        0,
    ]
