"""Eq 14: how well the noise in a picture is predicted."""

import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from torch import Tensor

from iamg_train.training_samples import Example


def noise_prediction_losses(model: torch.nn.Module, batch: Example, noise_schedule: DDPMScheduler) -> Tensor:
    """Eq 14 for each picture of a batch, (B,)."""
    noisy = noise_schedule.add_noise(batch.latents, batch.noise, batch.timestep)
    predicted = model(noisy, batch.timestep, batch.conditions)
    return (predicted - batch.noise).square().mean(dim=(1, 2, 3))


def min_snr_weights(noise_schedule: DDPMScheduler, timesteps: Tensor, gamma: float) -> Tensor:
    """min(γ, SNR) / SNR of each timestep, (B,) (Hang et al., Efficient Diffusion Training via Min-SNR Weighting)."""
    snr = compute_snr(noise_schedule, timesteps)
    return snr.clamp(max=gamma) / snr
