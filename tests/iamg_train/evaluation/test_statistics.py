"""Intervals, tests and effects over users: against scipy, loops, planted effects, and how often they tell the truth."""

import numpy as np
import pytest

from iamg_train.evaluation.statistics import (
    Bootstrap,
    by_user,
    effect_size,
    holm,
    paired_permutation,
    sign,
    smallest_detectable,
)


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


def planted(chance, effect=0.3, users=40, objectives=2, pictures=3):
    """Differences of pictures in which users and their objectives have ways of their own, by user."""
    ways = chance.normal(size=(users, 1, 1)) + 0.3 * chance.normal(size=(users, objectives, 1))
    values = effect + ways + 0.3 * chance.normal(size=(users, objectives, pictures))
    return {f"u{n}": x.ravel() for n, x in enumerate(values)}


def test_a_planted_effect_is_in_19_of_20_intervals_however_many_pictures_a_user_has(chance):
    by_users, by_pictures = [], []
    for n in range(300):
        pictures = planted(chance)
        by_users.append(Bootstrap(len(pictures), n, 300).estimate(by_user(pictures, list(pictures))))
        every = np.concatenate(list(pictures.values()))
        by_pictures.append(Bootstrap(len(every), n, 300).estimate(every))
    assert 0.90 < np.mean([x.low < 0.3 < x.high for x in by_users]) < 0.98
    assert np.mean([x.low < 0.3 < x.high for x in by_pictures]) < 0.75  # what resampling pictures would have said


def test_more_pictures_of_the_same_users_make_nothing_surer_than_the_users_are(chance):
    few, many = planted(chance, pictures=1), planted(np.random.default_rng(5), pictures=50)
    widths = []
    for pictures in (few, many):
        estimate = Bootstrap(40, 0).estimate(by_user(pictures, list(pictures)))
        widths.append(estimate.high - estimate.low)
    assert widths[1] > 0.8 * widths[0]
    copied = {user: np.repeat(x, 100) for user, x in few.items()}
    assert by_user(copied, list(few)) == pytest.approx(by_user(few, list(few)))


def test_every_user_counts_once_and_one_without_values_not_at_all():
    values = {
        "a": np.array([1.0, 1.0, 1.0, 5.0]),
        "b": np.array([4.0]),
        "c": np.array([np.nan, 6.0]),
        "e": np.array([]),
    }
    means = by_user(values, ["c", "b", "a", "d", "e"])
    assert means[:3].tolist() == [6, 4, 2] and np.isnan(means[3:]).all()


def test_flipped_signs_are_scipys(chance):
    stats = pytest.importorskip("scipy.stats")
    differences = chance.normal(0.4, 1, size=12)
    exact = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert paired_permutation(differences, 40_000, 0) == pytest.approx(exact, abs=0.01)
    assert paired_permutation(np.append(differences, np.nan), 40_000, 0) == paired_permutation(differences, 40_000, 0)


@pytest.mark.parametrize("draw", ["standard_normal", "standard_cauchy"])
def test_1_of_20_tests_is_significant_where_nothing_is(chance, draw):
    p = np.array([paired_permutation(getattr(chance, draw)(25), 400, n) for n in range(500)])
    for level in (0.05, 0.2):
        assert (p <= level).mean() == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / 500))


def test_an_effect_in_every_user_has_the_smallest_p_and_none_has_the_greatest(chance):
    assert paired_permutation(np.full(40, 0.001), 999, 0) == 1 / 1000
    assert paired_permutation(-np.full(40, 0.001), 999, 0) == 1 / 1000
    assert paired_permutation(np.zeros(40), 999, 0) == 1
    assert np.isnan(paired_permutation(np.full(3, np.nan), 999, 0))


def rejected(p_values, level):
    """Holm's own procedure: the smallest p first, until one is not rejected."""
    left, out = list(range(len(p_values))), set()
    while left:
        smallest = min(left, key=lambda n: p_values[n])
        if p_values[smallest] > level / len(left):
            break
        left.remove(smallest)
        out.add(smallest)
    return out


def test_corrected_p_reject_what_holms_procedure_does_at_any_level(chance):
    for _ in range(50):
        p = [float(x) for x in chance.choice([0.001, 0.01, 0.02, 0.03, *chance.random(4)], size=7)]
        corrected = holm(p)
        for level in (0.0101, 0.0499, 0.1003, 0.31, 0.99):
            assert {n for n, x in enumerate(corrected) if x <= level} == rejected(p, level)
        assert all(x <= y <= 1 for x, y in zip(p, corrected, strict=True))
    corrected = holm([0.01, float("nan"), 0.04])
    assert np.isnan(corrected[1]) and corrected[::2] == [0.02, 0.04]
    assert holm([]) == []


def test_an_effects_size_is_in_units_of_its_spread():
    assert effect_size(np.array([1.0, 3.0, np.nan])) == pytest.approx(2 / np.sqrt(2))
    assert effect_size(np.array([-1.0, -3.0])) == pytest.approx(-2 / np.sqrt(2))
    assert all(np.isnan(effect_size(np.array(x))) for x in ([2.0, 2.0], [1.0], [np.nan]))


@pytest.mark.parametrize(("users", "power"), [(8, 0.8), (60, 0.8), (60, 0.5)])
def test_the_smallest_difference_is_found_as_often_as_the_power_says(chance, users, power):
    stats = pytest.importorskip("scipy.stats")
    spread = chance.normal(size=users)
    spread *= 3 / spread.std(ddof=1)
    effect = smallest_detectable(spread + 17, power)  # the mean that was seen makes no difference
    samples = chance.normal(effect, 3, size=(4000, users))
    assert (stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(power, abs=0.03)
    # The permutation test, which the results have, finds it as often.
    p = [paired_permutation(x, 400, n) for n, x in enumerate(samples[:300])]
    assert (np.array(p) <= 0.05).mean() == pytest.approx(power, abs=0.1)


def test_one_user_could_have_shown_nothing():
    assert np.isnan(smallest_detectable(np.array([0.3, np.nan])))
    assert np.isnan(smallest_detectable(np.array([0.3, 0.3])))
