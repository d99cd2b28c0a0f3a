"""The page's sentences and tables follow from the numbers, and from nothing else."""

import numpy as np
import pytest

from iamg_train.evaluation.statistics import Bootstrap
from iamg_train.mini.evaluation_plots import Example
from iamg_train.mini.evaluation_report import BEGIN, END, write_report
from iamg_train.mini.interest_reach import PSI, THEIR_OWN
from iamg_train.mini.measures import FIDELITY, MEASURES, SUBJECT
from iamg_train.mini.variants import FULL, ITEM, SWEEPS, TRAINED, TRAINED_PAPER, variants_of

USERS = 80
# What is planted, by variant: interest fidelity and subject kept, each the full method's unless named.
PLANTED = {"rewrite only": (-0.2, 0.0), "without foreground": (0.2, -0.3), "base model": (-0.5, 0.2)}


@pytest.fixture
def results():
    chance = np.random.default_rng(0)
    users = chance.normal(0, 0.01, size=USERS)

    def values(fidelity, subject):
        noise = {name: 0.3 + users + chance.normal(0, 1e-4, USERS) * (fidelity != 0.5) for name in MEASURES}
        return noise | {FIDELITY: fidelity + users, SUBJECT: subject + users}

    bootstrap = Bootstrap(USERS, 0)
    variants = {"original item": values(0.5, 0.5)}
    for variant in variants_of(()):
        more, kept = PLANTED.get(variant.name, (0.0, 0.0))
        variants[variant.name] = values(0.5 + more, 0.5 + kept)
    sweeps = {
        x.symbol: {f"{value:g}": values(0.5 - 0.1 * abs(value - x.full), 0.5 + 0.01 * value) for value in x.values}
        for x in SWEEPS
    }
    return {
        "command": "iamg-train mini evaluate",
        "settings": {"users": USERS, "seeds": 4, "sweep_seeds": 1, "steps": 20, "guidance_scale": 4.0, "seed": 0},
        "weights": {"adapter": {"file": "a.safetensors", "xxh3_128": "0" * 32}},
        "reader": {"rendered": {"subject": 0.995}, "encoded and decoded": {"subject": 0.9}},
        "drawn": {x.name: vars(x) for x in variants_of(())},
        "variants": bootstrap.compare(variants, FULL.name),
        "sweeps": {x.symbol: bootstrap.compare(sweeps[x.symbol], f"{x.full:g}") for x in SWEEPS},
        "loved": bootstrap.compare({THEIR_OWN: values(0.4, 0.5), PSI: values(0.125, 0.5)}, THEIR_OWN),
        "moves": {TRAINED: {ITEM: {"mean": 0.03, "low": 0.02, "high": 0.04}}},
    }


@pytest.fixture
def write(tmp_path):
    def write(results):
        page = tmp_path / "page.md"
        page.write_text(f"{BEGIN}\n{END}\n")
        grey = np.full((64, 64, 3), 128, np.uint8)
        write_report(page, results, [Example("loves red", {"original item": grey, "full method": grey})] * 2)
        return page.read_text()

    return write


def test_what_the_intervals_say_is_said(results, write):
    lines = write(results).splitlines()
    against = next(x for x in lines if x.startswith("- interest fidelity, against the full method"))
    assert "*higher* without foreground;" in against and against.endswith("*lower* base model, rewrite only.")
    assert "*not different* original item, base + picture," in against
    kept = next(x for x in lines if x.startswith("- subject kept, against"))
    assert "*higher* base model;" in kept and kept.endswith("*lower* without foreground.")
    above = next(x for x in lines if x.startswith("- interest fidelity: "))
    assert "*above 0*" in above and above.endswith("*not different from 0* base model.")
    assert "- interest fidelity over λ2: greatest at 0.2; against λ2 = 0.2 *lower* 0, 0.1, 0.3, 0.5, 1." in lines
    assert "- subject kept over K: greatest at 10; against K = 5 *higher* 10; *lower* 1, 3." in lines


def test_tables_hold_the_numbers(results, write):
    text = write(results)
    x = results["variants"]["rewrite only"]["differences"][FIDELITY]
    assert x["mean"] == pytest.approx(-0.2)
    assert f"| rewrite only | {x['mean']:+.3f} [{x['low']:+.3f}, {x['high']:+.3f}] |" in text
    assert "| rendered posters | 99.50% |" in text and "| encoded and decoded posters | 90.00% |" in text
    assert "| IRA only | T_i | foreground | 0.2 | training items | nearest to the item's picture | fine-tuned |" in text
    assert "| base model | T_i | none | 0 | training items | none | stock IP-Adapter |" in text
    shown = results["loved"][PSI]["estimates"][FIDELITY]["mean"]
    assert f"| {PSI} | {shown:.3f} [" in text and "| fine-tuned | 0.030 [0.020, 0.040] |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)


def test_the_page_says_when_nothing_was_trained_without_leave_one_out(results, write):
    said = "No adapter was fine-tuned without leave-one-out"
    assert said in write(results)
    results["weights"][TRAINED_PAPER] = results["weights"]["adapter"]
    assert said not in write(results)
