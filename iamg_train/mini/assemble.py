"""The trained parts put together as the family, in float16 and under SD1.5's names."""

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from iamg.mini.family import TOKEN_TABLE, Family
from iamg_train.diffusion_files import UNET_PREFIX, VAE_PREFIX
from iamg_train.mini.checkpoint_names import unet_weights, vae_weights
from iamg_train.mini.towers import HOTTEST, Towers

TEXT_PREFIX = "cond_stage_model.transformer."


def assemble(vae: AutoencoderKL, towers: Towers, unet: UNet2DConditionModel, metadata: dict[str, str]) -> Family:
    checkpoint = {UNET_PREFIX + key: x for key, x in unet_weights(unet).items()}
    checkpoint |= {VAE_PREFIX + key: x for key, x in vae_weights(vae).items()}
    checkpoint |= {TEXT_PREFIX + key: x for key, x in towers.text.state_dict().items() if "position_ids" not in key}
    checkpoint[TOKEN_TABLE] = towers.vocabulary.whole_table(checkpoint[TOKEN_TABLE])
    vision = {key: x for key, x in towers.vision.state_dict().items() if "position_ids" not in key}
    logit_scale = float(towers.logit_scale.detach().exp().clamp(max=HOTTEST))
    return Family(_halves(checkpoint), _halves(vision), logit_scale, metadata)


def _halves(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: x.detach().to(torch.float16).contiguous() for key, x in weights.items()}
