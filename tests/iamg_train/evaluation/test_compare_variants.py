"""`ablate` and `sweep` over the small mini world: what is drawn, what is not drawn twice, and what comes of it."""

import json

import pytest
from small_mini import busiest_users, write_config, write_mini

from iamg_train import generate
from iamg_train.cli import main
from iamg_train.evaluation.methods import read_method

USERS, RUN = 4, 0.5  # λ2 of the run


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The run's settings, without foregrounds, and its users, one of whom is nobody."""
    folder = tmp_path_factory.mktemp("run")
    mini = write_mini(folder / "mini")
    config = write_config(mini, folder, interest_weight=RUN, foreground="none")
    users = folder / "users.jsonl"
    users.write_text("".join(json.dumps({"user_id": x}) + "\n" for x in (*busiest_users(mini, USERS), "nobody")))
    return config, users


@pytest.fixture
def compare(files):
    config, users = files

    def compare(command, out, *flags):
        small = ["--pictures", 1, "--steps", 1, "--width", 64, "--height", 64, "--size", 64, "--gallery-users", 3]
        given = ("--config", config, "--users", users, "--out", out, *small, *flags)
        return main([str(word) for word in (command, *given)])

    return compare


def results_in(out):
    return json.loads((out / "results.json").read_text())


def test_an_ablation_draws_what_is_missing_and_compares_all_with_the_run(compare, tmp_path, capsys, monkeypatch):
    flags = ("--variants", "without-ira", "without-rewrite", "without-foreground")
    with monkeypatch.context() as patch:
        paint, painted = generate.Painter.draw, []

        def stop_after_the_run(self, pictures, progress):
            if painted:
                raise KeyboardInterrupt
            painted.extend(pictures)
            return paint(self, pictures, progress)

        patch.setattr(generate.Painter, "draw", stop_after_the_run)
        assert compare("ablate", tmp_path, *flags) == 130
    assert not (tmp_path / "results.json").exists() and len(painted) == USERS
    assert compare("ablate", tmp_path, *flags) == 0
    told = capsys.readouterr().out
    assert f"{tmp_path}/full: 0 drawn, {USERS} there already" in told.replace("\n", " ")
    assert "without-foreground is what the run does anyway" in told
    results = results_in(tmp_path)
    assert results["reference"] == "full" and results["users"] == USERS
    assert list(results["methods"]) == ["full", "without-ira", "without-rewrite", "original item"]
    for name in ("full", "without-ira", "without-rewrite"):
        assert {line["variant"] for line in manifest(tmp_path / name)} == {name}
        assert results["methods"][name]["manifest"] == read_method(name, tmp_path / name).manifest_hash
        assert results["methods"][name]["settings"]["variant"] == name
    assert set(results["differences"]["SSIM"]) == {"without-ira", "without-rewrite", "original item"}
    assert results["estimates"]["SSIM"]["original item"]["mean"] == pytest.approx(1, abs=1e-3)
    assert "nobody" in told

    monkeypatch.setattr(generate, "load_model", lambda *_: pytest.fail("nothing is to be drawn"))
    assert compare("ablate", tmp_path, *flags) == 0
    assert results_in(tmp_path) == results


def manifest(folder):
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def test_a_sweep_shares_the_runs_own_pictures_and_says_what_each_value_has(compare, tmp_path):
    assert compare("sweep", tmp_path, "--lambda2", 0, RUN, "--K", 2, "--lambda1", "--H") == 0
    assert sorted(
        path.name for path in tmp_path.iterdir() if path.is_dir() and (path / "manifest.jsonl").is_file()
    ) == [
        "K=2",
        "full",
        "lambda2=0",
    ]
    results = results_in(tmp_path)
    of, estimates = results["sweeps"], results["estimates"]["SSIM"]
    assert {symbol: sweep["values"] for symbol, sweep in of.items()} == {"λ2": [0, RUN], "K": [2, 5]}
    assert of["λ2"]["metrics"]["SSIM"] == {"0": estimates["lambda2=0"], "0.5": estimates["full"]}
    assert of["K"]["metrics"]["SSIM"] == {"2": estimates["K=2"], "5": estimates["full"]}
    assert {line["interest_weight"] for line in manifest(tmp_path / "lambda2=0")} == {0}


@pytest.mark.parametrize(
    ("command", "flags", "told"),
    [
        ("ablate", ("--variants", "without-foreground"), "no variant differs from the run"),
        ("ablate", ("--variants", "without-anything"), "there is no variant 'without-anything'"),
        ("sweep", ("--lambda2", RUN, "--lambda1", "--H", "--K"), "no number differs from the run's"),
        ("sweep", ("--H", 0, "--lambda1", "--lambda2", "--K"), "--interest-tags is 0"),
    ],
)
def test_bad_input_is_told_before_anything_is_drawn(compare, tmp_path, capsys, command, flags, told):
    assert compare(command, tmp_path / "out", *flags) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
