"""Drawing without ComfyUI: DDIM with classifier-free guidance (D17)."""

from collections.abc import Callable

import torch
from diffusers import DDIMScheduler
from PIL import Image
from torch import Tensor

from iamg_train.personalised_unet import Conditions, PersonalisedUNet

NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
"""SD1.5's noise schedule, for diffusers' schedulers."""

Progress = Callable[[int], None]


@torch.inference_mode()
def draw_latents(
    model: PersonalisedUNet,
    conditions: Conditions,
    empty_text: Tensor,
    noise: Tensor,
    steps: int = 50,
    guidance_scale: float = 7.5,
    progress: Progress = lambda done: None,
) -> Tensor:
    """Latents (B, 4, height, width) from noise of that shape; empty_text: tokens of the empty prompt, (77, d).

    The negative side is D9's: the empty prompt, Proj_img(0), no interest; λ1 scales both sides' text (D8).
    """
    scheduler = DDIMScheduler(**NOISE, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    scheduler.set_timesteps(steps, device=noise.device)
    guidance = model.guide(_both_sides(conditions, empty_text))
    latents = noise * scheduler.init_noise_sigma
    for done, timestep in enumerate(scheduler.timesteps, start=1):
        negative, positive = model.predict(torch.cat([latents, latents]), timestep, guidance).chunk(2)
        predicted = negative + guidance_scale * (positive - negative)
        latents = scheduler.step(predicted, timestep, latents).prev_sample
        progress(done)
    return latents


def to_pictures(pixels: Tensor) -> list[Image.Image]:
    """Pixels (B, 3, H, W) in 0..1 as pictures."""
    pixels = (pixels.clamp(0, 1) * 255).round().byte().movedim(1, -1).cpu().numpy()
    return [Image.fromarray(picture) for picture in pixels]


def _both_sides(conditions: Conditions, empty_text: Tensor) -> Conditions:
    """The conditions twice: first with everything dropped, then as they are."""
    negative = conditions._replace(
        text=empty_text.expand_as(conditions.text),
        image_embeds=torch.zeros_like(conditions.image_embeds),
        interest_weight=torch.zeros_like(conditions.interest_weight),
    )
    return Conditions(*(torch.cat(pair) for pair in zip(negative, conditions, strict=True)))
