"""Scoring a study: planted preferences come back, and what must not count is dropped, named and left out."""

import csv
import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from iamg_train.cli import main
from iamg_train.evaluation.agreement import kendall_w

METHODS = ["ours", "theirs", "original item"]
QUESTIONS = 4


@pytest.fixture
def study(tmp_path):
    """A key of four questions and one check, and a place for answers."""
    questions = {
        f"q{n}": {"user_id": f"u{n}", "objective": f"i{n}", "pictures": {f"p{n}{k}": x for k, x in enumerate(METHODS)}}
        for n in range(QUESTIONS)
    }
    key = {
        "format_version": 1,
        "study": "abc",
        "questions_each": QUESTIONS,
        "methods": {name: {"folder": name, "manifest": "0"} for name in METHODS},
        "questions": questions,
        "checks": {"q9": {"item": "i9", "pictures": ["p90", "p91", "p92"], "right": "p91"}},
    }
    (tmp_path / "study.key.json").write_text(json.dumps(key))
    return tmp_path


def sheet(orders, code="P1", right=True, seconds=20.0, minutes=0, study="abc"):
    """orders: for each question the methods' places in METHODS, the best first."""
    started = datetime(2026, 1, 2, tzinfo=UTC)
    answers = [
        {"question": f"q{n}", "shown": [f"p{n}{k}" for k in (2, 0, 1)], "order": [f"p{n}{k}" for k in order]}
        for n, order in enumerate(orders)
    ]
    check = ["p91", "p90", "p92"] if right else ["p90", "p91", "p92"]
    answers.append({"question": "q9", "shown": ["p90", "p91", "p92"], "order": check})
    finished = started + timedelta(minutes=5 + minutes)
    return {
        "format_version": 1,
        "study": study,
        "code": code,
        "started": started.isoformat(),
        "finished": finished.isoformat(),
        "answers": [{**answer, "seconds": seconds} for answer in answers],
    }


def scored(study, sheets, *arguments):
    files = []
    for number, x in enumerate(sheets):
        files.append(study / f"answers_{number}.json")
        files[-1].write_text(x if isinstance(x, str) else json.dumps(x))
    out = study / "out"
    words = ["questionnaire", "score", *map(str, files), "--key", str(study / "study.key.json"), "--out", str(out)]
    status = main([*words, *arguments])
    return json.loads((out / "human_study.json").read_text()) if status == 0 else status


def test_planted_preferences_come_back(study):
    random = np.random.default_rng(1)
    orders = [[list(random.permutation(3)) for _ in range(QUESTIONS)] for _ in range(7)]
    found = scored(study, [sheet(x, f"P{n}") for n, x in enumerate(orders)])
    ranks = np.argsort(np.array(orders), axis=2) + 1  # (people, questions, methods)
    for place, name in enumerate(METHODS):
        of_method = found["methods"][name]
        assert of_method["mean_rank"]["mean"] == pytest.approx(ranks[:, :, place].mean())
        assert of_method["mean_rank"]["low"] <= ranks[:, :, place].mean() <= of_method["mean_rank"]["high"]
        assert of_method["best"]["count"] == (ranks[:, :, place] == 1).sum()
        assert of_method["top_2"]["share"] == pytest.approx((ranks[:, :, place] <= 2).mean())
    agreement = found["agreement"]
    assert agreement["kendall_w_of_methods"] == pytest.approx(kendall_w(ranks.reshape(-1, 3)))
    assert agreement["kendall_w_of_people"] == pytest.approx(
        np.mean([kendall_w(ranks[:, q]) for q in range(QUESTIONS)])
    )
    assert agreement["kendall_w_of_people_by_chance"] == pytest.approx(1 / 7)
    assert abs(agreement["krippendorff_alpha"]) < 0.3
    assert found["rankings"] == 28 and found["participants"]["kept"] == 7
    positions = [x["count"] for x in found["first_choices"]]  # shown as methods 2, 0, 1
    assert positions == [found["methods"][METHODS[m]]["best"]["count"] for m in (2, 0, 1)]


def test_unanimous_people_agree_wholly(study):
    found = scored(study, [sheet([(1, 0, 2)] * QUESTIONS, f"P{n}") for n in range(4)])
    agreement = found["agreement"]
    assert agreement["kendall_w_of_people"] == agreement["kendall_w_of_methods"] == pytest.approx(1)
    assert agreement["krippendorff_alpha"] == pytest.approx(1)
    assert found["methods"]["theirs"]["mean_rank"] == {"mean": 1, "low": 1, "high": 1}
    assert found["methods"]["theirs"]["best"]["low"] > 0.8


def test_one_participant_has_ranks_and_no_agreement(study):
    found = scored(study, [sheet([(0, 1, 2)] * QUESTIONS)])
    assert found["methods"]["ours"]["mean_rank"]["mean"] == 1
    assert found["agreement"]["kendall_w_of_people"] is found["agreement"]["krippendorff_alpha"] is None


