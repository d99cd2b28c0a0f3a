"""A small SD1.5 family of seeded weights in the real formats: 16 cross-attentions, 32 channels, a text 64 wide."""

import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from sd15_shapes import unet_shapes, vae_shapes
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

CHANNELS, TEXT_WIDTH, IMAGE_WIDTH, TOKENS = 32, 64, 24, 4


def write_family(folder: Path, seed: int = 0) -> dict[str, Path]:
    """checkpoint, clip_vision and ip_adapter files."""
    folder.mkdir(parents=True, exist_ok=True)
    random = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    checkpoint = {f"model.diffusion_model.{k}": x for k, x in seeded(unet_shapes(CHANNELS, TEXT_WIDTH), random).items()}
    checkpoint |= {f"first_stage_model.{k}": x for k, x in seeded(vae_shapes(), random).items()}
    checkpoint |= {
        "first_stage_model.vae_scale": torch.tensor(0.18215),
        "first_stage_model.vae_shift": torch.tensor(0.0),
    }
    text = CLIPTextModel(
        CLIPTextConfig(hidden_size=TEXT_WIDTH, intermediate_size=128, num_hidden_layers=2, num_attention_heads=1)
    )
    checkpoint |= {
        f"cond_stage_model.transformer.{k if k.startswith('text_model.') else 'text_model.' + k}": x
        for k, x in text.state_dict().items()
        if "position_ids" not in k
    }
    vision = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=1,
            image_size=64,
            patch_size=16,
            projection_dim=IMAGE_WIDTH,
        )
    )
    files = {
        "checkpoint": folder / "checkpoint.safetensors",
        "clip_vision": folder / "clip_vision.safetensors",
        "ip_adapter": folder / "ip_adapter.safetensors",
    }
    save_file({key: x.contiguous() for key, x in checkpoint.items()}, files["checkpoint"])
    save_file({key: x.contiguous() for key, x in vision.state_dict().items()}, files["clip_vision"])
    save_file(adapter_state(random), files["ip_adapter"])
    return files


def adapter_state(random: torch.Generator) -> dict[str, torch.Tensor]:
    def shapes():
        yield "image_proj.proj.weight", (TOKENS * TEXT_WIDTH, IMAGE_WIDTH)
        yield "image_proj.proj.bias", (TOKENS * TEXT_WIDTH,)
        yield "image_proj.norm.weight", (TEXT_WIDTH,)
        yield "image_proj.norm.bias", (TEXT_WIDTH,)
        for number in range(1, 32, 2):
            for part in "kv":
                yield f"ip_adapter.{number}.to_{part}_ip.weight", (CHANNELS, TEXT_WIDTH)

    return seeded(shapes(), random)


def seeded(shapes, random: torch.Generator) -> dict[str, torch.Tensor]:
    """Fan-in scaled normal weights, unit norms, no biases."""
    state = {}
    for key, shape in shapes:
        if len(shape) == 1:
            state[key] = torch.full(shape, float(key.endswith("weight")))
        else:
            state[key] = torch.randn(shape, generator=random) / math.sqrt(math.prod(shape[1:]))
    return state
