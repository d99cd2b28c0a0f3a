"""IAMGMiniModel against diffusers and transformers holding the same weights, and the pictures of both faces."""

import random

import comfy.model_management
import numpy as np
import pytest
import rig
import torch
from pack.nodes.adapter_apply import IAMGAdapterApply
from pack.nodes.adapter_weights import load
from pack.nodes.encoders import ClipText, ClipVision
from pack.nodes.mini_model import IAMGMiniModel
from PIL import Image

from iamg.adapter import load_adapter
from iamg.mini.places import ADAPTER
from iamg.prompt_text import escape_prompt
from iamg_train.diffusion_files import load_unet, load_vae
from iamg_train.encoders import ClipEncoders
from iamg_train.mini.files import unpack
from iamg_train.mini.posters import draw, random_poster
from iamg_train.mini.texts import sentence_of
from iamg_train.personalised_unet import Conditions, PersonalisedUNet
from iamg_train.sampling import draw_latents, to_pictures

TEXTS = ["There is a house with a moon, at night.", "embedding:none (a {b|c}) 東京", "", "red " * 200]
STEPS, GUIDANCE = 20, 4.0
SAME_PICTURE = 1.5 / 255
"""Mean difference of two drawings that are the same picture: ComfyUI's DDIM begins and ends at slightly other noise."""


@pytest.fixture(scope="module", autouse=True)
def as_comfyui_runs_nodes():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def loaded():
    """MODEL, CLIP, VAE, CLIP_VISION"""
    return IAMGMiniModel.execute().args


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return unpack(tmp_path_factory.mktemp("mini"))


@pytest.fixture(scope="module")
def encoders(files):
    return ClipEncoders(files.checkpoint, files.clip_vision)


@pytest.fixture(scope="module")
def posters():
    chance = random.Random(4)
    return [random_poster(chance) for _ in range(6)]


def relative_error(given, expected) -> float:
    given, expected = torch.as_tensor(given), torch.as_tensor(expected)
    assert given.shape == expected.shape
    return float((given - expected).norm() / expected.norm())


def test_the_texts_are_read_as_transformers_reads_them(loaded, encoders):
    clip = ClipText(loaded[1])
    texts = [encoders.fit_text(text) for text in TEXTS]
    tokens, pooled = clip.encode_prompts([escape_prompt(text) for text in texts])
    assert [clip.count(text) for text in texts][2:] == [0, 75]
    assert relative_error(tokens, encoders.encode_tokens(texts)) < 1e-5
    assert relative_error(pooled, encoders.encode_texts(texts)) < 1e-5


def test_the_pictures_are_seen_as_transformers_sees_them(loaded, encoders, posters):
    pictures = [
        *(draw(poster)[0] for poster in posters[:2]),
        draw(posters[2])[0].resize((90, 130), Image.Resampling.BOX),
    ]
    embeds = ClipVision(loaded[3], "center_crop").encode(pictures)
    assert relative_error(embeds, encoders.encode_images(pictures)) < 1e-3  # each resizes in its own library


def test_the_unet_predicts_what_diffusers_predicts(loaded, files, encoders):
    model, unet = loaded[0], load_unet(files.checkpoint, torch.float32)
    comfy.model_management.load_models_gpu([model])
    latents, timesteps = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([7, 801])
    text = encoders.encode_tokens(TEXTS[:2])
    expected = unet(latents, timesteps, text).sample
    assert relative_error(model.model.diffusion_model(latents, timesteps, context=text), expected) < 1e-5
    assert relative_error(unet(latents, timesteps, text.flip(0)).sample, expected) > 1e-3


def test_the_vae_is_diffusers_vae(loaded, files, posters):
    theirs, ours = loaded[2], load_vae(files.checkpoint)
    pixels = torch.from_numpy(np.asarray(draw(posters[0])[0], dtype=np.float32) / 255)[None]
    latent_format = loaded[0].get_model_object("latent_format")
    encoded = latent_format.process_in(theirs.encode(pixels))
    mean, _ = ours.posterior(pixels.movedim(-1, 1) * 2 - 1)
    assert ours.factor == 8 and mean.shape == (1, 4, 8, 8)
    assert relative_error(encoded, mean) < 1e-4
    drawn = theirs.decode(latent_format.process_out(mean)).movedim(-1, 1)
    assert relative_error(drawn, ours.decode(mean)) < 1e-4


