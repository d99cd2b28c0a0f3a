"""Models of SD1.5's architecture with weights from a seed: what the training step's benchmark runs."""

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from iamg.adapter import Adapter
from iamg_train.diffusion_files import LATENT_SCALE
from iamg_train.personalised_unet import cross_attentions

IMAGE_TOKENS = 4
VOCABULARY = 49408
LEVELS = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}


@dataclass(frozen=True)
class Size:
    """The models' configs, and how a step is measured by default."""

    unet: dict
    vae: dict
    vision: CLIPVisionConfig
    text: CLIPTextConfig
    batch_size: int
    resolution: int


SIZES = {
    "small": Size(
        unet={"block_out_channels": (32, 64, 128, 128), "cross_attention_dim": 64},
        vae={"block_out_channels": (32, 32, 64, 64), "layers_per_block": 1},
        vision=CLIPVisionConfig(
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=2,
            patch_size=14,
            projection_dim=64,
        ),
        text=CLIPTextConfig(hidden_size=64, intermediate_size=256, num_hidden_layers=4, num_attention_heads=1),
        batch_size=2,
        resolution=128,
    ),
    "sd15": Size(
        unet={"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768},
        vae={"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2},
        vision=CLIPVisionConfig(  # ViT-H/14
            hidden_size=1280,
            intermediate_size=5120,
            num_hidden_layers=32,
            num_attention_heads=16,
            patch_size=14,
            projection_dim=1024,
            hidden_act="gelu",
        ),
        text=CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12),
        batch_size=16,
        resolution=512,
    ),
}


def make_unet(size: Size) -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(**size.unet).eval().requires_grad_(False)


def same_unet(unet: UNet2DConditionModel, dtype: torch.dtype) -> UNet2DConditionModel:
    """Another U-Net with these weights in `dtype`; where that is their own, both share them."""
    with torch.device("meta"):
        twin = UNet2DConditionModel.from_config(unet.config)
    twin.load_state_dict({name: weight.to(dtype) for name, weight in unet.state_dict().items()}, assign=True)
    return twin


def make_encoders(size: Size) -> tuple[AutoencoderKL, CLIPVisionModelWithProjection, CLIPTextModel]:
    torch.manual_seed(1)
    vae = AutoencoderKL(latent_channels=4, scaling_factor=LATENT_SCALE, **LEVELS, **size.vae)
    models = vae, CLIPVisionModelWithProjection(size.vision), CLIPTextModel(size.text)
    return tuple(model.eval().requires_grad_(False) for model in models)


def make_adapter(size: Size, unet: UNet2DConditionModel) -> Adapter:
    """An IP-Adapter for this U-Net, IRA at its start."""
    random = torch.Generator().manual_seed(2)
    width, image_width = size.text.hidden_size, size.vision.projection_dim

    def linear(into: int, out: int) -> Tensor:
        return torch.randn(out, into, generator=random) * into**-0.5

    state = {
        "image_proj.proj.weight": linear(image_width, IMAGE_TOKENS * width),
        "image_proj.proj.bias": torch.zeros(IMAGE_TOKENS * width),
        "image_proj.norm.weight": torch.ones(width),
        "image_proj.norm.bias": torch.zeros(width),
    }
    for index, name in enumerate(cross_attentions(unet)):
        channels = unet.get_submodule(name).to_k.out_features
        for part in "kv":
            state[f"ip_adapter.{2 * index + 1}.to_{part}_ip.weight"] = linear(width, channels)
    return Adapter(state)
