"""What the U-Net and the IP-Adapter are trained on: latents of the base posters, and the towers' words on them."""

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load, save
from torch import Tensor

from iamg_train.diffusion_files import LATENT_SCALE
from iamg_train.mini.base_data import BasePosters
from iamg_train.mini.towers import Towers, clip_input
from iamg_train.training_samples import Example
from iamg_train.whole_files import write_whole

TOGETHER = 64  # posters encoded at once
OFFSET = 0.1  # of the noise is the same over a whole latent channel: else flat colours are learnt last
TIMESTEPS = 1000


class BaseInputs:
    """Examples of Eq 14 whose posters, noise and dropped conditions depend on the step alone."""

    def __init__(self, folder: Path, base: BasePosters, vae: AutoencoderKL, towers: Towers):
        self.base, self.towers, self._vae = base, towers, vae
        path = folder / "encoded.safetensors"
        if not path.is_file():
            write_whole(path, save(self._encode()))
        encoded = load(path.read_bytes())
        self._mean, self._std, self.image_embeds = (encoded[name] for name in ("mean", "std", "image_embeds"))

    @torch.inference_mode()
    def _encode(self) -> dict[str, Tensor]:
        parts = []
        for start in range(0, len(self.base), TOGETHER):
            pixels = self.base.pixels(list(range(start, min(start + TOGETHER, len(self.base)))))
            with torch.autocast("cpu", torch.bfloat16):
                latents = self._vae.encode(pixels).latent_dist
            embeds = self.towers.vision(pixel_values=clip_input(pixels)).image_embeds
            parts.append((latents.mean.float() * LATENT_SCALE, latents.std.float() * LATENT_SCALE, embeds))
        joined = (torch.cat(part).contiguous() for part in zip(*parts, strict=True))
        return dict(zip(("mean", "std", "image_embeds"), joined, strict=True))

    @torch.no_grad()
    def tokens(self, texts: list[str]) -> Tensor:
        """(n, 77, text width)"""
        return self.towers.encode_tokens(self.towers.ids(texts))

    def example(
        self, step: int, size: int, conditions: Callable[[list[int], list[str]], object], redrawn: float = 0.0
    ) -> Example:
        """A batch; conditions: what goes with these posters and these captions; redrawn: see `BasePosters.captions`."""
        chance = torch.Generator().manual_seed(step)
        rows = self.base.choose(step, size)
        mean = self._mean[rows]
        latents = mean + self._std[rows] * torch.randn(mean.shape, generator=chance)
        offset = torch.randn((*mean.shape[:2], 1, 1), generator=chance)
        noise = torch.randn(mean.shape, generator=chance) + OFFSET * offset
        timesteps = torch.randint(TIMESTEPS, (size,), generator=chance)
        return Example(
            rows, latents, noise, timesteps, conditions(rows, self.base.captions(rows, step, redrawn=redrawn))
        )
