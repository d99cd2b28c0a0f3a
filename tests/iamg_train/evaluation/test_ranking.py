"""Rankings of methods against naive maximum likelihood, other packages, published figures and planted preferences."""

import choix
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import binomtest

from iamg_train.evaluation import ranking as subject
from iamg_train.evaluation.ranking import TIES_ADDED, bradley_terry, outcome_table, rank_methods, user_means, wilson

NAMES = ["a", "b", "c", "d"]


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(subject, "STRENGTH_RESAMPLES", 200)


def naive_bradley_terry(wins):
    """The logs of the strengths that make the wins likeliest, by a general optimiser."""

    def unlikely(strengths):
        ahead = strengths[:, None] - strengths[None, :]
        return (wins * np.log1p(np.exp(-ahead))).sum() + strengths.sum() ** 2

    return minimize(unlikely, np.zeros(len(wins)), method="BFGS", options={"gtol": 1e-9}).x


def plackett_luce(random, strengths, count):
    """Rankings, each the order of Gumbel noise around the strengths."""
    return np.argsort(-(np.array(strengths) + random.gumbel(size=(count, len(strengths)))), axis=1)


def tables_of(rankings, names=NAMES):
    return np.stack([outcome_table([[[names[place] for place in ranking]]], names) for ranking in rankings])


# ---- who beat whom


def test_one_ranking_says_who_beat_whom():
    table = outcome_table([[["b", "c", "a"]]], ["a", "b", "c"])
    expected = np.array([[np.nan, 0, 0], [1, np.nan, 1], [1, 0, np.nan]])
    np.testing.assert_array_equal(table, expected)


def test_methods_on_which_the_orders_disagree_tie_and_only_those():
    table = outcome_table([[["a", "b", "c"], ["b", "a", "c"]]], ["a", "b", "c"])
    np.testing.assert_array_equal(table, [[np.nan, 0.5, 1], [0.5, np.nan, 1], [0, 0, np.nan]])
    mostly = outcome_table([[["a", "b"], ["a", "b"], ["a", "b"], ["b", "a"]]], ["a", "b"])
    assert mostly[0, 1] == mostly[1, 0] == 0.5


def test_pairs_make_the_table_of_the_ranking_that_they_come_from_and_leave_gaps_where_they_lack():
    pairs = [[["b", "a"]], [["b", "c"]], [["c", "a"]]]
    np.testing.assert_array_equal(
        outcome_table(pairs, ["a", "b", "c"]), outcome_table([[["b", "c", "a"]]], ["a", "b", "c"])
    )
    gap = outcome_table(pairs[:2], ["a", "b", "c"])
    assert np.isnan(gap[0, 2]) and np.isnan(gap[2, 0]) and gap[1, 2] == 1


# ---- strengths


def test_strengths_are_those_of_naive_maximum_likelihood():
    random = np.random.default_rng(0)
    for methods in (2, 3, 5):
        wins = random.integers(0, 30, (methods, methods)).astype(float) + random.random((methods, methods))
        np.fill_diagonal(wins, 0)
        added = wins + TIES_ADDED / 2 * (1 - np.eye(methods))
        np.testing.assert_allclose(bradley_terry(wins), naive_bradley_terry(added), atol=1e-5)


def test_of_two_methods_the_strengths_are_the_log_odds():
    wins = np.array([[np.nan, 29.5], [9.5, np.nan]])
    assert np.diff(bradley_terry(wins))[0] == pytest.approx(-np.log(30 / 10))


def test_a_method_that_always_wins_has_a_strength():
    wins = np.zeros((4, 4))
    wins[0, 1:] = 100
    strengths = bradley_terry(wins)
    assert np.isfinite(strengths).all() and strengths[0] - strengths[1] == pytest.approx(np.log(201), rel=1e-3)


def test_of_whole_rankings_the_strengths_are_plackett_luce_s():
    """Against the truth, and against the likelihood of whole rankings in choix."""
    truth = np.array([0.8, 0.2, -0.2, -0.8])
    rankings = plackett_luce(np.random.default_rng(1), truth, 4000)
    strengths = bradley_terry(np.nansum(tables_of(rankings), axis=0))
    np.testing.assert_allclose(strengths, truth, atol=0.06)
    np.testing.assert_allclose(strengths, choix.ilsr_rankings(4, rankings.tolist()), atol=0.05)


# ---- ranks, shares of best, duels


