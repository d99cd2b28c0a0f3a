"""--dry-run: sizes worked out by hand, counts of a small catalogue, and nothing written."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import save_file
from sd15_shapes import adapter_shapes, unet_shapes

from iamg.adapter import Adapter
from iamg.items import read_items
from iamg.pool_builder import build_pool
from iamg.scenarios import load_scenarios
from iamg.tagging import make_tagger
from iamg_train.config import load_config
from iamg_train.plan import cache_sizes, plan, trainable_parameters, training_memory

USERS, ITEMS = 6, 8


class MeanColour:
    """Encoders that need no weights: letters counted, and the mean colour, as wide as the adapter takes it."""

    crop = "center_crop"

    def encode_texts(self, texts):
        return np.array([[1 + text.lower().count(letter) for letter in "aeiou"] for text in texts], dtype=np.float32)

    def encode_images(self, images):
        return np.array([np.tile(np.asarray(image).mean((0, 1)) + 1, 256) for image in images], dtype=np.float32)

    def fit_text(self, text):
        return text


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A catalogue that everyone likes the whole of, its pool, and weights of the seeded SD1.5's shapes."""
    folder = tmp_path_factory.mktemp("project")
    items = folder / "items"
    items.mkdir()
    for number in range(ITEMS):
        Image.new("RGB", (8, 8), (30 * number, 0, 0)).save(items / f"m{number}.png")
        (items / f"m{number}.txt").write_text(f"Film number {number}.")
    rows = [f"u{user},m{item},5,{item}" for user in range(USERS) for item in range(ITEMS)] + ["short,m0,5,1"]
    (items / "interactions.csv").write_text("user_id,item_id,rating,timestamp\n" + "\n".join(rows))
    scenario, found = load_scenarios()["movie poster"], read_items(items, lambda name, reason: None)
    build_pool(folder / "pool", found, items, MeanColour(), make_tagger("keywords"), scenario)
    unet = {f"model.diffusion_model.{key}": torch.zeros(shape, dtype=torch.float16) for key, shape in unet_shapes()}
    save_file(unet, folder / "sd15.safetensors")
    save_file({key: torch.zeros(shape) for key, shape in adapter_shapes()}, folder / "ip.safetensors")
    save_file({"x": torch.zeros(1)}, folder / "vision.safetensors")
    return folder


@pytest.fixture
def settings(project):
    return {
        "items": project / "items",
        "pool": project / "pool",
        "prepared": project / "prepared",
        "cache": project / "cache",
        "checkpoint": project / "sd15.safetensors",
        "clip_vision": project / "vision.safetensors",
        "ip_adapter": project / "ip.safetensors",
        "out": project / "runs" / "first",
        "test_fraction": 0.0,
        "precision": "fp32",
    }


def sd15_adapter() -> Adapter:
    """SD1.5's official sizes, without numbers in them."""
    blocks = [320] * 4 + [640] * 4 + [1280] * 4 + [1280] * 6 + [640] * 6 + [320] * 6  # to_k and to_v, in turn
    blocks += [1280] * 2
    shapes = {"proj.weight": (4 * 768, 1024), "proj.bias": (4 * 768,), "norm.weight": (768,), "norm.bias": (768,)}
    shapes = {f"image_proj.{key}": shape for key, shape in shapes.items()}
    for place, channels in enumerate(blocks):
        shapes[f"ip_adapter.{place // 2 * 2 + 1}.to_{'kv'[place % 2]}_ip.weight"] = (channels, 768)
    with torch.device("meta"):
        return Adapter({key: torch.empty(shape) for key, shape in shapes.items()})


def test_what_trains_on_sd15_is_the_papers_number_of_parameters():
    assert trainable_parameters(sd15_adapter()) == 20_938_752


def test_memory_is_what_each_part_takes_at_its_precision(settings):
    config = load_config(None, settings | {"batch_size": 2, "resolution": 64, "precision": "bf16"})
    memory = training_memory(config, frozen=1000, trained=10, channels=32)
    assert memory == {
        "the U-Net, frozen": 2000,
        "weights, gradients and optimizer": 160,
        "activations of 2 pictures": 2 * 300 * 8 * 8 * 32 * 2,
    }
    cheaper = load_config(None, settings | {"optimizer": "adamw8bit", "gradient_checkpointing": True, "ema_decay": 0.9})
    less = training_memory(cheaper, frozen=1000, trained=10, channels=32)
    assert less["the U-Net, frozen"] == 4000 and less["weights, gradients and optimizer"] == 10 * (4 + 4 + 2 + 4)
    assert less["activations of 16 pictures"] == 16 * 165 * 64 * 64 * 32 * 4


