"""The parts of the family, put together under SD1.5's names, are the parts that were trained."""

import pytest
import torch
from safetensors.torch import save_file

from iamg_train.clip_files import read_weights, text_model, vision_model
from iamg_train.diffusion_files import load_unet, load_vae
from iamg_train.mini.assemble import assemble
from iamg_train.mini.autoencoder import make_autoencoder, scale_latents
from iamg_train.mini.base_adapter import make_adapter
from iamg_train.mini.base_data import BasePosters
from iamg_train.mini.base_unet import make_unet
from iamg_train.mini.towers import Towers
from iamg_train.mini.vocabulary import known_words
from iamg_train.personalised_unet import PersonalisedUNet

TEXTS = ["There is a house with a moon, at night.", "red, gold frame, a bicycle"]


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    models = make_autoencoder(), Towers(known_words()), make_unet()
    for model in models:
        model.half().float().eval().requires_grad_(False)  # what the file can hold
    return models


@pytest.fixture(scope="module")
def files(parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("family")
    family = assemble(*parts, {})
    save_file(family.checkpoint, folder / "checkpoint.safetensors")
    save_file(family.clip_vision, folder / "vision.safetensors")
    return folder / "checkpoint.safetensors", folder / "vision.safetensors"


def test_the_unet_predicts_the_same(parts, files):
    noisy, text, timesteps = torch.randn(2, 4, 8, 8), torch.randn(2, 77, 128), torch.tensor([3, 900])
    expected = parts[2](noisy, timesteps, text).sample
    found = load_unet(files[0], torch.float32)(noisy, timesteps, text).sample
    assert torch.allclose(found, expected, atol=1e-6)


def test_the_autoencoder_encodes_and_decodes_the_same(parts, files):
    vae, pixels, latents = load_vae(files[0]), torch.rand(1, 3, 64, 64) * 2 - 1, torch.randn(1, 4, 8, 8)
    assert vae.factor == 8
    expected = parts[0].encode(pixels).latent_dist
    assert torch.allclose(vae.posterior(pixels)[0], expected.mean * vae.scale, atol=1e-6)
    assert torch.allclose(vae.posterior(pixels)[1], expected.std * vae.scale, atol=1e-6)
    decoded = parts[0].decode(latents / vae.scale).sample
    assert torch.allclose(vae.decode(latents), (decoded / 2 + 0.5).clamp(0, 1), atol=1e-5)


def test_both_towers_embed_the_same_and_unknown_words_are_one_word(parts, files):
    towers = parts[1]
    text = text_model(read_weights(files[0]), "checkpoint")
    hidden = text.text_model(input_ids=towers.tokenizer(TEXTS)).last_hidden_state
    assert torch.allclose(hidden, towers.encode_tokens(towers.ids(TEXTS)), atol=1e-5)
    one, other = (text.text_model(input_ids=towers.tokenizer([x])).last_hidden_state for x in ("zebra", "otter"))
    assert torch.equal(one, other)
    pixels = torch.randn(2, 3, 64, 64)
    vision = vision_model(read_weights(files[1]), "vision")
    expected = towers.vision(pixel_values=pixels).image_embeds
    assert torch.allclose(vision(pixel_values=pixels).image_embeds, expected, atol=1e-5)


def test_the_adapter_has_the_unets_blocks(parts):
    adapter = make_adapter(parts[2])
    assert len(PersonalisedUNet(parts[2], adapter).adapter.channels) == 11


def test_latents_are_scaled_and_pictures_stay(tmp_path):
    torch.manual_seed(0)
    vae, base = make_autoencoder().eval().requires_grad_(False), BasePosters(tmp_path, 0, count=512)
    vae.quant_conv.weight[:4] *= torch.tensor([3.0, 0.2, 1.0, 7.0])[:, None, None, None]
    vae.quant_conv.bias[:4] += 2
    pixels = base.pixels(list(range(16)))
    before = vae.decode(vae.encode(pixels).latent_dist.mean).sample
    spread = vae.encode(pixels).latent_dist.std / vae.encode(pixels).latent_dist.mean.std(dim=(0, 2, 3))[:, None, None]
    scale_latents(vae, base)
    latents = vae.encode(base.pixels(list(range(512)))).latent_dist
    assert torch.allclose(latents.mean.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-2)
    assert torch.allclose(latents.mean.std(dim=(0, 2, 3)) * 0.18215, torch.ones(4), atol=1e-2)
    after = vae.encode(pixels).latent_dist
    assert torch.allclose(after.std / after.mean.std(dim=(0, 2, 3))[:, None, None], spread, rtol=1e-3)
    assert torch.allclose(vae.decode(after.mean).sample, before, atol=1e-3)
