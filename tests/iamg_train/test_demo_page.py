"""The page: one file that needs no other, and whatever users and titles contain stays text."""

from html.parser import HTMLParser
from io import BytesIO

import pytest
from PIL import Image

from iamg_train.demo_page import Drawing, UserResult, write_page

ITEM = {"item_id": "x", "title": "Tom & <b>Jerry</b>", "tags": ["cat"], "text": ""}


class Reader(HTMLParser):
    """What a browser would show and load."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.text = [], [], ""

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def result(user="ann", trained=True):
    neighbours = [{**ITEM, "similarity": 0.5, "attention": 0.75}, {**ITEM, "similarity": -0.1, "attention": 0.25}]
    file = BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    return UserResult(
        history={"user_id": user, "objective": ITEM, "history": [ITEM, ITEM]},
        rewrite={
            "text": "Kept words. This movie poster is about cat, maybe related to dog, sun.",
            "text_kept": "Kept words.",
            "text_cut": "Cut <i>words</i>.",
            "item_tags": ["cat"],
            "item_tags_cut": ["mouse"],
            "interest_tags": ["dog", "sun"],
            "interest_tags_cut": [],
            "tokens": 17,
        },
        fused={"text": neighbours, "image": neighbours, "trained": trained},
        drawings=[Drawing(0.0, [file.getvalue()]), Drawing(0.2, [file.getvalue()])],
        thumbnail=lambda item: Image.new("RGB", (8, 12), "red"),
    )


def read(path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert reader.open == []
    return reader


def test_the_page_shows_every_step_and_loads_nothing(tmp_path):
    write_page(tmp_path / "index.html", [result("ann"), result("<script>")], pool_size=72, random_weights=True)
    page = read(tmp_path / "index.html")
    assert page.sources and all(source.startswith("data:image/") for source in page.sources)
    for expected in (
        "Tom & <b>Jerry</b>",
        "<script>",
        "Kept words.",
        "Cut <i>words</i>.; mouse",
        "17 of 75",
        "0.50",
        "75%",
    ):
        assert expected in page.text
    assert "λ2 = 0.2" in page.text and "72 items" in page.text
    assert "The weights are random, so the pictures are texture." in page.text
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


@pytest.mark.parametrize("trained", [True, False])
def test_real_weights_are_not_called_random_but_an_untrained_ira_is_told(tmp_path, trained):
    write_page(tmp_path / "index.html", [result(trained=trained)], pool_size=1, random_weights=False)
    page = read(tmp_path / "index.html")
    assert "random" not in page.text
    assert ("no trained IRA" in page.text) != trained
