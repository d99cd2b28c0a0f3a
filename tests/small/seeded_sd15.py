"""SD1.5, CLIP ViT-L and an IP-Adapter of seeded weights, in the real file formats: what ComfyUI's stock loaders take whole.

Random towers give every input nearly the same embedding. Here a text's embedding is about the mean of its words' and a
picture's about the mean of its patches', and the last LayerNorm's bias takes away what all samples share: else
retrieval would leave everything out as near-duplicates.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from safetensors.torch import save_file
from sd15_shapes import IMAGE_WIDTH, Shapes, adapter_shapes, unet_shapes, vae_shapes
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPVisionConfig, CLIPVisionModelWithProjection

from iamg.crop import prepare
from iamg_train.clip_files import text_model, vision_model
from iamg_train.encoders import ClipTokenizer, clip_pixels

STORAGE = 1 << 20  # numbers that the whole CLIP Vision file is views of
VAE_SCALE = 0.18215  # SD1.5's latents in TAESD's units


class SeededFiles(NamedTuple):
    checkpoint: Path
    clip_vision: Path
    ip_adapter: Path


def write_seeded_sd15(folder: Path, samples: Sequence[tuple[str, Image.Image]], seed: int = 0) -> SeededFiles:
    """Three files; samples: texts and pictures such as will be encoded."""
    folder.mkdir(parents=True, exist_ok=True)
    files = SeededFiles(folder / "sd15.safetensors", folder / "vision.pt", folder / "ip_adapter.safetensors")
    texts, pictures = zip(*samples, strict=True)
    random = torch.Generator().manual_seed(seed)
    save_file(_checkpoint(texts, random), files.checkpoint)
    torch.save(_vision(pictures, random), files.clip_vision)
    save_file(_random(adapter_shapes(), random), files.ip_adapter)
    return files


def _checkpoint(texts: Sequence[str], random: torch.Generator) -> dict[str, torch.Tensor]:
    weights = {f"model.diffusion_model.{key}": x for key, x in _random(unet_shapes(), random).items()}
    weights |= {f"first_stage_model.{key}": x for key, x in _random(vae_shapes(), random).items()}
    weights["first_stage_model.vae_scale"] = torch.tensor(VAE_SCALE)
    weights["first_stage_model.vae_shift"] = torch.tensor(0.0)
    return weights | {f"cond_stage_model.transformer.{key}": x for key, x in _text(texts, random).items()}


def _text(texts: Sequence[str], random: torch.Generator) -> dict[str, torch.Tensor]:
    """CLIP-L's text tower, its end token's row centred on the texts."""
    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
    )
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in CLIPTextModelWithProjection(config).state_dict().items()}
    shapes = ((k, tuple(v)) for k, v in shapes.items() if k.startswith("text_model.") and "position_ids" not in k)
    weights = _random(shapes, random, _text_gain)
    tokens = ClipTokenizer()(texts)
    with torch.inference_mode():
        hidden = text_model(weights, "seeded text tower").text_model(input_ids=tokens).last_hidden_state
    ends = (tokens == tokens.max()).int().argmax(dim=1)
    weights["text_model.final_layer_norm.bias"] = -hidden[torch.arange(len(tokens)), ends].mean(dim=0).half()
    return weights


def _vision(pictures: Sequence[Image.Image], random: torch.Generator) -> dict[str, torch.Tensor]:
    """CLIP ViT-L/14: every tensor a strided view over one small storage, so a file of 303 M numbers takes 4 MB."""
    config = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14,
        projection_dim=IMAGE_WIDTH,
    )  # fmt: skip
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in CLIPVisionModelWithProjection(config).state_dict().items()}
    shapes.pop("vision_model.embeddings.position_ids", None)
    numbers = (torch.randn(STORAGE, generator=random) / 32).half()  # 1/32: a fan-in of 1024
    sharper = 3 * numbers  # queries: attention then picks patches out, and a picture is more than its mean colour
    one, zero = torch.ones(1).half(), torch.zeros(1).half()
    weights = {}
    for key, shape in shapes.items():
        if len(shape) == 1 and "class_embedding" not in key:
            weights[key] = (one if key.endswith(".weight") else zero).expand(shape)
        else:
            weights[key] = _view(sharper if ".q_proj." in key else numbers, shape, random)
    pixels = torch.cat([clip_pixels(prepare(picture, "center_crop"), config.image_size, True) for picture in pictures])
    with torch.inference_mode():
        pooled = vision_model(weights, "seeded vision tower").vision_model(pixel_values=pixels).pooler_output
    weights["vision_model.post_layernorm.bias"] = -pooled.mean(dim=0).half()
    return weights


def _random(
    shapes: Shapes, random: torch.Generator, gain: Callable[[str], float] = lambda key: 1.0
) -> dict[str, torch.Tensor]:
    """Norms that change nothing, no biases, and normal weights that keep the variance, times `gain`; float16."""
    weights = {}
    for key, shape in shapes:
        if len(shape) == 1:
            weights[key] = torch.full(shape, float(key.endswith(".weight"))).half()
        else:
            fan_in = 1 if "embedding" in key else math.prod(shape[1:])
            weights[key] = (torch.randn(shape, generator=random) * (gain(key) / fan_in**0.5)).half()
    return weights


def _text_gain(key: str) -> float:
    """Words count, places hardly; attention is nearly even, so that the end token averages the words."""
    if "position_embedding" in key:
        return 0.05
    if ".q_proj." in key or ".k_proj." in key:
        return 0.3
    return 2.0 if ".out_proj." in key else 1.0


def _view(numbers: torch.Tensor, shape: tuple[int, ...], random: torch.Generator) -> torch.Tensor:
    """`shape` over the storage: rows overlap, each a step further on, from a place drawn by the generator."""
    rows, row = (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, shape[0])
    step = min(row, (len(numbers) - row) // rows)
    start = int(torch.randint(len(numbers) - row - step * (rows - 1), (1,), generator=random))
    inner = torch.empty(shape[1:] if len(shape) > 1 else shape).stride()
    strides = (step, *inner) if len(shape) > 1 else inner
    return numbers.as_strided(shape, strides, start)
