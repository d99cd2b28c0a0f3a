"""The mini world's KL autoencoder: 64 × 64 pixels to 8 × 8 latents of 4 numbers, as SD1.5's."""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from iamg_train.diffusion_files import LATENT_SCALE
from iamg_train.mini.base_data import BasePosters
from iamg_train.mini.posters import SIDE
from iamg_train.mini.stage import Plan, train_stage
from iamg_train.sampling import to_pictures

CHANNELS = (32, 32, 64, 128)
KL_WEIGHT = 2e-6
CROP = 32  # pixels a side: most of the training sees parts of posters, which cost a quarter
CROPPED = 0.75  # of the steps
PLAN = Plan(steps=3200, batch_size=16, learning_rate=1.5e-3, ema_decay=0.998, show_every=500)
WHOLE_PLAN = Plan(steps=1600, batch_size=8, learning_rate=1.2e-3, ema_decay=0.998, show_every=400)


def make_autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=4,
        down_block_types=["DownEncoderBlock2D"] * len(CHANNELS),
        up_block_types=["UpDecoderBlock2D"] * len(CHANNELS),
    )


def train_autoencoder(folder: Path, base: BasePosters, seed: int) -> AutoencoderKL:
    """First mostly on parts of posters, then on whole ones; its latents are scaled for SD1.5's factor."""
    torch.manual_seed(seed)
    model = make_autoencoder()
    for name, plan, cropped in (("parts", PLAN, CROPPED), ("whole", WHOLE_PLAN, 0.0)):
        model.requires_grad_(True)
        losses = _losses(model, base, plan, cropped)
        train_stage(f"autoencoder, {name}", folder / name, model, plan, losses, lambda: restored_posters(model, base))
    scale_latents(model, base)
    return model


def _losses(model: AutoencoderKL, base: BasePosters, plan: Plan, cropped: float) -> Callable[[int], Tensor]:
    """The loss of each step; cropped: for which share of the steps parts of posters are enough."""

    def loss_at(step: int) -> Tensor:
        chance = torch.Generator().manual_seed(step)
        pixels = base.pixels(base.choose(step, plan.batch_size))
        if step < cropped * plan.steps:
            top, left = (8 * torch.randint((SIDE - CROP) // 8 + 1, (2,), generator=chance)).tolist()
            pixels = pixels[:, :, top : top + CROP, left : left + CROP]
        with torch.autocast("cpu", torch.bfloat16):
            posterior = model.encode(pixels).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=chance)
            restored = model.decode(posterior.mean + posterior.std * noise).sample
        return reconstruction_loss(restored.float(), pixels) + KL_WEIGHT * posterior.kl().float().mean()

    return loss_at


@torch.no_grad()
def scale_latents(vae: AutoencoderKL, base: BasePosters) -> None:
    """Give every latent channel mean 0 and, times SD1.5's factor, deviation 1; what is decoded stays the same."""
    latents = torch.cat([vae.encode(base.pixels(list(range(n, n + 64)))).latent_dist.mean for n in range(0, 512, 64)])
    mean, scale = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3)) * LATENT_SCALE
    into, out = vae.quant_conv, vae.post_quant_conv
    channels = len(mean)
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight *= scale[None, :, None, None]
    into.bias[:channels] -= mean
    into.weight[:channels] /= scale[:, None, None, None]
    into.bias[:channels] /= scale
    into.bias[channels:] -= 2 * scale.log()  # the logarithm of the variance


@torch.no_grad()
def restored_posters(model: AutoencoderKL, base: BasePosters) -> Image.Image:
    pixels = base.pixels(list(range(16)))
    restored = model.decode(model.encode(pixels).latent_dist.mean).sample
    return sheet(torch.cat([pixels, restored]) / 2 + 0.5, columns=16)


def reconstruction_loss(restored: Tensor, pixels: Tensor) -> Tensor:
    """Mean absolute error of the pixels, and of the steps between neighbouring ones, which keeps edges sharp."""
    loss = F.l1_loss(restored, pixels)
    for axis in (2, 3):
        loss = loss + 0.5 * F.l1_loss(restored.diff(dim=axis), pixels.diff(dim=axis))
    return loss


def sheet(pixels: Tensor, columns: int) -> Image.Image:
    """Pictures (n, 3, H, W) in 0..1 side by side, twice their size."""
    pictures = to_pictures(pixels)
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    image = Image.new("RGB", (columns * (width + 2), rows * (height + 2)), "white")
    for place, picture in enumerate(pictures):
        image.paste(picture, (place % columns * (width + 2), place // columns * (height + 2)))
    return image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST)
