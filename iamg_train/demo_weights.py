"""The demo's weights: random, from a seed, in the real file formats and as small as ComfyUI's stock loaders take.

Random towers give every input nearly the same embedding. Here a text's embedding is about the mean of its
words' and a picture's about the mean of its patches', and the last LayerNorm's bias takes away what all samples
share: neighbours then share words, and look alike in colour.
"""

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPVisionConfig, CLIPVisionModelWithProjection

from iamg.crop import prepare
from iamg_train.clip_files import text_model, vision_model
from iamg_train.demo_catalogue import catalogue_items
from iamg_train.demo_shapes import CHANNELS, CONTEXT, LATENT, VAE_CHANNELS, Shapes, unet_shapes, vae_shapes
from iamg_train.encoders import ClipTokenizer, clip_pixels

STORAGE = 1 << 20  # numbers that the whole CLIP Vision file is views of
IMAGE_WIDTH = 768  # ViT-L/14's projection
IMAGE_TOKENS = 4
TEXTURE = 0.15  # of the noise that the U-Net predicts
LATENT_COLOURS = (
    (0.10, 0.10, 0.10),
    (0.20, -0.04, -0.12),
    (-0.12, 0.12, 0.02),
    (0.04, -0.10, 0.20),
)  # RGB of each number
VAE_SCALE = 0.18215  # SD1.5's latents in TAESD's units


@dataclass(frozen=True)
class WeightFiles:
    """The three files a run needs."""

    checkpoint: Path
    clip_vision: Path
    ip_adapter: Path


def make_demo_weights(folder: Path, seed: int = 0) -> WeightFiles:
    """The demo's three files in `folder`; those that are there already are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    files = WeightFiles(
        checkpoint=folder / f"iamg_demo_sd15_seed{seed}.safetensors",
        clip_vision=folder / f"iamg_demo_clip_vision_seed{seed}.pt",
        ip_adapter=folder / f"iamg_demo_ip_adapter_seed{seed}.safetensors",
    )
    makers = (
        (files.checkpoint, checkpoint_weights, save_file),
        (files.clip_vision, vision_weights, torch.save),
        (files.ip_adapter, adapter_weights, save_file),
    )
    for path, make, save in makers:
        if not path.exists():
            beside = path.with_name(path.name + ".part")
            save(make(torch.Generator().manual_seed(seed)), beside)
            os.replace(beside, path)
    return files


def checkpoint_weights(generator: torch.Generator) -> dict[str, torch.Tensor]:
    """An SD1.5 checkpoint: narrow U-Net, TAESD-shaped VAE, whole CLIP-L text tower; float16."""
    unet = _random(unet_shapes(), generator, _unet_gain)
    _pass_latent_through(unet)
    vae = _random(vae_shapes(), generator, _vae_gain)
    _show_latent_as_colours(vae)
    weights = {f"model.diffusion_model.{key}": tensor for key, tensor in unet.items()}
    weights |= {f"first_stage_model.{key}": tensor for key, tensor in vae.items()}
    weights |= {
        "first_stage_model.vae_scale": torch.tensor(VAE_SCALE),
        "first_stage_model.vae_shift": torch.tensor(0.0),
    }
    text = text_weights(generator)
    weights |= {f"cond_stage_model.transformer.{key}": tensor for key, tensor in text.items()}
    return weights


def text_weights(generator: torch.Generator) -> dict[str, torch.Tensor]:
    """CLIP-L's text tower, its end token's row centred on the sample texts."""
    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
    )
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in CLIPTextModelWithProjection(config).state_dict().items()}
    shapes = ((k, tuple(v)) for k, v in shapes.items() if k.startswith("text_model.") and "position_ids" not in k)
    weights = _random(shapes, generator, _text_gain)
    tokens = ClipTokenizer()([item["text"] for item, _ in _samples()])
    with torch.inference_mode():
        hidden = text_model(weights, "demo text tower").text_model(input_ids=tokens).last_hidden_state
    ends = (tokens == tokens.max()).int().argmax(dim=1)
    weights["text_model.final_layer_norm.bias"] = -hidden[torch.arange(len(tokens)), ends].mean(dim=0).half()
    return weights


def _unet_gain(key: str) -> float:
    """Cross-attention picks tokens out and counts; the last convolution adds its texture quietly."""
    if ".attn2.to_q." in key or ".attn2.to_out." in key:
        return 3.0
    return TEXTURE if key == "out.2.weight" else 1.0


def _pass_latent_through(unet: dict[str, torch.Tensor]) -> None:
    """Let the U-Net predict its own input as the noise, besides texture: sampling then stays in range.

    The latent rides as (x, -x) on the first eight channels, over the outermost skip connection; the last
    SiLU is undone, because silu(x) - silu(-x) = x.
    """
    pairs, last = range(2 * LATENT), "output_blocks.11."
    unet["input_blocks.0.0.weight"][:10] = 0
    unet[last + "0.skip_connection.weight"][:10] = 0  # ten channels: the first group of the last GroupNorm
    unet[last + "0.out_layers.3.weight"][:10] = 0
    unet[last + "1.proj_out.weight"][:10] = 0
    texture = unet["out.2.weight"]
    texture -= 0.85 * texture.mean(dim=(2, 3), keepdim=True)  # hardly a tint of the whole picture
    texture[:, :10] = 0
    for channel in pairs:
        latent, sign = channel % LATENT, 1 if channel < LATENT else -1
        unet["input_blocks.0.0.weight"][channel, latent, 1, 1] = sign
        unet[last + "0.skip_connection.weight"][channel, CHANNELS + channel] = 1
        unet["out.2.weight"][latent, channel, 1, 1] = sign * 0.8**0.5  # eight of ten channels vary


def _vae_gain(key: str) -> float:
    return 0.3 if key.endswith(".conv.4.weight") else 1.0


def _show_latent_as_colours(vae: dict[str, torch.Tensor]) -> None:
    """Let the decoder show the latent's four numbers as soft colours, besides texture.

    They ride as (x, -x) on the first eight channels, which ReLUs leave whole as a pair.
    """
    decoder = {key.removeprefix("taesd_decoder."): tensor for key, tensor in vae.items() if "decoder" in key}
    for key, tensor in decoder.items():
        if key.endswith(".conv.4.weight"):
            tensor[: 2 * LATENT] *= 0.1
        elif key in ("7.weight", "12.weight", "17.weight"):  # after the upsamplings: a blur
            tensor *= 0.2
            tensor[: 2 * LATENT] = 0
            for channel in range(VAE_CHANNELS):
                tensor[channel, channel] += 1 / 9
    decoder["1.weight"][: 2 * LATENT] = 0
    decoder["19.weight"] *= 0.5
    decoder["19.weight"][:, : 2 * LATENT] = 0
    for channel in range(2 * LATENT):
        latent, sign = channel % LATENT, 1 if channel < LATENT else -1
        decoder["1.weight"][channel, latent, 1, 1] = sign
        decoder["19.weight"][:, channel, 1, 1] = sign * torch.tensor(LATENT_COLOURS[latent])
    decoder["19.bias"][:] = 0.5


def vision_weights(generator: torch.Generator) -> dict[str, torch.Tensor]:
    """CLIP ViT-L/14: every tensor a strided view over one small storage, so a file of 303 M numbers takes 4 MB."""
    config = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14,
        projection_dim=IMAGE_WIDTH,
    )  # fmt: skip
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in CLIPVisionModelWithProjection(config).state_dict().items()}
    shapes.pop("vision_model.embeddings.position_ids", None)
    numbers = (torch.randn(STORAGE, generator=generator) / 32).half()  # 1/32: a fan-in of 1024
    sharper = 3 * numbers  # queries: attention then picks patches out, and a picture is more than its mean colour
    one, zero = torch.ones(1).half(), torch.zeros(1).half()
    weights = {}
    for key, shape in shapes.items():
        if len(shape) == 1 and "class_embedding" not in key:
            weights[key] = (one if _is_norm_weight(key) else zero).expand(shape)
        else:
            weights[key] = _view(sharper if ".q_proj." in key else numbers, shape, generator)
    size = config.image_size
    pixels = torch.cat([clip_pixels(prepare(poster, "center_crop"), size, True) for _, poster in _samples()])
    with torch.inference_mode():
        pooled = vision_model(weights, "demo vision tower").vision_model(pixel_values=pixels).pooler_output
    weights["vision_model.post_layernorm.bias"] = -pooled.mean(dim=0).half()
    return weights


def adapter_weights(generator: torch.Generator) -> dict[str, torch.Tensor]:
    """A stock IP-Adapter for the demo's U-Net and CLIP Vision."""
    return _random(adapter_shapes(), generator, lambda key: 2.0 if "_ip." in key else 1.0)


