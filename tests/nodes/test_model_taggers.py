"""TagExtractor with models that are asked: in this process, and in a real ComfyUI server over its HTTP API."""

import json
import shutil
from pathlib import Path

import comfy.model_management
import folder_paths
import pytest
import torch
from fake_endpoint import FakeEndpoint, picture_of
from pack.iamg.tagging import IncompleteTags
from pack.iamg.tagging import transformers_models as loaded_models
from pack.nodes.folders import LLM, language_models
from pack.nodes.pictures import to_tensor
from pack.nodes.pool_builder import IAMGPoolBuilder
from pack.nodes.tag_extractor import TagExtractor
from PIL import Image
from tiny_language_models import teach, write_llama, write_llava

from iamg.scenarios import load_scenarios
from iamg_train.comfy_server import started

ROOT = Path(__file__).resolve().parents[2]
COMFYUI = Path(folder_paths.base_path)
POSTER = load_scenarios()["movie poster"]
RED, BLUE = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (64, 64), "blue")
ADDED = ["clip_model", "vision_model", "language_model", "keep_loaded"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A models/LLM with a LLaVA that knows red and blue, and a Llama that knows one text."""
    folder = tmp_path_factory.mktemp("models") / LLM
    asked = {"phi": POSTER.phi, "tag_limit": POSTER.tag_limit}
    prompt = POSTER.image_prompt.format(**asked)
    teach(write_llava(folder / "llava"), [(RED, prompt, "red tones, tense"), (BLUE, prompt, "blue tones, ocean")])
    text = POSTER.text_prompt.format(**asked, text="a film of war")
    teach(write_llama(folder / "llama"), [(None, text, "war, heroic")])
    return folder


@pytest.fixture
def comfy_folders(models, tmp_path, monkeypatch):
    """ComfyUI's own folders, moved to an empty place; models/LLM as above."""
    for name in ("input", "temp", "user"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(folder_paths, f"{name}_directory", str(tmp_path / name))
    monkeypatch.setitem(folder_paths.folder_names_and_paths, LLM, ([str(models)], set()))
    with torch.inference_mode():
        yield tmp_path
    loaded_models.unload_models()


def extract(tagger="transformers", text="a film of war", picture=RED, **chosen):
    return TagExtractor.execute(POSTER.name, tagger, text, "", {"image0": to_tensor(picture)}, **chosen).result[0][0]


def endpoint(folder, url, **more):
    path = folder / "user" / "iamg" / "endpoint.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in {"url": url, **more}.items()))


def colours(request) -> list[str]:
    picture = picture_of(request)
    return ["war"] if picture is None else ["red" if picture.getpixel((5, 5))[0] > 100 else "blue"]


# ---- inputs


@pytest.mark.parametrize("node", [TagExtractor, IAMGPoolBuilder])
def test_what_was_added_is_optional_advanced_and_last(node, comfy_folders):
    inputs = node.GET_SCHEMA().inputs
    assert [entry.id for entry in inputs[-4:]] == ADDED
    assert all(entry.optional and entry.advanced for entry in inputs[-4:])
    assert [entry.default for entry in inputs[-4:]] == ["iamg_mini", "none", "none", False]
    assert inputs[-3].options == inputs[-2].options == ["none", "llama", "llava"]


def test_only_folders_of_models_llm_are_listed_and_opened(comfy_folders, models):
    assert list(language_models()) == ["llama", "llava"]
    for name in ("none", "", "owner/name", "../LLM/llava", str(models / "llava")):
        with pytest.raises(ValueError, match="the transformers tagger has no model"):
            extract(vision_model=name)


# ---- in this process


def test_picture_and_text_are_tagged_and_the_weights_leave_the_memory(comfy_folders):
    tags = extract(vision_model="llava", language_model="llama")
    assert tags.image == ("red tones", "tense") and tags.text == ("war", "heroic")
    assert not loaded_models._loaded
    assert extract(picture=BLUE, vision_model="llava").image == ("blue tones", "ocean")


def test_weights_stay_where_they_are_asked_to(comfy_folders):
    extract(vision_model="llava", keep_loaded=True)
    (kept,) = loaded_models._loaded.values()
    assert extract(picture=BLUE, vision_model="llava", keep_loaded=True).image == ("blue tones", "ocean")
    assert [loaded is kept for loaded in loaded_models._loaded.values()] == [True]
    extract("visual", vision_model="llava")
    assert not loaded_models._loaded


def test_comfyui_is_asked_to_make_room_before_weights_are_loaded(comfy_folders, models, monkeypatch):
    asked = []

    def free_memory(size, device, **more):
        asked.append((size, device, len(loaded_models._loaded)))
        return []

    monkeypatch.setattr(comfy.model_management, "free_memory", free_memory)
    extract(vision_model="llava")
    ((size, device, loaded),) = asked
    assert size > (models / "llava" / "model.safetensors").stat().st_size
    assert device == torch.device("cpu") and loaded == 0


def test_it_can_be_interrupted_and_the_weights_leave_the_memory_then_too(comfy_folders, monkeypatch):
    comfy.model_management.interrupt_current_processing(True)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        extract(vision_model="llava", language_model="llama")
    assert not loaded_models._loaded


def test_the_endpoint_is_where_comfyui_s_user_folder_says(comfy_folders):
    with FakeEndpoint(tags=colours) as server:
        endpoint(comfy_folders, server.url, key="k", vision_model="v", language_model="l")
        tags = extract("endpoint", vision_model="llava")
        assert (tags.image, tags.text) == (("red",), ("war",))
        assert extract("endpoint", vision_model="llava") == tags
    assert [request["model"] for request in server.requests] == ["v", "l"]  # once: the rest is from the cache
    assert {headers["authorization"] for headers in server.headers} == {"Bearer k"}


def test_an_endpoint_that_fails_is_told(comfy_folders):
    with FakeEndpoint(["500"]) as server:
        endpoint(comfy_folders, server.url, vision_model="v", retries=0)
        with pytest.raises(IncompleteTags, match="the endpoint .* cannot be used: it answers 500"):
            extract("endpoint")


# ---- a real server


@pytest.mark.slow
def test_a_real_comfyui_tags_with_a_model_of_its_folder_and_with_an_endpoint(models, tmp_path):
    base = tmp_path / "comfyui"
    (base / "custom_nodes").mkdir(parents=True)
    (base / "custom_nodes" / "ComfyUI-IAMG").symlink_to(ROOT)
    (base / "input").mkdir()
    RED.save(base / "input" / "red.png")
    shutil.copytree(models, base / "models" / LLM)
    node = {"scenario": POSTER.name, "text": "a film of war", "typed_tags": "", "images.image0": ["1", 0]}
    own = {"tagger": "transformers", "vision_model": "llava", "language_model": "llama"}
    with FakeEndpoint(tags=colours) as endpoint_server:
        endpoint(base, endpoint_server.url, vision_model="v", language_model="l")
        with started(COMFYUI, base, base / "comfyui.log", cpu=True) as server:
            assert server.available("TagExtractor", "vision_model") == ["none", "llama", "llava"]
            found = {}
            for name, chosen in {"own": own, "endpoint": {"tagger": "endpoint"}, "old": {"tagger": "visual"}}.items():
                prompt = {
                    "1": {"class_type": "LoadImage", "inputs": {"image": "red.png"}, "_meta": {"title": "1"}},
                    "2": {"class_type": "TagExtractor", "inputs": {**node, **chosen}, "_meta": {"title": "2"}},
                    "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 1]}, "_meta": {"title": "3"}},
                }
                found[name] = server.run(prompt, lambda *_: None)["2"]["iamg"][0]["items"][0]
            log = (base / "comfyui.log").read_text()
            places = [log.index(line) for line in ("loading llava", "loading llama", "unloading the taggers' models")]
            assert places == sorted(places)
            assert found["own"] == {"image": ["red tones", "tense"], "text": ["war", "heroic"]}
            assert found["endpoint"] == {"image": ["red"], "text": ["war"]}
            assert "red" in found["old"]["image"]
