"""`iamg-train pool build` with a tagger that needs a model."""

import json

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from iamg.pool import EmbeddingPool
from iamg.scenarios import load_scenarios
from iamg.tagging import TaggerModels, make_tagger
from iamg_train import pool_commands
from iamg_train.cli import main


class MeanColour:
    """Encoders that need no weights: a text's length, and the mean colour."""

    crop = "center_crop"

    def encode_texts(self, texts):
        return np.array([[1, 1 + len(text)] for text in texts], dtype=np.float32)

    def encode_images(self, images):
        return np.array([np.asarray(image).mean((0, 1)) + 1 for image in images], dtype=np.float32)

    def fit_text(self, text):
        return text


@pytest.fixture
def build(tmp_path):
    folder = tmp_path / "fruit"
    folder.mkdir()
    for name, colour in (("apple", "red"), ("banana", "yellow")):
        Image.new("RGB", (20, 30), colour).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(f"A ripe {name}.")
    weights = ["--checkpoint", "missing.safetensors", "--clip-vision", "missing.safetensors"]
    return lambda *more: main(["pool", "build", str(folder), *weights, "--out", str(tmp_path), "--name", "pool", *more])


def test_a_pool_is_tagged_by_the_clip_model_given(build, tmp_path, monkeypatch):
    monkeypatch.setattr(pool_commands, "load_encoders", lambda arguments: MeanColour())
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8},
        "text_cfg": {"width": 64, "heads": 1, "layers": 1},
    }
    model = tmp_path / "model"
    model.mkdir()
    torch.manual_seed(0)
    save_file(open_clip.CLIP(**config, init_logit_scale=6.0).state_dict(), model / "open_clip_model.safetensors")
    (model / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    assert build("--tagger", "clip", "--clip-model", str(model), "--scenario", "outfit") == 0
    with EmbeddingPool.open(tmp_path / "pool") as pool:
        assert pool.tagger == "clip"
        found = pool.item("apple").tags
    with Image.open(tmp_path / "fruit" / "apple.png") as picture:
        assert make_tagger("clip", TaggerModels(clip=model)).tag([picture], [None], load_scenarios()["outfit"]) == [
            found
        ]
    assert found.image


@pytest.mark.parametrize("model", [(), ("--clip-model", "nowhere")])
def test_without_its_model_nothing_is_read_or_written(build, model, tmp_path, capsys):
    assert build("--tagger", "clip + keywords", *model) == 2
    said = "nowhere has no open_clip_config.json" if model else "the clip tagger needs a CLIP model"
    assert said in capsys.readouterr().err
    assert not (tmp_path / "pool").exists()
