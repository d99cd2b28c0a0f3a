"""The whole demo in a real ComfyUI: on its own catalogue and weights, and on items and weights that are given."""

import csv
import json
import re
import shutil
from collections import Counter

import pytest

from iamg_train import demo_world
from iamg_train.cli import main

pytestmark = [pytest.mark.comfy, pytest.mark.slow]

DRAWN = re.compile(r"<img src='([^']+)' alt='([^']* (?:redrawn for|for|liked)[^']*)'")


@pytest.fixture(scope="module")
def out(comfyui, tmp_path_factory):
    """The demo as `make demo` runs it, in a smaller world."""
    out = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMFYUI_PATH", str(comfyui))
        patch.setattr(demo_world, "ITEMS", 100)
        patch.setattr(demo_world, "USERS", 300)
        assert main(["demo", "--out", str(out), "--steps", "4"]) == 0
    return out


def drawings(out) -> dict[str, str]:
    """Drawn pictures by what is said of them."""
    found = DRAWN.findall((out / "index.html").read_text(encoding="utf-8"))
    return {told: source for source, told in found}


def test_two_people_get_pictures_of_their_own_from_the_same_item(out):
    text = (out / "index.html").read_text(encoding="utf-8")
    assert "What Ada liked" in text and "What Boris liked" in text and "no trained IRA" not in text
    found = drawings(out)
    title = next(told for told in found if told.endswith(", redrawn for Ada")).removesuffix(", redrawn for Ada")
    ada, boris = (found[f"{title}, redrawn for {name}"] for name in ("Ada", "Boris"))
    assert ada != boris
    assert found[f"{title}, with what Boris liked"] != found[f"{title}, with what Ada liked"]
    for name in ("Ada", "Boris"):
        strip = [f"{title} for {name}, λ2 = {weight}" for weight in ("0", "0.1", "0.2", "0.3", "0.5")]
        strip += [f"{title} for {name}, λ1 = {weight}" for weight in ("0", "0.25", "0.5", "0.75", "1")]
        assert len({found[told] for told in strip}) == 9  # λ2 = 0.2 and λ1 = 1 are one picture


def test_everything_lies_under_out_and_the_pack_was_loaded(out):
    assert {path.name for path in out.iterdir()} == {"catalogue", "comfyui", "models", "index.html"}
    assert "IMPORT FAILED" not in (out / "comfyui" / "comfyui.log").read_text()


@pytest.fixture(scope="module")
def few_items(out, tmp_path_factory):
    """What two users of the drawn catalogue liked last, as somebody's own folder: no masks, and no truth beside it."""
    folder = tmp_path_factory.mktemp("items") / "few"
    with open(out / "catalogue" / "interactions.csv", newline="") as file:
        liked = [row for row in csv.DictReader(file) if float(row["rating"]) >= 4]
    users = [user for user, count in Counter(row["user_id"] for row in liked).items() if count >= 4][:2]
    rows = [row for user in users for row in [row for row in liked if row["user_id"] == user][-4:]]
    shutil.copytree(out / "catalogue" / "images", folder / "images")
    with open(folder / "interactions.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    kept = {row["item_id"] for row in rows}
    lines = (out / "catalogue" / "metadata.jsonl").read_text().splitlines(keepends=True)
    (folder / "metadata.jsonl").write_text("".join(line for line in lines if json.loads(line)["item_id"] in kept))
    return folder, users


def test_given_items_and_weights_are_what_is_drawn(few_items, comfyui, tmp_path, monkeypatch):
    from seeded_sd15 import write_seeded_sd15

    from iamg.pictures import open_picture

    folder, users = few_items
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    samples = [(row["text"], open_picture(folder / row["file_name"])) for row in rows]
    checkpoint, clip_vision, ip_adapter = write_seeded_sd15(tmp_path / "weights", samples)
    monkeypatch.setenv("COMFYUI_PATH", str(comfyui))
    argv = ["--items", folder, "--users", *users, "--checkpoint", checkpoint, "--clip-vision", clip_vision]
    argv += ["--ip-adapter", ip_adapter, "--width", 64, "--height", 96, "--steps", 2, "--history-length", 2]
    argv += ["--top-k", 2, "--interest-weights", 0.3, "--text-weights", "--out", tmp_path]
    assert main(["demo", *map(str, argv)]) == 0
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert all(f"What {user} liked" in text for user in users) and "no trained IRA" in text
    found = drawings(tmp_path)
    for user in users:
        assert sum(told.endswith(f", redrawn for {user}") for told in found) == 1
        assert sum(f"for {user}, λ2 = 0.3" in told for told in found) == 1
    assert not any("λ1" in told for told in found)
