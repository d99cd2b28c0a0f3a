"""Every shipped workflow, run by a real ComfyUI server over its HTTP API with the demo's seeded weights."""

import csv
import io
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import folder_paths
import numpy as np
import pytest
from PIL import Image

from iamg_train.comfy_server import started
from iamg_train.demo_catalogue import DEMO_OBJECTIVE, write_catalogue
from iamg_train.demo_weights import make_demo_weights

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
COMFYUI = Path(folder_paths.base_path)
WORKFLOWS = ROOT / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
FILES = [str(path.relative_to(WORKFLOWS)) for path in sorted(WORKFLOWS.rglob("*.json"))]
NOTES = {"Note", "MarkdownNote"}
WIDGETS = {"COMBO", "STRING", "INT", "FLOAT", "BOOLEAN"}
SMALL = {"steps": 2, "width": 64, "height": 64}
LOADED = {
    "liked_1.png": "balloon-sunny",
    "liked_2.png": "sailboat-sunny",
    "liked_3.png": "cat-rose",
    "liked_4.png": "rocket-sunny",
    "redraw.png": DEMO_OBJECTIVE,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A ComfyUI base directory with the pack, the seeded weights under the workflows' names, and a small catalogue."""
    base = tmp_path_factory.mktemp("comfyui")
    weights = make_demo_weights(base / "weights")
    models = base / "models"
    for link, target in {
        base / "custom_nodes" / "ComfyUI-IAMG": ROOT,
        models / "checkpoints" / "v1-5-pruned-emaonly-fp16.safetensors": weights.checkpoint,
        models / "clip_vision" / "CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors": weights.clip_vision,  # to be listed
        models / "clip_vision" / weights.clip_vision.name: weights.clip_vision,
        models / "ipadapter" / "ip-adapter_sd15.safetensors": weights.ip_adapter,
    }.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    catalogue = base / "input" / "iamg_demo"
    catalogue.parent.mkdir()
    write_catalogue(catalogue)
    with open(catalogue / "interactions.csv", newline="") as file:
        kept = {row["item_id"] for row in csv.DictReader(file) if row["user_id"] != "chiyo"}
    lines = (catalogue / "metadata.jsonl").read_text().splitlines(keepends=True)
    (catalogue / "metadata.jsonl").write_text("".join(x for x in lines if json.loads(x)["item_id"] in kept))
    for name, item in LOADED.items():
        (base / "input" / name).symlink_to(catalogue / "images" / f"{item}.png")
    return base


@pytest.fixture(scope="module")
def server(base):
    with started(COMFYUI, base, base / "comfyui.log", cpu=True) as server:
        yield server


@pytest.fixture(scope="module")
def object_info(server):
    return get(server, "/object_info")


@pytest.fixture(scope="module")
def pool(server):
    """What build_pool.json made: the others need its pool."""
    return Run(server, "build_pool")


@pytest.fixture(scope="module")
def poster(server, pool):
    return Run(server, "personalise_poster", batch_size=2)


class Run:
    """A shipped API workflow, small enough for a CPU, run with some inputs changed wherever they occur."""

    def __init__(self, server, name: str, **changes):
        self.server, self.prompt, self.sampled = server, api(name), set()
        seeded = next(x for x in server.available("CLIPVisionLoader", "clip_name") if x.endswith(".pt"))
        for node in self.prompt.values():
            for key, value in {**SMALL, "batch_size": 1, "clip_name": seeded, **changes}.items():
                if key in node["inputs"]:
                    node["inputs"][key] = value
        self.outputs = server.run(self.prompt, lambda node, *_: self.sampled.add(self.prompt[node]["class_type"]))

    def shown(self, title: str) -> dict:
        node_id = next(key for key, node in self.prompt.items() if node["_meta"]["title"] == title)
        return self.outputs[node_id]

    def told(self, title: str) -> str:
        return self.shown(title)["text"][0]

    def found(self, title: str) -> dict:
        return self.shown(title)["iamg"][0]

    def pictures(self, title: str) -> list[np.ndarray]:
        files = [self.server.picture(entry) for entry in self.shown(title)["images"]]
        return [np.asarray(Image.open(io.BytesIO(file)).convert("RGB"), dtype=float) for file in files]


def api(name: str) -> dict:
    return json.loads((WORKFLOWS / "api" / f"{name}.json").read_text(encoding="utf-8"))


def get(server, path: str):
    with urllib.request.urlopen(server.url + path, timeout=60) as answer:
        return json.load(answer)


def forget_results(server) -> None:
    body = json.dumps({"free_memory": True, "unload_models": False}).encode()
    request = urllib.request.Request(server.url + "/free", body, {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=60).close()


def ids(neighbours: list[dict]) -> set[str]:
    return {neighbour["item_id"] for neighbour in neighbours}


# The files themselves


def expected_api(workflow: dict, object_info: dict) -> dict:
    """The API prompt of a UI workflow: widget values by position, links by id."""
    sources = {link_id: [str(node), slot] for link_id, node, slot, *_ in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in NOTES:
            continue
        inputs = dict(widget_values(node, object_info[node["type"]]["input"]))
        inputs |= {x["name"]: sources[x["link"]] for x in node.get("inputs", []) if x.get("link") is not None}
        title = node.get("title") or object_info[node["type"]]["display_name"]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs, "_meta": {"title": title}}
    return prompt


def widget_values(node: dict, schema: dict):
    values = iter(node.get("widgets_values", []))
    for name, (kind, *options) in {**schema.get("required", {}), **schema.get("optional", {})}.items():
        options = options[0] if options else {}
        if (isinstance(kind, list) or kind in WIDGETS) and not options.get("forceInput"):
            yield name, next(values)
            if options.get("control_after_generate") or options.get("image_upload"):
                next(values)  # the frontend's own widget beside it
    assert not list(values), f"{node['type']} has more widget values than widgets"


@pytest.mark.parametrize("name", NAMES)
def test_ui_and_api_files_are_the_same_graph(name, object_info):
    workflow = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    assert api(name) == expected_api(workflow, object_info)


def test_every_workflow_has_a_twin_and_a_picture():
    assert len(NAMES) == 4
    assert {path.stem for path in (WORKFLOWS / "api").glob("*.json")} == set(NAMES)
    for name in NAMES:
        picture = WORKFLOWS / f"{name}.jpg"
        Image.open(picture).load()
        assert picture.stat().st_size < 150_000


@pytest.mark.parametrize("file", FILES)
def test_comfy_cli_finds_nothing_wrong(file, pool, object_info, tmp_path):
    information = tmp_path / "object_info.json"
    information.write_text(json.dumps(get(pool.server, "/object_info")))  # anew: it lists the pool that was built
    command = [Path(sys.executable).with_name("comfy"), "workflow", "validate", "--workflow", WORKFLOWS / file]
    environment = {**os.environ, "DO_NOT_TRACK": "1"}
    done = subprocess.run([*command, "--input", information], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# What they do


def test_build_pool_reports_its_items(base, pool):
    rows = (base / "input" / "iamg_demo" / "metadata.jsonl").read_text().splitlines()
    assert pool.told("Report").startswith(f"{len(rows)} items in pool 'iamg_demo', 0 left out")
    assert (base / "models" / "iamg_pools" / "iamg_demo" / "pool.json").is_file()


def test_poster_is_drawn_and_explained(poster):
    first, second = poster.pictures("Personalised pictures")
    assert first.shape == (64, 64, 3)
    assert first.std() > 0 and second.std() > 0 and not np.array_equal(first, second)
    rewritten = poster.found("Rewrite the text")
    assert set(rewritten["interest_tags"]) and all(tag in rewritten["prompt"] for tag in rewritten["interest_tags"])
    assert rewritten["prompt"] in poster.told("What was kept and cut")
    for stage in ("text", "image"):
        shares = poster.found("Fuse (IRA)")[stage]
        assert sum(share["attention"] for share in shares) == pytest.approx(1, abs=1e-3)
        assert all(share["title"] in poster.told("Which items counted") for share in shares)
    assert len(poster.pictures("The same as a picture")) == 1


def test_poster_never_finds_itself(poster):
    user = poster.found("What the user liked")
    similar = poster.found("Similar items")
    assert user["objective"]["item_id"] == DEMO_OBJECTIVE
    assert len(user["history"]) == len(similar["text"]) == len(similar["image"]) == 5
    for neighbours in (user["history"], similar["text"], similar["image"]):
        assert DEMO_OBJECTIVE not in ids(neighbours)


def test_same_seed_draws_the_same_picture_and_another_user_another(server, poster):
    forget_results(server)
    again = Run(server, "personalise_poster", batch_size=2)
    other = Run(server, "personalise_poster", batch_size=2, user_id="boris")
    assert "KSampler" in again.sampled  # it was drawn anew, not remembered
    drawn = poster.pictures("Personalised pictures")
    assert np.array_equal(drawn, again.pictures("Personalised pictures"))
    assert not np.array_equal(drawn, other.pictures("Personalised pictures"))


def test_four_pictures_and_a_sentence_are_enough(server):
    run = Run(server, "personalise_from_pictures", typed_interests="golden light, sailing")
    (picture,) = run.pictures("Personalised pictures")
    assert picture.std() > 0
    assert len(run.found("Tags of what they like")["items"]) == len(run.told("Tags found").splitlines()) == 4
    assert "golden light, sailing" in run.found("Rewrite the text")["prompt"]
    for neighbours in run.found("Similar items").values():
        assert len(neighbours) == 3 and ids(neighbours) <= {"1", "2", "3", "4"}


def test_sweep_moves_away_from_no_interest(server, pool):
    run = Run(server, "interest_sweep")
    pictures = [run.pictures(f"Picture at {weight}")[0] for weight in (0, 0.1, 0.2, 0.3, 0.5)]
    moved = [np.abs(picture - pictures[0]).mean() for picture in pictures[1:]]
    assert 0 < moved[0] < moved[-1]


# What goes wrong is told, and ComfyUI goes on


def test_too_large_a_k_is_told(server, pool):
    with pytest.raises(RuntimeError, match="TopKRetriever failed: pool 'iamg_demo' has .* lower k"):
        Run(server, "personalise_poster", top_k=100)
    assert "lower k" in last_error(server)["exception_message"]
    assert Run(server, "personalise_poster").pictures("Personalised pictures")


def test_a_missing_picture_is_told(base, server, pool):
    picture = base / "input" / "iamg_demo" / "images" / f"{DEMO_OBJECTIVE}.png"
    away = picture.rename(picture.with_suffix(".away"))
    try:
        with pytest.raises(RuntimeError, match=f"IAMGUserHistory failed: .*{DEMO_OBJECTIVE}.*folder that the pool"):
            Run(server, "personalise_poster", history_length=3)
    finally:
        away.rename(picture)
    assert last_error(server)["node_type"] == "IAMGUserHistory"
    assert Run(server, "personalise_poster", history_length=3).pictures("Personalised pictures")


def last_error(server) -> dict:
    (entry,) = get(server, "/history?max_items=1").values()
    assert entry["status"]["status_str"] == "error"
    return dict(entry["status"]["messages"])["execution_error"]
