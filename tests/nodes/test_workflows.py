"""Every shipped workflow, run by a real ComfyUI server over its HTTP API: with the pack's own weights, or seeded ones."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import folder_paths
import numpy as np
import pytest
from PIL import Image
from seeded_sd15 import write_seeded_sd15

from iamg_train.cli import main
from iamg_train.comfy_server import started
from iamg_train.demo_world import choose_opposites, draw_catalogue
from iamg_train.mini.files import unpack

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
COMFYUI = Path(folder_paths.base_path)
WORKFLOWS = ROOT / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
FILES = [str(path.relative_to(WORKFLOWS)) for path in sorted(WORKFLOWS.rglob("*.json"))]
NOTES = {"Note", "MarkdownNote"}
WIDGETS = {"COMBO", "STRING", "INT", "FLOAT", "BOOLEAN"}
CHOICE = "COMFY_DYNAMICCOMBO_V3"  # with further widgets behind it, none behind the choices that are shipped
SMALL = {"steps": 2, "width": 64, "height": 64}
SAME_PICTURE = 1.5  # of 255, on average: ComfyUI's DDIM begins and ends at slightly other noise than diffusers'
LOADED = ("liked_1.png", "liked_2.png", "liked_3.png", "liked_4.png", "redraw.png")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The demo's catalogue, and the objective and the two users that the demo chooses in it."""
    folder = tmp_path_factory.mktemp("drawn") / "catalogue"
    draw_catalogue(folder)
    return folder, *choose_opposites(folder, 5, 4.0)


@pytest.fixture(scope="module")
def objective(drawn):
    return drawn[1]


@pytest.fixture(scope="module")
def users(drawn):
    return drawn[2]


@pytest.fixture(scope="module")
def base(drawn, tmp_path_factory):
    """A ComfyUI base directory with the pack, what the workflows name, and a part of the demo's catalogue."""
    folder, objective, users = drawn
    base = tmp_path_factory.mktemp("comfyui")
    inputs, models = base / "input", base / "models"
    rows = keep_what_the_users_met(folder, inputs / "iamg_mini", users, objective)
    shutil.copytree(inputs / "iamg_mini", inputs / "iamg_demo")
    shutil.copy(folder / "masks" / f"{objective}.png", inputs / f"iamg_mini_mask_{objective}.png")
    pictures = [inputs / "iamg_mini" / row["file_name"] for row in rows]
    for name, picture in zip(LOADED, pictures, strict=False):
        (inputs / name).symlink_to(picture)
    samples = [(row["text"], Image.open(picture).convert("RGB")) for row, picture in zip(rows, pictures, strict=True)]
    weights, mini = write_seeded_sd15(base / "weights", samples[::3]), unpack(base / "mini")
    argv = ["pool", "build", inputs / "iamg_mini", "--out", models / "iamg_pools", "--scenario", "mini poster"]
    argv += ["--tagger", "clip + keywords", "--clip-model", "iamg_mini"]
    argv += ["--checkpoint", mini.checkpoint, "--clip-vision", mini.clip_vision]
    assert main([str(argument) for argument in argv]) == 0
    for link, target in {
        base / "custom_nodes" / "ComfyUI-IAMG": ROOT,
        models / "checkpoints" / "v1-5-pruned-emaonly-fp16.safetensors": weights.checkpoint,
        models / "clip_vision" / "CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors": weights.clip_vision,  # to be listed
        models / "clip_vision" / weights.clip_vision.name: weights.clip_vision,
        models / "ipadapter" / "ip-adapter_sd15.safetensors": weights.ip_adapter,
        models / "text_encoders" / "qwen3.5_2b_bf16.safetensors": weights.ip_adapter,  # to be listed: it never runs
    }.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    return base


