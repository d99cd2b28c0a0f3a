"""The mini world's U-Net: SD1.5's shape, noise schedule and epsilon prediction, on latents of posters."""

import random
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn

from iamg_train.diffusion_files import HEADS, LATENT_CHANNELS, LATENT_SCALE
from iamg_train.diffusion_loss import min_snr_weights, noise_prediction_losses
from iamg_train.mini.autoencoder import sheet
from iamg_train.mini.base_inputs import BaseInputs
from iamg_train.mini.stage import Plan, train_stage
from iamg_train.mini.towers import WIDTH
from iamg_train.personalised_unet import Conditions
from iamg_train.sampling import NOISE, draw_latents

CHANNELS, LAYERS = (64, 128), 2
LATENT_SIDE = 8
EMPTY = 0.1  # of the captions are empty, for classifier-free guidance
MIN_SNR_GAMMA = 5.0
SHOWN, GUIDANCE, STEPS = 16, 4.0, 20  # of the pictures that show the progress
PLAN = Plan(steps=3000, batch_size=32, learning_rate=8e-4, warmup=200, show_every=500)
REDRAWN = 0.4
"""The share of captions that are of another item, of which the poster is the redrawing. Looks exclude each other here, and
true captions never contradict themselves: a model of them alone keeps every look that an item's text names."""


class TextUNet(nn.Module):
    """A U-Net without an adapter, with the face of `PersonalisedUNet`."""

    def __init__(self, unet: UNet2DConditionModel):
        super().__init__()
        self.unet = unet

    def guide(self, conditions: Conditions) -> Tensor:
        return conditions.text

    def predict(self, noisy: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
        return self.unet(noisy, timesteps, text).sample

    forward = predict


def make_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        block_out_channels=CHANNELS,
        layers_per_block=LAYERS,
        down_block_types=["CrossAttnDownBlock2D"] * len(CHANNELS),
        up_block_types=["CrossAttnUpBlock2D"] * len(CHANNELS),
        cross_attention_dim=WIDTH,
        attention_head_dim=HEADS,
    )


def train_unet(folder: Path, inputs: BaseInputs, vae: AutoencoderKL, seed: int) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    model, rows = TextUNet(make_unet()), list(range(SHOWN))
    shown = without_adapter(inputs.tokens(inputs.base.captions(rows, 0, redrawn=REDRAWN)))
    train_stage("U-Net", folder, model, PLAN, _losses(model, inputs), lambda: sheet_of(model, vae, inputs, shown, rows))
    return model.unet


def _losses(model: TextUNet, inputs: BaseInputs) -> Callable[[int], Tensor]:
    """Eq 14 of each step's batch, weighted by Min-SNR."""
    schedule = DDPMScheduler(**NOISE)

    def loss_at(step: int) -> Tensor:
        chance = random.Random(step)

        def text(_: list[int], captions: list[str]) -> Tensor:
            return inputs.tokens(["" if chance.random() < EMPTY else caption for caption in captions])

        example = inputs.example(step, PLAN.batch_size, text, REDRAWN)
        losses = noise_prediction_losses(model, example, schedule)
        return (losses * min_snr_weights(schedule, example.timestep, MIN_SNR_GAMMA)).mean()

    return loss_at


def without_adapter(text: Tensor) -> Conditions:
    """Conditions of which only the text counts."""
    none = torch.zeros(len(text), 1)
    return Conditions(text, none, text[:, :1], text[:, None], none[:, None], none[:, 0])


@torch.no_grad()
def sheet_of(model: nn.Module, vae: AutoencoderKL, inputs: BaseInputs, conditions: Conditions, rows) -> Image.Image:
    """The posters, and below them what is drawn under these conditions from seeded noise."""
    noise = torch.randn(
        (len(rows), LATENT_CHANNELS, LATENT_SIDE, LATENT_SIDE), generator=torch.Generator().manual_seed(0)
    )
    latents = draw_latents(model, conditions, inputs.tokens([""])[0], noise, STEPS, GUIDANCE)
    drawn = vae.decode(latents / LATENT_SCALE).sample
    return sheet(torch.cat([inputs.base.pixels(list(rows)), drawn]) / 2 + 0.5, columns=len(rows))
