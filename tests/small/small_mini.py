"""A mini world of a few items and users with its pool, under seeded weights of the mini family's shape, and its evaluation.

The small family's U-Net has one position left at its lowest level of 64 pixels, where a GroupNorm blows rounding up.
"""

from argparse import ArgumentParser, Namespace
from collections import Counter
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from small_models import IMAGE_WIDTH, TEXT_WIDTH, TOKENS, seeded, write_family

from iamg.items import read_items
from iamg.pool_builder import build_pool
from iamg.scenarios import load_scenarios
from iamg.tagging import make_tagger
from iamg_train.config import load_config
from iamg_train.diffusion_files import HEADS, UNET_PREFIX, VAE_PREFIX
from iamg_train.encoders import ClipEncoders
from iamg_train.mini.checkpoint_names import unet_weights, vae_weights
from iamg_train.mini.evaluation_arguments import add_arguments
from iamg_train.mini.world import MASKS, invent_world, write_world
from iamg_train.personalised_unet import cross_attentions

CHANNELS = (32, 64)


def write_mini(folder: Path) -> dict[str, Path]:
    """world, pool, checkpoint, clip_vision, ip_adapter, and adapter: other weights, as if fine-tuned."""
    files = write_mini_family(folder / "family")
    write_world(folder / "world", invent_world(0, items=60, users=120), 0)
    build_pool(
        folder / "pool",
        read_items(folder / "world", lambda *_: None),
        folder / "world",
        ClipEncoders(files["checkpoint"], files["clip_vision"]),
        make_tagger("visual + keywords"),
        load_scenarios()["mini poster"],
    )
    return {"world": folder / "world", "pool": folder / "pool", **files}


def write_mini_family(folder: Path) -> dict[str, Path]:
    files = write_family(folder)
    random = torch.Generator().manual_seed(0)
    unet, vae = _models()
    parts = {UNET_PREFIX: unet_weights(unet), VAE_PREFIX: vae_weights(vae)}
    checkpoint = {k: x for k, x in load_file(files["checkpoint"]).items() if not k.startswith(tuple(parts))}
    for prefix, weights in parts.items():
        made = seeded(((key, tuple(x.shape)) for key, x in weights.items()), random)
        checkpoint |= {prefix + key: x for key, x in made.items()}
    save_file(checkpoint, files["checkpoint"])
    files["adapter"] = folder / "adapter.safetensors"
    for name in ("ip_adapter", "adapter"):
        save_file(seeded(_adapter_shapes(unet), random), files[name])
    return files


def evaluation(mini: dict[str, Path], out: Path, **flags: object) -> Namespace:
    """The arguments of an evaluation of seconds."""
    parser = ArgumentParser()
    add_arguments(parser)
    given = {**mini, "out": out, "users": 3, "seeds": 1, "steps": 1, **flags}
    return parser.parse_args([x for name, value in given.items() for x in ("--" + name.replace("_", "-"), str(value))])


def write_config(mini: dict[str, Path], folder: Path, **changes: object) -> Path:
    """A run over the world, in TOML; what it prepares and keeps lies beside."""
    given = {name: mini[name] for name in ("pool", "checkpoint", "clip_vision", "ip_adapter")}
    given |= {"items": mini["world"], "masks": mini["world"] / MASKS, "foreground": "masks", "scenario": "mini poster"}
    given |= {"prepared": folder / "prepared", "cache": folder / "cache", "cache_dtype": "float32"}
    config = load_config(None, given | {"resolution": 64, "device": "cpu"} | changes)
    (folder / "config.toml").write_text(config.to_toml(), encoding="utf-8")
    return folder / "config.toml"


def busiest_users(mini: dict[str, Path], count: int) -> list[str]:
    """Those with the most interactions."""
    lines = (mini["world"] / "interactions.csv").read_text().splitlines()[1:]
    met = Counter(line.split(",")[0] for line in lines)
    return sorted(met, key=lambda user_id: (-met[user_id], user_id))[:count]


def _models() -> tuple[UNet2DConditionModel, AutoencoderKL]:
    """In the mini family's shape, and narrower."""
    unet = UNet2DConditionModel(
        block_out_channels=CHANNELS,
        layers_per_block=1,
        down_block_types=["CrossAttnDownBlock2D"] * len(CHANNELS),
        up_block_types=["CrossAttnUpBlock2D"] * len(CHANNELS),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=HEADS,
    )
    vae = AutoencoderKL(
        block_out_channels=[32] * 4,
        layers_per_block=1,
        latent_channels=4,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
    )
    return unet, vae


def _adapter_shapes(unet: UNet2DConditionModel):
    yield "image_proj.proj.weight", (TOKENS * TEXT_WIDTH, IMAGE_WIDTH)
    yield "image_proj.proj.bias", (TOKENS * TEXT_WIDTH,)
    yield "image_proj.norm.weight", (TEXT_WIDTH,)
    yield "image_proj.norm.bias", (TEXT_WIDTH,)
    for index, name in enumerate(cross_attentions(unet)):
        channels = unet.get_submodule(name).to_k.out_features
        for part in "kv":
            yield f"ip_adapter.{2 * index + 1}.to_{part}_ip.weight", (channels, TEXT_WIDTH)
