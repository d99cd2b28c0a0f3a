"""The report: every number of the results is on it, it loads nothing, and what names contain stays text."""

import csv
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from browser import Browser
from small_catalogue import write_items
from small_galleries import write_gallery

from iamg_train.evaluation.methods import SHUFFLED, original_item, read_method
from iamg_train.evaluation.metrics import Definition
from iamg_train.evaluation.report import write_report
from iamg_train.evaluation.results import summarise

HOSTILE = "<b>ours</b> & 'more'"
DEFINITIONS = [
    Definition("SSIM", "likeness <to> the item", "higher"),
    Definition("LPIPS", "distance", "lower", "alex.pth 1234abcd"),
    Definition("CLIP-T", "cosine, 100 times", "higher", "ViT-L-14 55aa", unit="x 100"),
    Definition("retrieval", "whose is it", "higher", chance=0.25),
    Definition("diversity", "mean distance", ""),
]


class Reader(HTMLParser):
    """What a browser would show and load."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.pictures, self.text = [], [], [], ""

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.sources += [value for name, value in attributes.items() if name in ("src", "href", "xlink:href")]
        if tag == "img":
            self.pictures.append(attributes["alt"])
        self.text += f" {attributes.get('title', '')} "

    def handle_startendtag(self, tag, attributes):
        self.sources += [value for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def world(tmp_path):
    """Items, results of four methods, one of them in two runs, and a folder for the report."""
    items = write_items(tmp_path / "items", count=40, users=1)
    folders = {"ours": 20, "Openjourney": 90, "λ2 = 0.5@1": 130, "λ2 = 0.5@2": 170}
    methods = [read_method(n if n != "ours" else HOSTILE, write_gallery(tmp_path / n, k)) for n, k in folders.items()]
    methods.append(original_item(items, methods[0]))
    random = np.random.default_rng(0)
    scores = {
        x.name: {
            method.name: {f"u{u}": random.normal(0.3 + 0.1 * k, 0.03, 2) * (100 if x.unit else 1) for u in range(6)}
            for k, method in enumerate(methods)
        }
        for x in DEFINITIONS
    }
    scores["retrieval"][SHUFFLED] = {f"u{u}": random.normal(0.25, 0.05, 2) for u in range(6)}
    results = summarise(
        scores,
        DEFINITIONS,
        methods,
        HOSTILE,
        0,
        command="iamg-train evaluate '<ours>=a'",
        items=items,
        interactions=None,
        sweeps={"λ2": {0.2: HOSTILE, 0.5: "λ2 = 0.5"}},
    )
    results["warnings"] = ["1 of 6 users <has> no history"]
    (tmp_path / "out").mkdir()
    return items, results, tmp_path / "out"


def read(out) -> Reader:
    reader = Reader()
    reader.feed((out / "report.html").read_text(encoding="utf-8"))
    assert reader.open == []
    assert all(source.startswith(("data:image/", "#")) for source in reader.sources)
    return reader


def numbers(part) -> list[float]:
    if isinstance(part, dict):
        return [y for x in part.values() for y in numbers(x)]
    return [part] if isinstance(part, int | float) else []


def test_every_number_of_the_results_is_in_the_table_and_on_the_page(world):
    items, results, out = world
    write_report(results, out, items)
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    text = read(out).text.replace("+", "")
    parts = {name: results[name] for name in ("estimates", "differences", "null")}
    parts["sweeps"] = {symbol: x["metrics"] for symbol, x in results["sweeps"].items()}
    for name, part in parts.items():
        in_table = [float(y) for x in rows if x["part"] == name for k, y in x.items() if y and k in COLUMNS]
        given = numbers(part)
        assert len(given) > 3 and set(given) <= set(in_table), name
        without_runs = json.loads(json.dumps(part), object_hook=lambda x: {k: v for k, v in x.items() if k != "runs"})
        for number in numbers(without_runs):
            shown = (
                f"n = {number}" if isinstance(number, int) else f"{number:.4f}" if abs(number) < 10 else f"{number:.2f}"
            )
            assert shown in text, (name, number)
    assert "6 users, 54 pictures, 5 metrics" in text
    found = {(x["part"], x["metric"], x["method"], x["run"]): x for x in rows}
    estimate = results["estimates"]["LPIPS"]["Openjourney"]
    assert float(found["estimates", "LPIPS", "Openjourney", ""]["high"]) == estimate["high"]
    assert (
        float(found["estimates", "LPIPS", "λ2 = 0.5", "2"]["mean"])
        == results["estimates"]["LPIPS"]["λ2 = 0.5"]["runs"]["2"]
    )


COLUMNS = ("mean", "low", "high", "users", "spread", "p", "p_holm", "effect", "smallest_detectable")


def test_the_page_says_where_it_comes_from_and_names_stay_text(world):
    items, results, out = world
    write_report(results, out, items)
    page = read(out)
    expected = [HOSTILE, "1 of 6 users <has> no history", "likeness <to> the item", "iamg-train evaluate '<ours>=a'"]
    expected += [
        "alex.pth 1234abcd",
        results["data"]["items"],
        "SSIM ↑",
        "LPIPS ↓",
        "Over λ2",
        results["examples"]["rule"],
    ]
    expected += [x["manifest"] for x in results["methods"].values()]
    for words in expected:
        assert words in page.text, words
    for user in (x for place in ("best", "median", "worst") for x in results["examples"][place]):
        assert f"User {user['user_id']}, who liked:" in "".join(page.text.split("  "))
    shown = sum(
        len(x["pictures"]) + len(x["history"]) + 1 for y in ("best", "median", "worst") for x in results["examples"][y]
    )
    assert len(page.pictures) == shown and all(page.pictures) and "not there" not in page.text


@pytest.mark.parametrize(
    ("metric", "difference", "p", "word"),
    [
        ("SSIM", 0.1, 0.01, "better"),
        ("SSIM", -0.1, 0.01, "worse"),
        ("LPIPS", 0.1, 0.01, "worse"),
        ("LPIPS", -0.1, 0.01, "better"),
        ("diversity", 0.1, 0.01, "higher"),
        ("SSIM", 0.1, 0.06, "no difference shown"),
        ("SSIM", 0.1, None, "not tested"),
    ],
)
def test_only_a_corrected_test_makes_a_difference(world, metric, difference, p, word):
    items, results, out = world
    numbers = {"mean": difference, "low": difference, "high": difference, "users": 6, "p": 0.01, "p_holm": p}
    results["differences"] = {metric: {"Openjourney": numbers | {"effect": 1.0, "smallest_detectable": None}}}
    write_report(results, out, items)
    words = ("better", "worse", "higher", "no difference shown", "not tested")
    cells = (out / "report.html").read_text().split("<td>")
    assert [x for x in words if any(f">{x}<" in f">{cell.split('</td>')[0]}<" for cell in cells)] == [word]


def test_what_is_not_known_is_left_out(world):
    items, results, out = world
    alone = {"mean": 0.5, "low": None, "high": None, "users": 1}
    results |= {
        "estimates": {"SSIM": {"ours": alone, "nothing": alone | {"mean": None, "users": 0}}},
        "differences": {"SSIM": {}},
        "null": {},
        "examples": {"rule": "no metric of users has a direction"},
    }
    del results["sweeps"], results["warnings"]
    write_report(results, out, items)
    text = read(out).text
    assert "0.5000" in text and "no metric of users has a direction" in text
    assert "Against" not in text and "shuffled" not in text and "Over" not in text


def test_a_picture_that_is_not_there_is_said_so(world, tmp_path):
    items, results, out = world
    user = results["examples"]["best"][0]
    user["pictures"] = {"Openjourney": str(tmp_path / "gone.png")}
    user["history"] = ["unknown"]
    write_report(results, out, items)
    assert read(out).text.count("not there") == 2


def test_a_browser_shows_it_without_asking_anybody(world, tmp_path):
    items, results, out = world
    write_report(results, out, items)
    for name in ("profile", "downloads"):
        (tmp_path / name).mkdir()
    with Browser(tmp_path / "profile", tmp_path / "downloads") as browser:
        browser.screen(390, 844)
        browser.open(out / "report.html")
        assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
        loaded = browser.evaluate("[...document.images].map(x => x.naturalWidth > 0)")
        assert len(loaded) > 20 and all(loaded)
        assert browser.evaluate("[...document.querySelectorAll('.charts svg')].length") == 10
        assert browser.errors == [] and browser.asked_for == [(out / "report.html").resolve().as_uri()]