def keep_what_the_users_met(whole: Path, part: Path, users: list[str], objective: str) -> list[dict]:
    """Copy the catalogue of the objective and of these users' items; its rows, the objective's last."""
    shutil.copytree(whole, part)
    with open(whole / "interactions.csv", newline="") as file:
        met = {row["item_id"] for row in csv.DictReader(file) if row["user_id"] in users}
    rows = [json.loads(line) for line in (whole / "metadata.jsonl").read_text().splitlines()]
    kept = [row for row in rows if row["item_id"] in met] + [row for row in rows if row["item_id"] == objective]
    (part / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    return kept


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
def poster(server, pool, objective, users):
    return Run(server, "personalise_poster", batch_size=2, user_id=users[0], objective_id=objective)


class Run:
    """A shipped API workflow, small enough for a CPU, run with some inputs changed wherever they occur."""

    def __init__(self, server, name: str, answers=None, **changes):
        self.server, self.prompt, self.sampled = server, api(name), set()
        for title, texts in (answers or {}).items():
            self.answer(title, texts)
        seeded = next(x for x in server.available("CLIPVisionLoader", "clip_name") if x.endswith(".pt"))
        for node in self.prompt.values():
            for key, value in {**SMALL, "batch_size": 1, "clip_name": seeded, **changes}.items():
                if key in node["inputs"] and not isinstance(node["inputs"][key], list):
                    node["inputs"][key] = value
        self.outputs = server.run(self.prompt, lambda node, *_: self.sampled.add(self.prompt[node]["class_type"]))

    def answer(self, title: str, texts: list[str]) -> None:
        """Put texts into the place of a node that generates them, and show what it is asked."""
        node_id = self.node_id(title)
        question = self.prompt[node_id]["inputs"]["prompt"]
        for place, text in enumerate(texts):
            node = {"class_type": "PrimitiveStringMultiline", "inputs": {"value": text}, "_meta": {"title": title}}
            self.prompt[f"{node_id}.{place}"] = node
        listed = {f"inputs.input{place}": [f"{node_id}.{place}", 0] for place in range(len(texts))}
        self.prompt[node_id] = {"class_type": "CreateList", "inputs": listed, "_meta": {"title": f"{title}: answers"}}
        asked = {"class_type": "PreviewAny", "inputs": {"source": question}, "_meta": {"title": f"{title}: question"}}
        self.prompt[f"{node_id}.asked"] = asked

    def node_id(self, title: str) -> str:
        return next(key for key, node in self.prompt.items() if node["_meta"]["title"] == title)

    def shown(self, title: str) -> dict:
        return self.outputs[self.node_id(title)]

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
    values, uploads = iter(node.get("widgets_values", [])), 0
    for name, (kind, *options) in {**schema.get("required", {}), **schema.get("optional", {})}.items():
        options = options[0] if options else {}
        if (isinstance(kind, list) or kind in WIDGETS or kind == CHOICE) and not options.get("forceInput"):
            yield name, next(values)
            uploads += bool(options.get("image_upload"))
            if options.get("control_after_generate"):
                next(values)  # the frontend's own widget beside it
    assert len(list(values)) == uploads, f"{node['type']} has other widgets than values"  # upload buttons come last


@pytest.mark.parametrize("name", NAMES)
def test_ui_and_api_files_are_the_same_graph(name, object_info):
    workflow = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    assert api(name) == expected_api(workflow, object_info)


def test_every_workflow_has_a_twin_and_a_picture():
    assert len(NAMES) == 6
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


def test_poster_never_finds_itself(poster, objective):
    user = poster.found("What the user liked")
    similar = poster.found("Similar items")
    assert user["objective"]["item_id"] == objective
    assert len(user["history"]) == len(similar["text"]) == len(similar["image"]) == 5
    for neighbours in (user["history"], similar["text"], similar["image"]):
        assert objective not in ids(neighbours)


def test_same_seed_draws_the_same_picture_and_another_user_another(server, poster, objective, users):
    forget_results(server)
    again, other = (
        Run(server, "personalise_poster", batch_size=2, user_id=user, objective_id=objective) for user in users
    )
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


ANSWERS = {  # of a model of gigabytes
    "Look at the pictures": [
        "Sure! Here are the tags:\n\n1. **Golden light**\n2. **Balloon**",
        '```json\n{"tags": ["golden light", "sailboat"]}\n```',
        "I'm sorry, but I can't help with that.",
        "<think>\nA rocket.\n</think>\n\nColor: golden\nSetting: school",
    ],
    "Read the texts": ["adventure, baker", "adventure, sea", "spring, cat, postman", "summer, friendship"],
    "Look at it": ["lighthouse, night, golden light"],
    "Read its text": ["Tags: keeper, lost ship"],
}


def test_answers_of_a_language_model_become_tags_and_rewrite_the_text(server):
    run = Run(server, "tag_with_text_generation", ANSWERS)
    assert run.told("Tags found").splitlines() == [
        "golden light, balloon, adventure, baker",
        "golden light, sailboat, adventure, sea",
        "spring, cat, postman",
        "golden, school, summer, friendship",
    ]
    assert run.told("What could not be used") == "the answer about the picture of item 3: it refuses"
    assert run.told("Its tags") == "lighthouse, night, golden light, keeper, lost ship"
    rewritten = run.found("Rewrite the text")
    assert rewritten["interest_tags"][:2] == ["adventure", "golden light"]  # twice each; the others once
    assert "about lighthouse, night, golden light, keeper, lost ship, maybe related to" in rewritten["prompt"]


def test_a_language_model_is_asked_about_each_picture_and_each_text(server):
    run = Run(server, "tag_with_text_generation", ANSWERS)
    lines = run.prompt[run.node_id("One line about each")]["inputs"]["value"].splitlines()
    questions = run.shown("Read the texts: question")["text"]
    assert len(questions) == len(lines) == 4
    assert all(asked.startswith(line) for asked, line in zip(questions, lines, strict=True))
    (question,) = run.shown("Look at the pictures: question")["text"]
    assert question.startswith("This image is a movie poster") and question == run.told("Look at it: question")


def test_sweep_moves_away_from_no_interest(server, pool, users):
    run = Run(server, "interest_sweep", user_id=users[0])
    pictures = [run.pictures(f"Picture at {weight}")[0] for weight in (0, 0.1, 0.2, 0.3, 0.5)]
    moved = [np.abs(picture - pictures[0]).mean() for picture in pictures[1:]]
    assert 0 < moved[0] < moved[-1]


def test_the_mini_poster_is_what_the_demo_draws(objective, users):
    prompt = api("mini_poster")
    (history,) = (node["inputs"] for node in prompt.values() if node["class_type"] == "IAMGUserHistory")
    (mask,) = (node["inputs"] for node in prompt.values() if node["class_type"] == "LoadImageMask")
    assert history["user_id"] == users[0] and history["objective_id"] == objective
    assert mask["image"] == f"iamg_mini_mask_{objective}.png"


def test_the_mini_poster_runs_as_it_is_and_another_user_gets_another(server, users):
    as_shipped = {"steps": 20}
    run = Run(server, "mini_poster", **as_shipped)
    (small,), (large,) = run.pictures("Personalised picture"), run.pictures("The same, large")
    assert small.shape == (64, 64, 3) and large.shape == (256, 256, 3) and small.std() > 0
    assert "covers" in run.told("What became of the background")
    assert run.found("Fuse (IRA)")["trained"] and len(run.found("Similar items")["text"]) == 5
    assert len(run.found("Rewrite the text")["interest_tags"]) == 3
    (other,) = Run(server, "mini_poster", user_id=users[1], **as_shipped).pictures("Personalised picture")
    assert not np.array_equal(small, other)


def test_generate_draws_what_the_workflow_draws(base, server, objective, users, tmp_path):
    items, mini = base / "input" / "iamg_mini", unpack(base / "mini")
    argv = ["generate", "--user", users[0], "--objective", objective, "--out", tmp_path / "pictures"]
    argv += ["--pictures", 1, "--steps", 20, "--guidance-scale", 4, "--seed", 42, "--width", 64, "--height", 64]
    argv += ["--items", items, "--pool", base / "models" / "iamg_pools" / "iamg_mini", "--scenario", "mini poster"]
    argv += ["--interest-tags", 3, "--foreground", "masks", "--masks", items / "masks"]
    argv += ["--prepared", tmp_path / "prepared", "--cache", tmp_path / "cache", "--cache-dtype", "float32"]
    argv += ["--checkpoint", mini.checkpoint, "--clip-vision", mini.clip_vision, "--ip-adapter", mini.adapter]
    assert main([str(argument) for argument in [*argv, "--device", "cpu"]]) == 0
    (file,) = (tmp_path / "pictures").rglob("*.png")
    generated = np.asarray(Image.open(file).convert("RGB"), dtype=float)
    (drawn,) = Run(server, "mini_poster", steps=20).pictures("Personalised picture")
    (other,) = Run(server, "mini_poster", steps=20, user_id=users[1]).pictures("Personalised picture")
    assert np.abs(generated - drawn).mean() < SAME_PICTURE < np.abs(generated - other).mean()


def test_the_packs_own_adapters_are_listed_beside_the_users(server):
    offered = server.available("IAMGAdapterLoader", "adapter")
    assert {"iamg_mini.safetensors", "iamg_mini_ip_adapter.safetensors", "ip-adapter_sd15.safetensors"} <= set(offered)


# What goes wrong is told, and ComfyUI goes on


def test_too_large_a_k_is_told(server, pool, users):
    with pytest.raises(RuntimeError, match="TopKRetriever failed: pool 'iamg_demo' has .* lower k"):
        Run(server, "personalise_poster", top_k=100, user_id=users[0])
    assert "lower k" in last_error(server)["exception_message"]
    assert Run(server, "personalise_poster", user_id=users[0]).pictures("Personalised pictures")


def test_a_missing_picture_is_told(base, server, pool, objective, users):
    changes = {"user_id": users[0], "objective_id": objective, "history_length": 3}
    picture = base / "input" / "iamg_demo" / "images" / f"{objective}.png"
    away = picture.rename(picture.with_suffix(".away"))
    try:
        with pytest.raises(RuntimeError, match=f"IAMGUserHistory failed: .*{objective}.*folder that the pool"):
            Run(server, "personalise_poster", **changes)
    finally:
        away.rename(picture)
    assert last_error(server)["node_type"] == "IAMGUserHistory"
    assert Run(server, "personalise_poster", **changes).pictures("Personalised pictures")


def last_error(server) -> dict:
    for _ in range(50):  # the history appears slightly after the last message
        (entry,) = get(server, "/history?max_items=1").values()
        if entry["status"]["status_str"] == "error":
            return dict(entry["status"]["messages"])["execution_error"]
        time.sleep(0.1)
    raise AssertionError(f"the last run is {entry['status']['status_str']}, expected an error")
