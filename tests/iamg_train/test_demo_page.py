"""The page: one file that needs no other, every picture described, and whatever users and titles contain stays text."""

from html.parser import HTMLParser
from io import BytesIO

import pytest
from PIL import Image

from iamg_train.demo_page import Page, Result, write_page

ITEM = {"item_id": "x", "title": "Tom & <b>Jerry</b>", "tags": ["cat"], "text": ""}


class Reader(HTMLParser):
    """What a browser would show and load."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.text, self.described = [], [], "", {}

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag == "img":
            self.described[dict(attributes)["alt"]] = dict(attributes)["src"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def png(shade: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(file, "PNG")
    return file.getvalue()


def result(name="ann", trained=True, other_picture=None):
    neighbours = [{**ITEM, "similarity": 0.5, "attention": 0.75}, {**ITEM, "similarity": -0.1, "attention": 0.25}]
    told = {
        "IAMGUserHistory": {"user_id": name, "objective": ITEM, "history": [ITEM, ITEM]},
        "InterestRewrite": {
            "text": "Kept words. This movie poster is about cat, maybe related to dog, sun.",
            "text_kept": "Kept words.",
            "text_cut": "Cut <i>words</i>.",
            "item_tags": ["cat"],
            "item_tags_cut": ["mouse"],
            "interest_tags": ["dog", "sun"],
            "interest_tags_cut": [],
            "tokens": 17,
        },
        "IRAFuse": {"text": neighbours, "image": neighbours, "trained": trained},
    }
    pictures = {(1, 0.2): png(1), (1, 0): png(2), (1, 0.5): png(3), (0, 0.2): png(4)}
    return Result(name, told, (1, 0.2), pictures, "somebody else", other_picture)


def written(folder, *results, drawn=False, mini=False) -> Reader:
    write_page(folder / "index.html", Page(results, 72, drawn, mini), lambda item: Image.new("RGB", (800, 1200), "red"))
    assert [path.name for path in folder.iterdir()] == ["index.html"]
    reader = Reader()
    reader.feed((folder / "index.html").read_text(encoding="utf-8"))
    assert reader.open == []
    return reader


def test_the_page_shows_every_step_and_loads_nothing(tmp_path):
    page = written(tmp_path, result("ann"), result("<script>"))
    assert page.sources and all(source.startswith("data:image/") for source in page.sources)
    for expected in (
        "Tom & <b>Jerry</b>, redrawn for ann and <script>",
        "What <script> liked",
        "Kept words.",
        "Cut <i>words</i>., mouse",
        "17 of 75",
        "0.50",
        "75%",
        "72 items",
    ):
        assert expected in page.text
    assert all(page.described)  # no picture without words


def test_what_is_seen_first_is_drawn_with_the_workflows_own_weights(tmp_path):
    page = written(tmp_path, result())
    title = "Tom & <b>Jerry</b>"
    first = page.described[f"{title}, redrawn for ann"]
    assert first == page.described[f"{title} for ann, λ2 = 0.2"] == page.described[f"{title} for ann, λ1 = 1"]
    strips = [name for name in page.described if "λ" in name]
    assert strips == [f"{title} for ann, {weight}" for weight in ("λ2 = 0", "λ2 = 0.2", "λ2 = 0.5", "λ1 = 0", "λ1 = 1")]
    assert len({page.described[name] for name in strips}) == 4  # the one with λ2 = 0.2 and λ1 = 1 is in both


def test_the_other_history_is_shown_where_there_is_one(tmp_path):
    assert "wrong history" not in written(tmp_path, result()).text
    page = written(tmp_path, result(other_picture=png(9)))
    assert page.described["Tom & <b>Jerry</b>, with what somebody else liked"] not in (
        page.described["Tom & <b>Jerry</b>, redrawn for ann"],
        None,
    )


def test_a_sweep_of_one_picture_is_no_sweep(tmp_path):
    alone = result()
    for weights in list(alone.pictures)[1:]:
        del alone.pictures[weights]
    assert "λ2" not in written(tmp_path, alone).text


@pytest.mark.parametrize("trained", [True, False])
def test_an_untrained_ira_is_told(tmp_path, trained):
    assert ("no trained IRA" in written(tmp_path, result(trained=trained)).text) != trained


@pytest.mark.parametrize("own", [True, False])
def test_only_the_demos_own_catalogue_and_model_are_called_so(tmp_path, own):
    text = written(tmp_path, result(), drawn=not own, mini=not own).text
    assert ("invented users" in text) != own and ("the small one that comes with the pack" in text) != own