class Drawer:
    """The same poster for the same neighbours, from the same noise, by both faces."""

    def __init__(self, loaded, files, encoders, posters):
        self.loaded = loaded
        pictures = [draw(poster)[0] for poster in posters]
        self.texts = encoders.encode_tokens([sentence_of(poster) for poster in posters])
        self.embeds = torch.from_numpy(encoders.encode_images(pictures))
        self.empty = encoders.encode_tokens([""])
        self.trainer = PersonalisedUNet(load_unet(files.checkpoint, torch.float32), load_adapter(ADAPTER))
        self.vae = load_vae(files.checkpoint)

    def noise(self, seed: int) -> torch.Tensor:
        """What the command line draws from: ComfyUI's own noise of that seed."""
        return torch.randn((4, 8, 8), generator=torch.Generator().manual_seed(seed))[None]

    def command_line(self, seed: int, interest_weight: float = 0.2) -> np.ndarray:
        conditions = Conditions(
            self.texts[:1],
            self.embeds[:1],
            self.texts[:1],
            self.texts[1:][None],
            self.embeds[1:][None],
            torch.tensor([interest_weight]),
        )
        latents = draw_latents(self.trainer, conditions, self.empty[0], self.noise(seed), STEPS, GUIDANCE)
        return np.asarray(to_pictures(self.vae.decode(latents))[0], dtype=np.float64) / 255

    def comfyui(self, seed: int, interest_weight: float = 0.2, image_weight: float = 1.0, text: int = 0) -> np.ndarray:
        model, _, vae, _ = self.loaded
        weights = load_adapter(ADAPTER).float()
        vision = rig.VisionOutput()
        vision.image_embeds = self.embeds[:1]
        projected = weights.project_image(self.embeds[1:])
        interest = weights.ira(self.texts[:1], self.texts[1:][None], projected[None]).tokens
        patched = IAMGAdapterApply.execute(
            model, load(ADAPTER), vision, image_weight, 1.0, interest_weight, 0.0, 1.0, interest=interest
        ).result[0]
        latent = torch.zeros(1, 4, 8, 8)
        drawn = rig.comfy.sample.sample(
            patched,
            rig.comfy.sample.prepare_noise(latent, seed),
            STEPS,
            GUIDANCE,
            "ddim",
            "ddim_uniform",
            [[self.texts[text : text + 1], {}]],
            [[self.empty, {}]],
            latent,
            disable_pbar=True,
            seed=seed,
        )
        pixels = vae.decode(drawn)[0].clamp(0, 1)
        return (pixels * 255).round().double().numpy() / 255


@pytest.fixture(scope="module")
def drawer(loaded, files, encoders, posters):
    return Drawer(loaded, files, encoders, posters)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    assert one.shape == other.shape == (64, 64, 3)
    return float(np.abs(one - other).mean())


def test_the_noise_of_a_seed_is_comfyuis(drawer):
    theirs = rig.comfy.sample.prepare_noise(torch.zeros(1, 4, 8, 8), 42)
    assert torch.equal(drawer.noise(42), theirs)


@pytest.mark.parametrize("seed", [0, 1, 42])
def test_both_faces_draw_the_same_picture(drawer, seed):
    ours, theirs = drawer.command_line(seed), drawer.comfyui(seed)
    assert difference(ours, theirs) < SAME_PICTURE
    assert ours.std() > 0.05  # it is a picture


def test_another_text_picture_or_interest_is_another_picture(drawer):
    """What the tolerance above must be able to see: a branch that is off, or hears something else."""
    ours = drawer.command_line(0)
    assert difference(ours, drawer.comfyui(0, text=1)) > SAME_PICTURE
    assert difference(ours, drawer.comfyui(0, image_weight=0)) > SAME_PICTURE
    assert difference(ours, drawer.comfyui(0, interest_weight=0)) > SAME_PICTURE