GOOD = [(0, 1, 2)] * QUESTIONS
BAD = [(2, 1, 0)] * QUESTIONS


def changed(**changes):
    return {**sheet(BAD, "P9"), **changes}


def with_answer(place=0, **changes):
    answers = sheet(BAD, "P9")["answers"]
    answers[place] = {**answers[place], **changes}
    return changed(answers=answers)


DROPPED = {
    "failed": ("failed checks", sheet(BAD, "P9", right=False)),
    "fast": ("too fast", sheet(BAD, "P9", seconds=1.0)),
    "again": ("duplicate", sheet(BAD, " p1", minutes=60)),
    "not JSON": ("unusable", "{"),
    "deep": ("unusable", "[" * 100_000),
    "no object": ("unusable", "[]"),
    "another study": ("unusable", sheet(BAD, "P9", study="abd")),
    "another version": ("unusable", changed(format_version=2)),
    "a key too many": ("unusable", changed(admin=True)),
    "no code": ("unusable", changed(code="")),
    "no date": ("unusable", changed(finished="yesterday")),
    "unfinished": ("unusable", changed(answers=sheet(BAD)["answers"][1:])),
    "an answer twice": ("unusable", changed(answers=[*sheet(BAD)["answers"][1:], sheet(BAD)["answers"][1]])),
    "without the check": ("unusable", with_answer(4, question="q0")),
    "an unknown question": ("unusable", with_answer(question="q77")),
    "a rank missing": ("unusable", with_answer(order=["p02", "p01"])),
    "a rank twice": ("unusable", with_answer(order=["p02", "p02", "p01"])),
    "another's picture": ("unusable", with_answer(order=["p02", "p01", "p10"])),
    "shown twice": ("unusable", with_answer(shown=["p00", "p00", "p01"])),
    "negative time": ("unusable", with_answer(seconds=-1.0)),
    "endless time": ("unusable", json.dumps(with_answer(seconds=float("inf")))),
    "a text for a time": ("unusable", with_answer(seconds="20")),
}


@pytest.mark.parametrize("case", DROPPED)
def test_what_must_not_count_is_dropped_and_told(study, case):
    rule, bad = DROPPED[case]
    found = scored(study, [bad, sheet(GOOD), sheet(GOOD, "P2")])
    assert found["participants"]["kept"] == 2 and found["participants"]["dropped"] == {rule: 1}
    assert found["participants"]["files_dropped"][0]["file"].endswith("answers_0.json")
    assert found["methods"]["ours"]["mean_rank"]["mean"] == 1


def test_the_rules_can_be_loosened(study):
    bad = [sheet(BAD, "P8", right=False), sheet(BAD, "P9", seconds=1.0)]
    found = scored(study, [*bad, sheet(GOOD)], "--failed-checks", "1", "--min-seconds", "0")
    assert found["participants"]["kept"] == 3 and found["rules"] == {"failed_checks": 1, "min_seconds": 0}


def test_the_first_finished_of_a_code_counts_whatever_it_is_worth(study, capsys):
    found = scored(study, [sheet(GOOD, "P9", minutes=9), sheet(BAD, "P9", right=False), sheet(GOOD)])
    assert found["participants"]["dropped"] == {"failed checks": 1, "duplicate": 1}


def test_nothing_is_written_where_nobody_is_left(study, capsys):
    assert scored(study, ["{}"]) == 2
    assert "no file is left" in capsys.readouterr().err and not (study / "out").exists()


@pytest.mark.parametrize("content", ["", "{}", '{"format_version": 2}'])
def test_a_key_that_is_none_is_named(study, capsys, content):
    (study / "study.key.json").write_text(content)
    assert scored(study, [sheet(GOOD)]) == 2
    assert "study.key.json is no key" in capsys.readouterr().err


def test_a_study_whose_people_had_different_questions_is_counted(study):
    key = json.loads((study / "study.key.json").read_text()) | {"questions_each": 2}
    (study / "study.key.json").write_text(json.dumps(key))
    sheets = []
    for number, asked in enumerate([("q0", "q1"), ("q1", "q2"), ("q2", "q3")]):
        whole = sheet([(0, 1, 2)] * QUESTIONS, f"P{number}")
        whole["answers"] = [x for x in whole["answers"] if x["question"] in (*asked, "q9")]
        sheets.append(whole)
    found = scored(study, sheets)
    assert found["rankings"] == 6 and found["agreement"]["kendall_w_of_people_by_chance"] == pytest.approx(1 / 2)
    assert found["agreement"]["krippendorff_alpha"] == pytest.approx(1)


def test_every_rank_is_in_a_table(study):
    scored(study, [sheet(GOOD), sheet(BAD, "=cmd()")])
    with (study / "out" / "human_ranks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * QUESTIONS * len(METHODS)
    first = rows[0]
    assert (first["participant"], first["user_id"], first["method"], first["rank"]) == ("1", "u0", "ours", "1")
    assert first["position"] == "2"
    assert "=cmd" not in (study / "out" / "human_ranks.csv").read_text()
