"""Losses on users and items that training never sees, and whether the interest branch tells users apart."""

import math
from typing import NamedTuple

import torch
from diffusers import DDPMScheduler
from torch import Tensor
from torch.utils.data import default_collate

from iamg_train.diffusion_loss import noise_prediction_losses
from iamg_train.personalised_unet import PersonalisedUNet
from iamg_train.training_samples import Example, TrainingSamples

CERTAIN = 2.0  # standard errors


class HeldOut(NamedTuple):
    """Mean losses over the same noise and timesteps."""

    held_out: float
    control: float  # IRA sees another user's rewritten text and neighbours; the U-Net's text stays the user's own
    difference: float  # control - held_out, of pairs
    standard_error: float

    def verdict(self) -> str:
        """What the control says, in a sentence."""
        numbers = f"{self.difference:+.2e} ± {self.standard_error:.1e}"
        if not self.difference > CERTAIN * self.standard_error:
            return (
                f"With another user's history the held-out loss is not clearly worse ({numbers}): so far the interest branch has "
                "learned nothing about users."
            )
        return f"With another user's history the held-out loss is worse ({numbers}): the interest branch tells users apart."


@torch.no_grad()
def measure(
    model: PersonalisedUNet,
    own: TrainingSamples,
    control: TrainingSamples,
    count: int,
    batch_size: int,
    noise_schedule: DDPMScheduler,
    device: torch.device,
) -> HeldOut:
    """The losses of the first `count` examples of both, which draw the same noise."""

    def losses(examples: TrainingSamples) -> Tensor:
        parts = []
        for start in range(0, count, batch_size):
            batch = default_collate([examples[n] for n in range(start, min(start + batch_size, count))])
            parts.append(noise_prediction_losses(model, on_device(batch, device), noise_schedule))
        return torch.cat(parts).double().cpu()

    with_own, with_control = losses(own), losses(control)
    pairs = with_control - with_own
    error = float(pairs.std()) / math.sqrt(count) if count > 1 else math.inf
    return HeldOut(float(with_own.mean()), float(with_control.mean()), float(pairs.mean()), error)


def on_device(batch: Example, device: torch.device) -> Example:
    return Example(*(x.to(device) for x in batch[:-1]), batch.conditions.on(device))
