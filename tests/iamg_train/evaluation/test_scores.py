import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from iamg_train.evaluation.scores import ScoreFile, Subject, read_scores


def subject(number: int, metric: str = "SSIM", method: str = "ours") -> Subject:
    return Subject(metric, method, f"u{number % 2}", "i", f"{number}.png")


def fill(path: Path, wanted: dict[Subject, str], value: float) -> list[Subject]:
    """One run; what it computed."""
    with ScoreFile(path) as scores:
        missing = scores.missing(wanted)
        scores.add(dict.fromkeys(missing, value))
        assert scores.missing(wanted) == []
    scores.finish()
    return missing


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_is_known_is_not_asked_for_again(tmp_path):
    path, wanted = tmp_path / "scores.jsonl", {subject(n): f"key {n}" for n in range(4)}
    assert fill(path, wanted, 0.25) == list(wanted)
    assert fill(path, wanted, 9) == []
    assert read_scores(path)["SSIM"]["ours"]["u0"].tolist() == [0.25, 0.25] and len(rows(path)) == 4


def test_a_changed_picture_replaces_its_value_and_a_removed_one_is_gone(tmp_path):
    path, wanted = tmp_path / "scores.jsonl", {subject(n): f"key {n}" for n in range(4)}
    fill(path, wanted, 1.0)
    del wanted[subject(3)]
    assert fill(path, wanted | {subject(0): "redrawn"}, 2.0) == [subject(0)]
    assert {user: x.tolist() for user, x in read_scores(path)["SSIM"]["ours"].items()} == {"u0": [2, 1], "u1": [1]}


def test_equal_pictures_are_computed_once_and_counted_each(tmp_path):
    path = tmp_path / "scores.jsonl"
    wanted = {subject(0): "same", subject(1): "same", subject(0, method="again"): "same"}
    assert len(fill(path, wanted, 3.0)) == 1
    assert {(x["method"], x["file"]) for x in rows(path)} == {("ours", "0.png"), ("ours", "1.png"), ("again", "0.png")}


def test_a_value_of_a_metric_of_items_is_found_under_the_item(tmp_path):
    fill(tmp_path / "s.jsonl", {Subject("diversity", "ours", "", "i7", ""): "k"}, 0.5)
    assert read_scores(tmp_path / "s.jsonl")["diversity"]["ours"]["i7"].tolist() == [0.5]


def test_what_is_no_number_is_refused(tmp_path):
    with pytest.raises(ValueError, match="SSIM of ours, 0.png is nan"):
        fill(tmp_path / "s.jsonl", {subject(0): "k"}, float("nan"))


def test_lines_of_other_origin_are_passed_over(tmp_path):
    path = tmp_path / "s.jsonl"
    fill(path, {subject(0): "k"}, 1.0)
    other = ['{"metric": 1}', '{"value": "x"}', "[]", "no JSON", json.dumps(rows(path)[0] | {"value": "NaN"})]
    path.write_text(path.read_text() + "\n".join(other) + "\n")
    assert read_scores(path)["SSIM"]["ours"]["u0"].tolist() == [1.0]


def test_without_a_file_there_is_nothing_to_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="run `iamg-train evaluate`"):
        read_scores(tmp_path / "absent.jsonl")


SLOWLY = """
import sys, time
from pathlib import Path
from iamg_train.evaluation.scores import ScoreFile, Subject
wanted = {Subject("SSIM", "ours", f"u{n}", "i", f"{n}.png"): f"key {n}" for n in range(300)}
with ScoreFile(Path(sys.argv[1])) as scores:
    for subject in scores.missing(wanted):
        with open(sys.argv[2], "a") as computed:
            computed.write(subject.file + "\\n")
        scores.add({subject: 1.0})
        time.sleep(0.002)
scores.finish()
"""


def test_after_kills_nothing_that_was_kept_is_computed_again_and_nothing_is_missing(tmp_path):
    path, computed = tmp_path / "scores.jsonl", tmp_path / "computed.txt"
    kills = 0
    while True:
        process = subprocess.Popen([sys.executable, "-c", SLOWLY, path, computed], cwd=Path(__file__).parents[3])
        before = path.stat().st_size if path.exists() else 0
        while kills < 3 and process.poll() is None and (not path.exists() or path.stat().st_size < before + 4000):
            time.sleep(0.005)
        if kills == 3:
            assert process.wait() == 0
            break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    assert sorted(x["file"] for x in rows(path)) == sorted(f"{n}.png" for n in range(300))
    assert 300 <= len(computed.read_text().splitlines()) <= 300 + kills  # the one in flight at each kill
