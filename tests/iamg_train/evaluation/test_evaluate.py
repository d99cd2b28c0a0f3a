"""`iamg-train evaluate` on the small catalogue: what it writes, and that kills neither lose nor double anything."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_catalogue import write_items
from small_galleries import write_gallery

from iamg_train.cli import main
from iamg_train.evaluation.scores import read_scores

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("evaluation")
    galleries = {name: write_gallery(folder / name, shade) for name, shade in (("ours", 40), ("theirs", 120))}
    return {"items": write_items(folder / "items"), **galleries}


def command(folders: dict[str, Path], out: Path, *more: str) -> list[str]:
    methods = [f"{name}={folders[name]}" for name in ("ours", "theirs")]
    where = ["--items", str(folders["items"]), "--out", str(out)]
    return ["evaluate", *methods, *where, "--clip-model", "iamg_mini", "--size", "64", "--gallery-users", "4", *more]


def rows(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def evaluated(folders, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out")
    assert main(command(folders, out)) == 0
    return out


def test_results_have_all_methods_and_metrics(evaluated):
    results = json.loads((evaluated / "results.json").read_text())
    assert list(results["methods"]) == ["ours", "theirs", "original item"] and results["reference"] == "ours"
    names = {"SSIM", "CLIP score", "CLIP score x100", "CLIP-I, original", "CLIP-I, history", "copies, original"}
    names |= {"CLIP-I, history minus others'", "which user, CLIP-I, history", "which user, interest tags"}
    assert names <= set(results["estimates"])
    original = {name: of["original item"]["mean"] for name, of in results["estimates"].items()}
    assert original["SSIM"] == pytest.approx(1, abs=1e-3) and original["CLIP-I, original"] == pytest.approx(1, abs=1e-5)
    assert original["copies, original"] == 1 and results["estimates"]["copies, original"]["ours"]["mean"] == 0
    assert results["metrics"]["which user, interest tags"]["chance"] == 1 / 4
    assert set(results["null"]) >= {"which user, interest tags", "interest tags minus others'"}
    assert str(evaluated.parent) not in (evaluated / "scores.jsonl").read_text()
    assert (evaluated / "report.html").is_file()


def test_pictures_are_counted_once_each(evaluated):
    scores = read_scores(evaluated / "scores.jsonl")
    assert {name: len(x) for name, x in scores["SSIM"]["ours"].items()} == {f"u{n}": 2 for n in range(6)}
    subjects = [tuple(x[key] for key in ("metric", "method", "user_id", "objective", "file")) for x in rows(evaluated)]
    assert len(set(subjects)) == len(subjects)


def test_a_second_run_computes_nothing_and_says_the_same(folders, evaluated, monkeypatch):
    from iamg_train.evaluation import metrics_likeness, metrics_users

    before = {name: (evaluated / name).read_bytes() for name in ("scores.jsonl", "results.json")}
    for kind in (metrics_likeness.Likeness, metrics_users._Gallery):
        monkeypatch.setattr(kind, "values", lambda *_: pytest.fail("computed again"))
    assert main(command(folders, evaluated)) == 0
    assert before == {name: (evaluated / name).read_bytes() for name in before}


@pytest.mark.slow
def test_killed_runs_end_as_one_that_was_not(folders, evaluated, tmp_path):
    """kill -9 as soon as some more rows are there, three times; one picture a batch, so that there is what to interrupt."""
    code = "import sys; from iamg_train.evaluation import measuring; from iamg_train.cli import main\n"
    code += "measuring.TOGETHER = 1; sys.exit(main(sys.argv[1:]))"
    log, kept = tmp_path / "scores.jsonl", []
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", code, *command(folders, tmp_path)], cwd=ROOT)
        before = log.stat().st_size if log.exists() else 0
        while not log.exists() or log.stat().st_size < before + 6000:
            assert process.poll() is None
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kept.append(log.read_bytes().rpartition(b"\n")[0])
        assert kept[-1].startswith(kept[0])
    lines = kept[-1].splitlines()
    assert len(set(lines)) == len(lines)  # nothing that was kept was computed or written again
    assert main(command(folders, tmp_path)) == 0

    def values(out: Path) -> dict:
        return {tuple(v for k, v in x.items() if k != "value"): x["value"] for x in rows(out)}

    assert values(tmp_path) == pytest.approx(values(evaluated), abs=1e-5) and len(rows(tmp_path)) == len(
        rows(evaluated)
    )


def test_what_not_all_methods_have_is_left_out_and_said(folders, tmp_path):
    fewer = write_gallery(tmp_path / "fewer", 90, users=4)
    methods = [f"ours={folders['ours']}", f"fewer={fewer}"]
    where = ["--items", str(folders["items"]), "--out", str(tmp_path / "out"), "--size", "64"]
    assert main(["evaluate", *methods, *where]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["users"] == 4 and any("2 users and objectives of 'ours'" in x for x in results["warnings"])


def test_an_unknown_reference_is_refused_before_anything_is_measured(folders, tmp_path, capsys):
    assert main(command(folders, tmp_path, "--reference", "nobody")) == 2
    assert "'nobody' is not among the methods ours, theirs, original item" in capsys.readouterr().err
    assert not (tmp_path / "scores.jsonl").exists()