def test_the_paper_s_share_of_best_has_the_interval_of_wilson():
    """Section 5.2: 48.3 % of 120 best places."""
    share = wilson(np.repeat([1.0, 0.0], [58, 62]))
    expected = binomtest(58, 120).proportion_ci(method="wilson")
    assert (share.mean, share.low, share.high) == pytest.approx((58 / 120, expected.low, expected.high), abs=1e-6)
    assert (round(share.low, 3), round(share.high, 3)) == (0.396, 0.572)


def test_ranks_and_shares_of_best_are_those_counted_by_hand():
    rankings = [["a", "b", "c", "d"], ["a", "c", "b", "d"], ["b", "a", "c", "d"], ["d", "c", "b", "a"]]
    tables = np.stack([outcome_table([[ranking]], NAMES) for ranking in rankings])
    standings, duels = rank_methods(tables, np.arange(4), NAMES, 0)
    assert [standings[name].mean_rank.mean for name in NAMES] == [2.0, 2.25, 2.5, 3.25]
    assert [standings[name].best.mean for name in NAMES] == [0.5, 0.25, 0.0, 0.25]
    first = duels[0]
    assert (first.one, first.other, first.won, first.tied, first.lost) == ("a", "b", 0.5, 0.0, 0.5)
    assert first.preferred.mean == 0.5 and first.p == 1.0


def test_a_first_place_that_is_shared_is_divided_and_tied_ranks_are_their_mean():
    table = outcome_table([[["a", "b", "c", "d"], ["b", "a", "c", "d"]]], NAMES)[None]
    standings, duels = rank_methods(table, np.zeros(1, int), NAMES, 0)
    assert [standings[name].mean_rank.mean for name in NAMES] == [1.5, 1.5, 3.0, 4.0]
    assert [standings[name].best.mean for name in NAMES] == [0.5, 0.5, 0.0, 0.0]
    assert (duels[0].won, duels[0].tied, duels[0].lost, duels[0].preferred.mean) == (0.0, 1.0, 0.0, 0.5)


def test_a_user_with_many_cases_counts_once():
    names = ["a", "b"]
    tables = np.stack([outcome_table([[[*winner]]], names) for winner in ["ab"] * 9 + ["ba"]])
    standings, duels = rank_methods(tables, np.array([0] * 9 + [1]), names, 0)
    assert standings["a"].mean_rank.mean == 1.5 and standings["a"].best.mean == 0.5
    assert standings["a"].strength.mean == pytest.approx(0) and duels[0].won == 0.5


def test_gaps_leave_a_case_out_of_the_ranks_and_not_out_of_the_duels():
    names = ["a", "b", "c"]
    whole, gap = outcome_table([[["c", "a", "b"]]], names), outcome_table([[["b", "a"]]], names)
    standings, duels = rank_methods(np.stack([whole, gap]), np.array([0, 1]), names, 0)
    assert [standings[name].mean_rank.mean for name in names] == [2.0, 3.0, 1.0]
    assert duels[0].preferred.mean == 0.5 and duels[1].preferred.mean == 0.0
    only, _ = rank_methods(gap[None], np.array([0]), names, 0)
    assert only["a"].mean_rank is None and only["a"].best is None and only["b"].strength.mean > 0


def test_user_means_ignore_what_is_not_known():
    values = np.array([1.0, np.nan, 3.0, np.nan])
    np.testing.assert_array_equal(user_means(values, np.array([0, 0, 0, 1])), [2.0, np.nan])


# ---- intervals


def test_a_planted_preference_is_found_and_none_is_found_where_there_is_none():
    random = np.random.default_rng(2)
    for truth, found in (([1.0, 0.0, 0.0, 0.0], True), ([0.0, 0.0, 0.0, 0.0], False)):
        rankings = plackett_luce(random, truth, 150)
        standings, duels = rank_methods(tables_of(rankings), np.arange(150), NAMES, 0)
        strength = standings["a"].strength
        assert (strength.low > 0) is found and strength.low < truth[0] - np.mean(truth) < strength.high
        assert all((duel.p_holm < 0.05) is (found and duel.one == "a") for duel in duels)


@pytest.mark.slow
def test_the_interval_of_a_strength_holds_the_truth_as_often_as_it_says():
    random, truth, held = np.random.default_rng(3), np.array([0.6, 0.0, -0.6]), 0
    for turn in range(100):
        rankings = plackett_luce(random, truth, 100)
        standings, _ = rank_methods(tables_of(rankings, NAMES[:3]), np.arange(100), NAMES[:3], turn)
        held += standings["a"].strength.low < 0.6 < standings["a"].strength.high
    assert 88 <= held <= 99
