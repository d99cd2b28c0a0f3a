"""The summary: all that a run left, on a page that loads nothing; whatever is missing is left out."""

import base64
import json
from html.parser import HTMLParser
from io import BytesIO

import pytest
from PIL import Image

from iamg_train.charts import SECOND, Curve, line_chart
from iamg_train.summary import write_summary

VOID = ("meta", "img", "input", "br")


class Reader(HTMLParser):
    """What a browser would show and load."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.images, self.hidden, self.text = [], [], [], [], ""

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        self.sources += [value for name, value in attributes.items() if name in ("src", "href", "xlink:href")]
        if tag == "img":
            self.images.append(base64.b64decode(attributes["src"].removeprefix("data:image/png;base64,")))
            self.hidden.append("hidden" in attributes)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data


def read(path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert reader.open == []
    assert all(source.startswith(("data:image/png;", "#")) for source in reader.sources)
    return reader


@pytest.fixture
def run(tmp_path):
    """All that a finished run leaves behind, its last log line cut short."""
    run = tmp_path / "runs" / "<i>mine</i> & yours"
    (run / "samples").mkdir(parents=True)
    (tmp_path / "prepared").mkdir()
    counts = {"train": 1350, "test": 150, "unknown_items": 3, "short_users": 12, "skipped_rows": 0}
    (tmp_path / "prepared" / "prepared.json").write_text(json.dumps({"counts": counts}))
    (run / "config.toml").write_text(f"[data]\nprepared = '{tmp_path / 'prepared'}'\nscenario = '<b>bold</b>'\n")
    losses = "".join(f"{step},{1 / step},0.0001,{step}\n" for step in range(10, 1001, 10))
    (run / "log.csv").write_text("step,loss,learning_rate,samples_per_second\n" + losses + "1010,0.0")
    (run / "held_out.csv").write_text(
        "step,held_out,control,difference,standard_error\n500,0.2,0.2,0.0,0.01\n1000,0.125,0.25,0.125,0.01\n"
    )
    for step, colour in ((500, "red"), (1000, "blue")):
        Image.new("RGB", (8, 4), colour).save(run / "samples" / f"step_{step:08d}.png")
    (run / "weights.safetensors").write_bytes(bytes(3 << 20))
    return run


def test_everything_that_a_run_left_is_on_one_page(run):
    path = write_summary(run)
    page = read(path)
    assert path == run / "summary.html" and not (run / "summary.html.part").exists()
    for expected in (
        "<i>mine</i> & yours",
        "scenario = '<b>bold</b>'",
        "steps1,000",
        "held-out loss0.1250",
        "the held-out loss is worse",
        "tells users apart",
        "1,350 users to train on, 150 held out",
        "Left out: 3 items that the pool lacks, 12 users with too few liked items.",
        "3.0 MiB",
        'weight_name="weights.safetensors"',
        "each logged step",
        "own history",
        "another user's history",
        "learning rate",
    ):
        assert expected in page.text, expected


def test_the_newest_grid_is_shown_and_all_can_be_reached(run):
    page = read(write_summary(run))
    colours = [Image.open(BytesIO(image)).getpixel((0, 0)) for image in page.images]
    assert colours == [(255, 0, 0), (0, 0, 255)] and page.hidden == [True, False]
    assert "Step 1,000" in page.text
    html = (run / "summary.html").read_text()
    assert "type='range' min='0' max='1' value='1'" in html and "<noscript>" in html


def test_a_branch_that_learned_nothing_is_said_so(run):
    (run / "held_out.csv").write_text(
        "step,held_out,control,difference,standard_error\n500,0.2,0.3,0.1,0.01\n1000,0.2,0.2,0.0,inf\n"
    )
    page = read(write_summary(run))
    assert "learned nothing" in page.text and "tells users apart" not in page.text


PARTS = {
    "log.csv": "Training loss",
    "held_out.csv": "Held-out loss",
    "samples": "Held-out users",
    "weights.safetensors": "Weights",
    "config.toml": "Settings",
}


@pytest.mark.parametrize("missing", PARTS)
def test_what_is_missing_is_left_out(run, missing):
    whole = read(write_summary(run)).text
    (run / missing).rename(run.parent / missing)
    page = read(write_summary(run)).text
    for part, heading in PARTS.items():
        assert heading in whole and (heading in page) == (part != missing)


def test_a_run_that_left_nothing_has_a_page_too(tmp_path):
    (tmp_path / "log.csv").write_text("step,loss,learning_rate,samples_per_second\n")
    page = read(write_summary(tmp_path))
    assert tmp_path.name in page.text and page.sources == []


def test_a_chart_has_its_words_as_text_in_the_page_colours():
    svg = line_chart([Curve("one", [0, 1], [2, 3], SECOND), Curve("two", [0, 1], [3, 2], SECOND)], "how much")
    assert svg.startswith("<svg") and SECOND not in svg and "var(--second)" in svg
    reader = Reader()
    reader.feed(svg)
    for word in ("one", "two", "how much", "step"):
        assert word in reader.text
    alone = Reader()
    alone.feed(line_chart([Curve("one", [0, 1], [2, 3], SECOND)], "how much"))
    assert "one" not in alone.text  # one curve needs no legend
