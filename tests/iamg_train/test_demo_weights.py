"""The demo's weights are in the real formats: diffusers and transformers take them, the same seed gives the same."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from iamg_train.clip_files import read_weights
from iamg_train.demo_shapes import unet_shapes
from iamg_train.demo_weights import adapter_weights, make_demo_weights
from iamg_train.encoders import ClipEncoders

pytestmark = pytest.mark.slow


def test_the_unet_has_sd15s_names_and_its_16_cross_attentions():
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    shapes = dict(unet_shapes())
    attentions = [key for key in shapes if key.endswith("attn2.to_k.weight")]
    assert len(attentions) == 16 and all(shapes[key] == (320, 768) for key in attentions)
    named = {f"model.diffusion_model.{key}": torch.empty(shape, device="meta") for key, shape in shapes.items()}
    config = {"layers_per_block": 2, "class_embed_type": None, "addition_embed_type": None}
    converted = convert_ldm_unet_checkpoint(named, config)
    assert {key.split(".")[0] for key in converted} == {
        "conv_in", "conv_out", "conv_norm_out", "time_embedding", "down_blocks", "mid_block", "up_blocks"
    }  # fmt: skip
    assert len(converted) == len(shapes)


def test_every_tensor_is_finite_and_the_checkpoint_is_half_precision(demo_weights):
    with safe_open(demo_weights.checkpoint, "pt") as checkpoint:
        for key in checkpoint.keys():
            tensor = checkpoint.get_tensor(key)
            assert tensor.isfinite().all(), key
            assert tensor.dtype == torch.float16 or tensor.ndim == 0


def test_the_adapter_has_the_official_keys_for_sd15(demo_weights):
    adapter = load_file(demo_weights.ip_adapter)
    expected = {f"image_proj.{part}.{kind}" for part in ("proj", "norm") for kind in ("weight", "bias")}
    expected |= {f"ip_adapter.{n}.to_{part}_ip.weight" for n in range(1, 32, 2) for part in "kv"}
    assert adapter.keys() == expected
    assert adapter["image_proj.proj.weight"].shape == (4 * 768, 768)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(demo_weights):
    adapter = load_file(demo_weights.ip_adapter)
    same = adapter_weights(torch.Generator().manual_seed(0))
    other = adapter_weights(torch.Generator().manual_seed(1))
    key = "ip_adapter.31.to_v_ip.weight"
    assert all(torch.equal(adapter[name], same[name]) for name in same)
    assert not torch.equal(adapter[key], other[key])


def test_the_vision_file_is_small_though_its_tower_is_vit_l(demo_weights):
    assert demo_weights.clip_vision.stat().st_size < 8_000_000
    assert sum(tensor.numel() for tensor in read_weights(demo_weights.clip_vision).values()) > 300_000_000


def test_texts_that_share_words_and_pictures_that_share_colours_are_near(demo_weights):
    from iamg_train.demo_catalogue import catalogue_items

    wanted = [f"{subject}-{mood}" for subject in ("robot", "whale", "castle") for mood in ("sunny", "midnight")]
    items = {item["item_id"]: (item["text"], poster) for item, poster in catalogue_items() if item["item_id"] in wanted}
    encoders = ClipEncoders(demo_weights.checkpoint, demo_weights.clip_vision)
    texts, posters = zip(*(items[name] for name in wanted), strict=True)
    for embeds in (encoders.encode_texts(texts), encoders.encode_images(posters)):
        unit = torch.nn.functional.normalize(torch.from_numpy(embeds), dim=1)
        cosines = unit @ unit.T
        for row, name in enumerate(wanted):
            alike = [other != name and other.split("-")[1] == name.split("-")[1] for other in wanted]
            unlike = [other.split("-")[1] != name.split("-")[1] for other in wanted]
            assert cosines[row][torch.tensor(alike)].min() > cosines[row][torch.tensor(unlike)].max()
            assert cosines[row][torch.tensor(alike)].max() < 0.985  # else they count as near-duplicates


def test_a_file_that_is_there_is_kept_and_one_cut_short_is_never_there(tmp_path, monkeypatch):
    kept = tmp_path / "iamg_demo_sd15_seed0.safetensors"
    save_file({"own": torch.zeros(1)}, kept)
    monkeypatch.setattr("iamg_train.demo_weights.vision_weights", lambda generator: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make_demo_weights(tmp_path)
    assert load_file(kept).keys() == {"own"}
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]