def adapter_shapes() -> Shapes:
    """The official names; the 16 cross-attentions are numbered 1, 3 ... 31, the middle one last."""
    yield "image_proj.proj.weight", (IMAGE_TOKENS * CONTEXT, IMAGE_WIDTH)
    yield "image_proj.proj.bias", (IMAGE_TOKENS * CONTEXT,)
    yield "image_proj.norm.weight", (CONTEXT,)
    yield "image_proj.norm.bias", (CONTEXT,)
    for number in range(1, 32, 2):
        yield f"ip_adapter.{number}.to_k_ip.weight", (CHANNELS, CONTEXT)
        yield f"ip_adapter.{number}.to_v_ip.weight", (CHANNELS, CONTEXT)


def _samples() -> Iterable[tuple[dict, Image.Image]]:
    """Items of the catalogue, over all subjects and moods, that the LayerNorm biases are taken from."""
    return islice(catalogue_items(), 0, None, 7)


def _random(shapes: Shapes, generator: torch.Generator, gain: Callable[[str], float]) -> dict[str, torch.Tensor]:
    """Norms that change nothing, no biases, and normal weights that keep the variance, times `gain`; float16."""
    weights = {}
    for key, shape in shapes:
        if len(shape) == 1:
            weights[key] = torch.full(shape, float(_is_norm_weight(key))).half()
        else:
            fan_in = 1 if "embedding" in key else math.prod(shape[1:])
            weights[key] = (torch.randn(shape, generator=generator) * (gain(key) / fan_in**0.5)).half()
    return weights


def _is_norm_weight(key: str) -> bool:
    return key.endswith(".weight")  # asked of vectors only: a vector that is a weight scales a norm


def _text_gain(key: str) -> float:
    """Words count, places hardly; attention is nearly even, so that the end token averages the words."""
    if "position_embedding" in key:
        return 0.05
    if ".q_proj." in key or ".k_proj." in key:
        return 0.3
    return 2.0 if ".out_proj." in key else 1.0


def _view(numbers: torch.Tensor, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """`shape` over the storage: rows overlap, each a step further on, from a place drawn by the generator."""
    rows, row = (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, shape[0])
    step = min(row, (len(numbers) - row) // rows)
    start = int(torch.randint(len(numbers) - row - step * (rows - 1), (1,), generator=generator))
    inner = torch.empty(shape[1:] if len(shape) > 1 else shape).stride()
    strides = (step, *inner) if len(shape) > 1 else inner
    return numbers.as_strided(shape, strides, start)
