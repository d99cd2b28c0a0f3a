"""The whole demo, in a real ComfyUI, on a small folder of items."""

import json
import os
import re
import shutil

import pytest

from iamg_train import demo
from iamg_train.cli import main
from iamg_train.demo_catalogue import write_catalogue

pytestmark = [pytest.mark.comfy, pytest.mark.slow]

SMALL = ["--width", "64", "--height", "64", "--steps", "2", "--history-length", "2", "--top-k", "2"]


@pytest.fixture(scope="module")
def few_items(tmp_path_factory):
    """Nine posters of the drawn catalogue, and what ada and boris think of them."""
    folder = tmp_path_factory.mktemp("items") / "few"
    write_catalogue(folder)
    kept = {"whale-sunny", "cottage-sunny", "tree-sunny", "cat-midnight", "robot-midnight", "mountain-midnight"}
    kept |= {"lighthouse-meadow", "tree-meadow", "castle-neon"}
    for name in ("metadata.jsonl", "interactions.csv"):
        lines = (folder / name).read_text().splitlines(keepends=True)
        (folder / name).write_text("".join(line for line in lines if any(k in line for k in kept) or "user_id" in line))
    return folder


@pytest.fixture(scope="module")
def out(few_items, comfyui, demo_weights, tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    shutil.copytree(demo_weights.checkpoint.parent, out / "models", copy_function=os.link)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMFYUI_PATH", str(comfyui))
        assert main(["demo", "--items", str(few_items), "--out", str(out), *SMALL]) == 0
    return out


def test_the_page_shows_both_users_and_their_pictures(out):
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "<h2>ada</h2>" in page and "<h2>boris</h2>" in page and "Green Lighthouse" in page
    pictures = re.findall(r"data:image/png;base64,([^']+)'", page)
    assert len(pictures) == 4 and len(set(pictures)) == 4


def test_everything_lies_under_out_and_the_server_left_no_process(out):
    assert {path.name for path in out.iterdir()} == {"comfyui", "models", "index.html"}
    assert "IMPORT FAILED" not in (out / "comfyui" / "comfyui.log").read_text()


def test_a_second_run_keeps_weights_and_pool(out, few_items, comfyui, monkeypatch):
    monkeypatch.setenv("COMFYUI_PATH", str(comfyui))
    monkeypatch.setattr(demo.pool_commands, "build_from_folder", lambda *_: pytest.fail("the pool was built again"))
    made = {path: path.stat().st_mtime_ns for path in (out / "models").iterdir()}
    argv = ["demo", "--items", str(few_items), "--out", str(out), *SMALL, "--users", "ada", "--interest-weights", "0.3"]
    assert main(argv) == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "models").iterdir()} == made
    page = (out / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/png") == 1 and "λ2 = 0.3" in page


def test_the_shipped_workflow_has_every_node_that_the_demo_fills():
    prompt = json.loads(demo.WORKFLOW.read_text(encoding="utf-8"))
    for node in (
        "IAMGUserHistory",
        "InterestRewrite",
        "TopKRetriever",
        "IRAFuse",
        "IAMGAdapterApply",
        "KSampler",
        "SaveImage",
    ):
        assert demo.node_id(prompt, node)


def test_a_changed_item_makes_the_pool_stale(out, few_items, tmp_path):
    pool = next((out / "comfyui" / "models" / "iamg_pools").glob("*"))
    copy = tmp_path / "items"
    shutil.copytree(few_items, copy)
    weights = sorted((out / "models").iterdir())
    arguments = demo.Namespace(
        checkpoint=weights[0], clip_vision=weights[1], crop="center_crop", scenario="movie poster",
        tagger="visual + keywords",
    )  # fmt: skip
    assert demo.is_current(pool, arguments, few_items)
    (copy / "metadata.jsonl").touch()
    assert not demo.is_current(pool, arguments, copy)