def test_activations_are_estimated_near_what_a_backward_pass_keeps():
    """Of a narrow U-Net of SD1.5's build, counted by autograd itself."""
    from diffusers import UNet2DConditionModel

    from iamg_train.plan import KEPT

    torch.manual_seed(0)
    channels, side = 32, 16
    unet = UNet2DConditionModel(
        cross_attention_dim=64, attention_head_dim=8, block_out_channels=(channels, 64, 128, 128)
    ).requires_grad_(False)
    parameters = {parameter.data_ptr() for parameter in unet.parameters()}
    kept = {}

    def keep(tensor):
        if tensor.data_ptr() not in parameters:
            kept[tensor.untyped_storage().data_ptr()] = tensor, tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = unet(torch.randn(1, 4, side, side), 5, torch.randn(1, 77, 64, requires_grad=True)).sample
    assert out.requires_grad
    counted = sum(size for _, size in kept.values()) / (4 * side * side * channels)
    assert counted == pytest.approx(KEPT, rel=0.25)


def test_caches_are_counted_as_if_nothing_were_shared(settings):
    config = load_config(None, settings | {"resolution": 64, "top_k": 3})
    sizes = cache_sizes(config, train=10, test=2, pool_items=1000, width=768, image_width=1024)
    texts = (10 + 2) + (10 + 2 + 2) + 3 * (10 + 2 + 2) + 1
    assert sizes == {"cached texts": texts * 77 * 768 * 2, "cached pictures": 12 * (8 * 8 * 8 + 1024) * 2}
    few = cache_sizes(config, train=10, test=2, pool_items=5, width=768, image_width=1024)
    assert few["cached texts"] == (texts - 3 * 14 + 5) * 77 * 768 * 2


def test_a_plan_counts_entries_steps_and_parameters_and_writes_nothing(project, settings, monkeypatch):
    before = sorted(project.rglob("*"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    config = load_config(None, settings | {"steps": 30, "batch_size": 4, "accumulation": 3})
    told = plan(config).sections
    assert told["Entries, at most"] == {"to train on": str(USERS), "held out": "0"}
    assert told["Left out"] == {"users with too few liked items": "1"}
    training = told["Training"]
    assert training["pictures a step"].startswith("24 ") and training["pictures in all"].startswith("720, ")
    assert f"{720 / USERS:.1f} times" in training["pictures in all"]
    shapes = dict(adapter_shapes())
    width = shapes["image_proj.norm.weight"][0]
    trained = sum(rows * columns for rows, columns in (s for key, s in shapes.items() if "_ip." in key)) + 3 * width**2
    assert training["trainable parameters"] == f"{trained:,}"
    assert training["frozen in the U-Net"] == f"{sum(int(np.prod(shape)) for _, shape in unet_shapes()):,}"
    assert told["Files"]["weights"] == str(project / "runs" / "first" / "weights.safetensors")
    assert sorted(project.rglob("*")) == before


def test_a_plan_names_the_files_that_a_run_writes(project, settings):
    from iamg_train import checkpoints, export, fit, run_log, watch

    named = " ".join(plan(load_config(None, settings)).sections["Files"].values())
    for name in (fit.CONFIG, run_log.LOG, run_log.HELD_OUT, checkpoints.FOLDER, watch.GRIDS, export.WEIGHTS):
        assert str(project / "runs" / "first" / name) in named


def test_a_plan_is_printed_as_it_is_whatever_is_in_the_names(settings, tmp_path):
    console = Console(width=200, record=True, file=open(tmp_path / "out", "w", encoding="utf-8"))
    console.print(plan(load_config(None, settings | {"out": tmp_path / "[bold]run"})))
    text = console.export_text()
    assert "trainable parameters" in text and str(tmp_path / "[bold]run") in text


def test_what_would_stop_a_run_stops_its_plan(project, settings, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model.ip_adapter: there is no file .*none\.safetensors"):
        plan(load_config(None, settings | {"ip_adapter": "none.safetensors"}))
    with pytest.raises(ValueError, match="nothing to train on: 7 users with too few liked items"):
        plan(load_config(None, settings | {"history_length": ITEMS}))
    with pytest.raises(ValueError, match=r"ip\.safetensors"):
        plan(load_config(None, settings | {"checkpoint": project / "ip.safetensors"}))
    wide = tmp_path / "wide.safetensors"
    save_file(
        {key: torch.zeros(8, *shape[1:]) if "_ip." in key else torch.zeros(shape) for key, shape in adapter_shapes()},
        wide,
    )
    with pytest.raises(ValueError, match="the adapter has 16 blocks of"):
        plan(load_config(None, settings | {"ip_adapter": wide}))
    assert json.loads((project / "pool" / "pool.json").read_text())["count"] == ITEMS
