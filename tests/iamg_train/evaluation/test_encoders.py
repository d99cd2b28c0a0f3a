"""CLIP and DINO as metrics see them, against other implementations of the same towers."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

from iamg.mini.family import read_family
from iamg.mini.places import FAMILY
from iamg.tagging import ItemTags
from iamg_train.encoders import TextEncoder, VisionEncoder, vision_fingerprint
from iamg_train.evaluation.catalogue import Catalogue
from iamg_train.evaluation.embeddings import ClipEmbeddings
from iamg_train.evaluation.encoders import Clip, Dino
from iamg_train.evaluation.evaluation_metrics import choose_metrics
from iamg_train.evaluation.methods import Method, Shot
from iamg_train.evaluation.metric_settings import MetricSettings
from iamg_train.evaluation.metrics_embeddings import ClipScore
from iamg_train.evaluation.pictures import Pictures

TEXTS = {"i0": "A red fox in the snow.", "i1": "The blue harbour at night. " + "A long story of ships. " * 30}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, random, family = tmp_path_factory.mktemp("clip"), np.random.default_rng(0), read_family(FAMILY)
    save_file(family.clip_vision, folder / "vision.safetensors")
    save_file(family.checkpoint, folder / "checkpoint.safetensors")
    for number in range(2):
        small = Image.fromarray(random.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        small.resize((80, 64), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


def test_clip_scores_are_cosines_of_the_same_towers_in_transformers(folder, tmp_path):
    pictures = Pictures()
    clip = ClipEmbeddings(tmp_path, Clip("iamg_mini"), pictures)
    shots = [Shot(folder / f"{n}.png", "u", item, (), 0) for n in range(2) for item in TEXTS]
    images = VisionEncoder(folder / "vision.safetensors").encode_images([Image.open(shot.file) for shot in shots])
    projection = read_family(FAMILY).checkpoint["cond_stage_model.transformer.text_projection.weight"].numpy()
    texts = TextEncoder(folder / "checkpoint.safetensors").encode_texts([TEXTS[x.objective] for x in shots])
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, texts @ projection.T))
    raw, times_100 = (ClipScore(clip, pictures, TEXTS, x) for x in (False, True))
    assert raw.values(shots) == pytest.approx((a * b).sum(axis=1), abs=1e-4)
    assert times_100.values(shots) == pytest.approx(np.maximum(100 * (a * b).sum(axis=1), 0), abs=1e-2)
    assert raw.key(Shot(folder / "0.png", "u", "untold", (), 0)) is None and "iamg_mini" in raw.definition.weights


def test_dino_is_the_class_token_of_the_model(folder, tmp_path):
    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14)
    model = Dinov2Model(config).eval()
    model.save_pretrained(tmp_path)
    size = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}
    BitImageProcessor(**size).save_pretrained(tmp_path)
    image = Image.open(folder / "0.png").crop((8, 0, 72, 64))  # square, so that nothing is cut
    pixels = np.asarray(image.resize((28, 28), Image.Resampling.BICUBIC), np.float32) / 255
    pixels = (pixels - [0.48145466, 0.4578275, 0.40821073]) / [0.26862954, 0.26130258, 0.27577711]
    with torch.no_grad():
        row = model(torch.tensor(pixels, dtype=torch.float32).permute(2, 0, 1)[None]).last_hidden_state[0, 0]
    found = Dino(tmp_path).embed_images([image])[0]
    assert torch.nn.functional.cosine_similarity(found, row, dim=0) > 0.999
    assert found.norm() == pytest.approx(1)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="config.json"):
        Dino(tmp_path)
    with pytest.raises(FileNotFoundError, match="open_clip_config.json"):
        Clip(tmp_path)


def test_results_warn_of_the_encoder_that_retrieved(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    catalogue = Catalogue({"i0": folder / "0.png"}, TEXTS, {})

    def warnings(retrieved_with: str) -> list[str]:
        shots = (Shot(folder / "1.png", "u", "i0", (), 0),)
        method = Method("ours", tmp_path, shots, "", {"weights": {"clip_vision": retrieved_with}})
        chosen = choose_metrics(MetricSettings(clip_model="iamg_mini"), catalogue, {}, [method], tmp_path)
        return [warning for warning in chosen.warnings if "flatter" in warning]

    (warning,) = warnings(vision_fingerprint(folder / "vision.safetensors"))
    assert "iamg_mini" in warning and "ours" in warning
    assert warnings("another") == []


def test_interest_tags_are_left_out_with_a_word_where_nothing_is_tagged(folder, tmp_path):
    histories = {(f"u{n}", "i0"): ("i1",) for n in range(4)}
    pictures, method = {f"i{n}": folder / f"{n}.png" for n in range(2)}, Method("ours", tmp_path, (), "", {})
    for tags in ({}, {"i1": ItemTags(text=("ships",))}):
        catalogue, settings = Catalogue(pictures, TEXTS, tags), MetricSettings(clip_model="iamg_mini")
        chosen = choose_metrics(settings, catalogue, histories, [method], tmp_path)
        assert any("iamg-train tag" in x for x in chosen.warnings) != bool(tags)
        assert any("interest tags" in x.name for x in chosen.definitions()) == bool(tags)


def test_what_has_no_model_is_left_out_with_a_word(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    method = Method("ours", tmp_path, (), "", {})
    chosen = choose_metrics(MetricSettings(size=64), Catalogue({}, {}, {}), {}, [method], tmp_path)
    assert not any(name in x.name for x in chosen.definitions() for name in ("LPIPS", "CLIP", "DINO", "MS-SSIM"))
    told = "\n".join(chosen.warnings)
    assert "nothing is downloaded" in told and "--clip-model" in told and "176" in told
