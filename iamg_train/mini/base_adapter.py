"""The mini world's IP-Adapter: Proj_img and to_k_ip, to_v_ip, trained on posters as their own picture prompts."""

import random
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from PIL import Image
from torch import Tensor

from iamg.adapter import Adapter
from iamg_train.diffusion_loss import min_snr_weights, noise_prediction_losses
from iamg_train.mini.base_inputs import BaseInputs
from iamg_train.mini.base_unet import MIN_SNR_GAMMA, SHOWN, sheet_of
from iamg_train.mini.stage import Plan, train_stage
from iamg_train.mini.towers import WIDTH
from iamg_train.personalised_unet import Conditions, PersonalisedUNet, cross_attentions
from iamg_train.sampling import NOISE

TOKENS = 4
DROPPED = 0.05  # of the captions, of the pictures, and of both, as IP-Adapter's own training has it
PLAN = Plan(steps=500, batch_size=32, learning_rate=1e-3, show_every=250)


def make_adapter(unet: UNet2DConditionModel) -> Adapter:
    """An untrained adapter: to_k_ip and to_v_ip begin as the text's, as IP-Adapter's own training does."""
    state = {
        "image_proj.proj.weight": torch.randn(TOKENS * WIDTH, WIDTH) / WIDTH**0.5,
        "image_proj.proj.bias": torch.zeros(TOKENS * WIDTH),
        "image_proj.norm.weight": torch.ones(WIDTH),
        "image_proj.norm.bias": torch.zeros(WIDTH),
    }
    for index, name in enumerate(cross_attentions(unet)):
        attention = unet.get_submodule(name)
        state[f"ip_adapter.{2 * index + 1}.to_k_ip.weight"] = attention.to_k.weight.detach().clone()
        state[f"ip_adapter.{2 * index + 1}.to_v_ip.weight"] = attention.to_v.weight.detach().clone()
    return Adapter(state)


def train_adapter(
    folder: Path, inputs: BaseInputs, unet: UNet2DConditionModel, vae: AutoencoderKL, seed: int, plan: Plan = PLAN
) -> Adapter:
    torch.manual_seed(seed)
    model = PersonalisedUNet(unet, make_adapter(unet))
    model.adapter.image_proj.requires_grad_(True)
    model.adapter.ira.requires_grad_(False)
    schedule = DDPMScheduler(**NOISE)
    no_picture = torch.zeros_like(inputs.image_embeds[0])

    def prompts(rows: list[int], captions: list[str], chance: random.Random) -> Conditions:
        texts, pictures = [], []
        for row, caption in zip(rows, captions, strict=True):
            dropped = chance.random()
            texts.append("" if dropped < 2 * DROPPED else caption)
            pictures.append(no_picture if DROPPED < dropped < 3 * DROPPED else inputs.image_embeds[row])
        return of_pictures(inputs.tokens(texts), torch.stack(pictures))

    def loss_at(step: int) -> Tensor:
        chance = random.Random(step)
        example = inputs.example(step, plan.batch_size, lambda rows, captions: prompts(rows, captions, chance))
        losses = noise_prediction_losses(model, example, schedule)
        return (losses * min_snr_weights(schedule, example.timestep, MIN_SNR_GAMMA)).mean()

    def show() -> Image.Image:
        rows = list(range(SHOWN))
        conditions = of_pictures(inputs.tokens([""] * SHOWN), inputs.image_embeds[rows])
        return sheet_of(model, vae, inputs, conditions, rows)

    train_stage("IP-Adapter", folder, model, plan, loss_at, show)
    return model.adapter


def of_pictures(text: Tensor, image_embeds: Tensor) -> Conditions:
    """Conditions of text and picture, without an interest."""
    none = torch.zeros(len(text))
    return Conditions(text, image_embeds, text[:, :1], text[:, None], image_embeds[:, None], none)
