"""The command from end to end on a small world, and the section it writes."""

import json

import pytest
from small_mini import evaluation, write_mini

from iamg_train.mini import drawing, evaluate
from iamg_train.mini.attribute_reader import AttributeReader
from iamg_train.mini.evaluation_report import BEGIN, END
from iamg_train.mini.measures import FIDELITY, MEASURES, OTHER, OWN, SSIM
from iamg_train.mini.variants import SWEEPS, VARIANTS

PERFECT = dict.fromkeys(("subject", "colour", "setting", "pattern", "frame", "charm"), 1.0)


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    return write_mini(tmp_path_factory.mktemp("mini"))


@pytest.fixture(scope="module")
def untaught():
    """For a reader that takes no minutes to train: what it reads of random weights' pictures matters to no test."""
    return AttributeReader().eval()


@pytest.fixture(autouse=True)
def quick(monkeypatch, untaught):
    monkeypatch.setattr(evaluate, "train_reader", lambda folder, seed: untaught)
    monkeypatch.setattr(evaluate, "measure_accuracy", lambda *_: {"rendered": PERFECT, "encoded and decoded": PERFECT})


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(f"# Before\n\n{BEGIN}\nstale\n{END}\n\nAfter.\n")
    return path


@pytest.mark.slow
def test_it_measures_every_variant_and_every_point_and_draws_nothing_twice(mini, tmp_path, page, monkeypatch):
    arguments = evaluation(mini, tmp_path / "out", docs=page)
    assert evaluate.run(arguments) == 0
    results = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert set(results["variants"]) == {"original item", *(x.name for x in VARIANTS)}
    assert {x: list(y) for x, y in results["sweeps"].items()} == {
        x.symbol: [f"{value:g}" for value in x.values] for x in SWEEPS
    }
    for name, compared in results["variants"].items():
        estimates = compared["estimates"]
        assert set(MEASURES) <= set(estimates)
        assert all(x["low"] <= x["mean"] + 1e-9 and x["mean"] <= x["high"] + 1e-9 for x in estimates.values())
        own, other = (estimates[x]["mean"] for x in (OWN, OTHER))
        assert estimates[FIDELITY]["mean"] == pytest.approx(own - other)
        if name != "full method":
            full = results["variants"]["full method"]["estimates"][SSIM]["mean"]
            assert compared["differences"][SSIM]["mean"] == pytest.approx(estimates[SSIM]["mean"] - full)
    original = results["variants"]["original item"]["estimates"]
    assert original[SSIM] == {"mean": 1, "low": 1, "high": 1} and original[FIDELITY]["mean"] == 0
    assert results["sweeps"]["λ2"]["0.2"] == results["sweeps"]["K"]["5"]
    assert {len(x["xxh3_128"]) for x in results["weights"].values()} == {32}
    assert results["settings"]["users"] == 3 and results["reader"]["rendered"] == PERFECT

    text = page.read_text()
    assert text.startswith("# Before\n\n") and text.endswith(f"{END}\n\nAfter.\n") and "stale" not in text
    shown = results["variants"]["IRA only"]["estimates"][SSIM]
    assert f"{shown['mean']:.3f} [{shown['low']:.3f}, {shown['high']:.3f}] |" in text
    assert "iamg-train mini evaluate --world world --pool pool" in text and str(tmp_path) not in text
    for name in ("variants.png", "sweeps.png", "pictures.webp"):
        assert f"](page/{name})" in text and (tmp_path / "page" / name).stat().st_size > 1000

    written = [(tmp_path / "out" / "evaluation.json").read_bytes(), page.read_bytes()]
    monkeypatch.setattr(drawing, "draw_latents", lambda *_: pytest.fail("drawn again"))
    assert evaluate.run(arguments) == 0
    assert [(tmp_path / "out" / "evaluation.json").read_bytes(), page.read_bytes()] == written


def test_with_a_reader_that_errs_nothing_is_drawn(mini, tmp_path, monkeypatch):
    erring = {"rendered": PERFECT | {"frame": 0.9}, "encoded and decoded": PERFECT}
    monkeypatch.setattr(evaluate, "measure_accuracy", lambda *_: erring)
    with pytest.raises(ValueError, match="reads frame rightly on 90.0%"):
        evaluate.run(evaluation(mini, tmp_path / "out"))
    assert not (tmp_path / "out" / "pictures").exists()


@pytest.mark.parametrize("text", [None, "no markers", f"{END}\n{BEGIN}", f"{BEGIN}\n{BEGIN}\n{END}"])
def test_a_page_without_a_place_for_the_section_is_refused_before_anything_is_done(text, mini, tmp_path):
    page = tmp_path / "page.md"
    if text is not None:
        page.write_text(text)
    with pytest.raises(ValueError, match="page.md has no place for the evaluation; put the lines"):
        evaluate.run(evaluation(mini, tmp_path / "out", docs=page))
    assert not (tmp_path / "out").exists()
    assert (page.read_text() if page.exists() else None) == text


@pytest.mark.parametrize(
    "flags, expected", [({"users": 1}, "--users is 1, expected 2"), ({"seeds": 0}, "--seeds is 0")]
)
def test_counts_that_are_too_small_are_refused(flags, expected, mini, tmp_path):
    with pytest.raises(ValueError, match=expected):
        evaluate.run(evaluation(mini, tmp_path / "out", **flags))


def test_weights_that_are_not_there_are_all_named(mini, tmp_path):
    lacking = {"adapter": tmp_path / "x.safetensors", "adapter_paper": tmp_path / "y.safetensors"}
    with pytest.raises(FileNotFoundError) as error:
        evaluate.run(evaluation(mini | lacking, tmp_path / "out"))
    assert [line.split(":")[0] for line in str(error.value).splitlines()] == ["--adapter", "--adapter-paper"]
