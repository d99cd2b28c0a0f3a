"""Results follow from the scores: intervals, differences, runs, the null run, sweeps, and examples by rule."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iamg_train.evaluation.methods import SHUFFLED, Method, Shot
from iamg_train.evaluation.metrics import Definition
from iamg_train.evaluation.results import summarise, write_results
from iamg_train.evaluation.statistics import RESAMPLES, Bootstrap, holm, paired_permutation
from iamg_train.whole_files import file_hash

USERS = [f"u{n:02}" for n in range(24)]
LIKENESS = Definition("likeness", "how alike", "higher", "net.pt 1234", "cosine")
DISTANCE = Definition("distance", "how far", "lower")
OWN = Definition("own", "whose it is", "higher", chance=0.25)
SPREAD = Definition("spread", "how unlike an item's pictures are", "")


@pytest.fixture
def chance():
    return np.random.default_rng(3)


@pytest.fixture
def items(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "i.png")
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "i.png", "item_id": "i", "title": "I"}))
    (tmp_path / "interactions.csv").write_text("user_id,item_id\nu00,i\n")
    return tmp_path


def method(name, users=USERS, **settings):
    folder = Path("drawn") / name
    shots = tuple(Shot(folder / f"{x}.png", x, f"i-{x}", ("h1", "h2"), 0) for x in users)
    return Method(name, folder, shots, f"hash of {name}", settings)


@pytest.fixture
def results_of(items):
    def results_of(scores, definitions, names, reference="ours", **more):
        methods = [method(name, steps=5, weights={"unet": "ab"}) for name in names]
        given = {"command": "iamg-train evaluate", "items": items, "interactions": items / "interactions.csv"}
        results = summarise(scores, definitions, methods, reference, 7, **given | more)
        write_results(items / "results.json", results)
        assert json.loads((items / "results.json").read_text()) == json.loads(json.dumps(results))
        return results

    return results_of


def of_users(values, pictures=1):
    """Each user's pictures have the user's value on average."""
    apart = np.arange(pictures) - (pictures - 1) / 2
    return {user: value + apart for user, value in zip(USERS, values, strict=True)}


def test_estimates_and_differences_are_over_users_and_paired(results_of, chance):
    ours = chance.normal(size=len(USERS))
    other = ours + chance.normal(0.2, 0.1, size=len(USERS))
    scores = {"likeness": {"ours": of_users(ours, 3), "other": of_users(other, 2)}}
    results = results_of(scores, [LIKENESS], ["ours", "other"])
    found = results["estimates"]["likeness"]["other"]
    expected = Bootstrap(len(USERS), 7).estimate(other)
    assert [found[x] for x in ("mean", "low", "high")] == pytest.approx([expected.mean, expected.low, expected.high])
    assert found["users"] == len(USERS)
    (difference,) = results["differences"]["likeness"].values()
    assert difference["mean"] == pytest.approx(np.mean(other - ours))
    assert 0.1 < difference["low"] < difference["high"] < 0.3
    assert difference["p"] == pytest.approx(paired_permutation(other - ours, RESAMPLES, 7))
    assert difference["effect"] == pytest.approx(np.mean(other - ours) / np.std(other - ours, ddof=1))
    assert results["statistics"]["effect"] == "Cohen's d_z"
    assert 0 < difference["smallest_detectable"] < 0.1


def test_every_difference_of_the_evaluation_is_one_of_holms_tests(results_of, chance):
    names = ["ours", "a", "b", "c"]
    scores = {
        metric.name: {name: of_users(chance.normal(0.1 * n, 0.3, size=len(USERS))) for n, name in enumerate(names)}
        for metric in (LIKENESS, DISTANCE)
    }
    differences = results_of(scores, [LIKENESS, DISTANCE], names)["differences"]
    tests = [x for of_metric in differences.values() for x in of_metric.values()]
    assert len(tests) == 6 and [x["p_holm"] for x in tests] == holm([x["p"] for x in tests])


def test_runs_of_one_method_are_averaged_within_users_and_their_spread_told(results_of, chance):
    runs = [chance.normal(size=len(USERS)) for _ in range(3)]
    scores = {"likeness": {f"ours@{n}": of_users(x) for n, x in enumerate(runs)}}
    scores["likeness"]["base"] = of_users(np.zeros(len(USERS)))
    results = results_of(scores, [LIKENESS], ["ours@0", "ours@1", "ours@2", "base"], reference="base")
    ours = results["estimates"]["likeness"]["ours"]
    assert ours["users"] == len(USERS) and ours["mean"] == pytest.approx(np.mean(runs))
    expected = Bootstrap(len(USERS), 7).estimate(np.mean(runs, axis=0))
    assert (ours["low"], ours["high"]) == pytest.approx((expected.low, expected.high))
    means = [x.mean() for x in runs]
    assert ours["runs"] == pytest.approx({str(n): x for n, x in enumerate(means)})
    assert ours["spread"] == pytest.approx(np.std(means, ddof=1))
    assert list(results["differences"]["likeness"]) == ["ours"]
    assert "runs" not in results["estimates"]["likeness"]["base"]
    assert list(results["methods"]) == ["ours@0", "ours@1", "ours@2", "base"]
    assert set(results["examples"]["best"][0]["pictures"]) == {"ours", "base"}


@pytest.mark.parametrize(("shift", "found"), [(0.0, False), (0.2, True)])
def test_the_null_run_is_what_shuffled_histories_have_over_chance(results_of, chance, shift, found):
    shuffled = of_users(0.25 + shift + chance.normal(0, 0.1, size=len(USERS)))
    scores = {x.name: {"ours": of_users(np.full(len(USERS), 0.9)), SHUFFLED: shuffled} for x in (OWN, LIKENESS)}
    results = results_of(scores, [LIKENESS, OWN], ["ours"])
    null = results["null"]
    assert list(null) == ["own"]  # of likeness nobody knows what chance has
    assert null["own"]["mean"] == pytest.approx(shift, abs=0.05)
    assert (null["own"]["low"] > 0) == (null["own"]["p"] < 0.05) == found
    assert all(list(of) == ["ours"] for of in results["estimates"].values())


def test_sweeps_are_the_estimates_by_value(results_of, chance):
    names = ["full", "lambda2=0", "lambda2=1"]
    scores = {"likeness": {name: of_users(chance.normal(size=len(USERS))) for name in names}}
    sweeps = {"λ2": {1.0: "lambda2=1", 0.2: "full", 0.0: "lambda2=0"}}
    results = results_of(scores, [LIKENESS], names, reference="full", sweeps=sweeps)
    estimates = results["estimates"]["likeness"]
    assert results["sweeps"]["λ2"]["values"] == [0, 0.2, 1]
    points = results["sweeps"]["λ2"]["metrics"]["likeness"]
    assert points == {"0": estimates["lambda2=0"], "0.2": estimates["full"], "1": estimates["lambda2=1"]}
    assert "sweeps" not in results_of(scores, [LIKENESS], names, reference="full")


def test_examples_are_the_first_the_middle_and_the_last_users(results_of):
    order = np.random.default_rng(0).permutation(len(USERS))
    scores = {"distance": {"ours": of_users(order.astype(float)), "other": of_users(np.zeros(len(USERS)))}}
    examples = results_of(scores, [DISTANCE], ["other", "ours"])["examples"]
    ranked = [USERS[n] for n in np.argsort(order)]
    shown = {place: [x["user_id"] for x in examples[place]] for place in ("best", "median", "worst")}
    assert shown == {"best": ranked[:3], "median": ranked[10:13], "worst": ranked[-3:]}
    assert "distance of 'ours' (lower is better" in examples["rule"]
    first = examples["best"][0]
    assert first["objective"] == f"i-{ranked[0]}" and first["history"] == ["h1", "h2"]
    assert first["pictures"] == {name: f"drawn/{name}/{ranked[0]}.png" for name in ("other", "ours")}


def test_examples_go_by_a_metric_of_the_history_where_there_is_one(results_of, chance):
    own, likeness = (of_users(chance.normal(size=len(USERS))) for _ in range(2))
    scores = {"likeness": {"ours": likeness}, "own": {"ours": own, SHUFFLED: own}}
    examples = results_of(scores, [LIKENESS, OWN], ["ours"])["examples"]
    assert examples["best"][0]["user_id"] == max(own, key=lambda x: own[x].mean())
    only_items = {"spread": {"ours": {"i1": np.ones(1), "i2": np.zeros(1)}}}
    assert "best" not in results_of(only_items, [SPREAD], ["ours"])["examples"]


def test_what_cannot_be_known_is_none_and_never_certain(results_of):
    scores = {"spread": {"ours": {"i1": np.array([1.0])}, "other": {"i1": np.array([2.0])}}}
    results = results_of(scores, [SPREAD, LIKENESS], ["ours", "other"])
    assert results["estimates"] == {
        "spread": {
            "ours": {"mean": 1, "low": None, "high": None, "users": 1},
            "other": {"mean": 2, "low": None, "high": None, "users": 1},
        }
    }
    difference = results["differences"]["spread"]["other"]
    assert difference["mean"] == 1 and difference["p"] == 1
    assert [difference[x] for x in ("low", "high", "effect", "smallest_detectable")] == [None] * 4
    same = {"likeness": {name: of_users(np.ones(len(USERS))) for name in ("ours", "other")}}
    difference = results_of(same, [LIKENESS], ["ours", "other"])["differences"]["likeness"]["other"]
    assert (difference["p"], difference["effect"]) == (1, None)


def test_users_of_whom_one_method_has_no_value_are_left_out_of_its_difference(results_of, chance):
    ours, other = of_users(chance.normal(size=len(USERS))), of_users(chance.normal(size=len(USERS)))
    del other["u03"]
    results = results_of({"likeness": {"ours": ours, "other": other}}, [LIKENESS], ["ours", "other"])
    assert results["differences"]["likeness"]["other"]["users"] == len(USERS) - 1
    expected = np.mean([other[x] - ours[x] for x in USERS if x != "u03"])
    assert results["differences"]["likeness"]["other"]["mean"] == pytest.approx(expected)


def test_results_say_what_was_measured(results_of, items):
    scores = {"likeness": {"ours": of_users(np.zeros(len(USERS)))}}
    results = results_of(scores, [LIKENESS], ["ours"])
    assert (results["users"], results["pictures"], results["reference"]) == (len(USERS), len(USERS), "ours")
    ours = {"folder": "ours", "pictures": len(USERS), "manifest": "hash of ours", "settings": {"steps": 5}}
    assert results["methods"] == {"ours": ours | {"weights": {"unet": "ab"}}}
    likeness = {"definition": "how alike", "direction": "higher", "weights": "net.pt 1234", "unit": "cosine"}
    assert results["metrics"] == {"likeness": likeness | {"chance": None}}
    assert results["data"]["interactions"] == file_hash(items / "interactions.csv")
    (items / "metadata.jsonl").write_text(json.dumps({"file_name": "i.png", "item_id": "i", "title": "J"}))
    other = results_of(scores, [LIKENESS], ["ours"], interactions=None)["data"]
    assert other["items"] != results["data"]["items"] and other["interactions"] is None


def test_an_unknown_reference_is_told_the_methods(results_of):
    scores = {"likeness": {"ours": of_users(np.zeros(len(USERS)))}}
    with pytest.raises(ValueError, match="'mine' is not among the methods ours, other"):
        results_of(scores, [LIKENESS], ["ours@1", "ours@2", "other"], reference="mine")
