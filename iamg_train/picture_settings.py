"""Which pictures `iamg-train generate` makes, and everything that each of them depends on."""

import json
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
import xxhash

from iamg.adapter import read_adapter
from iamg_train.clip_files import TEXT_PREFIXES, read_weights
from iamg_train.config import Config, Model
from iamg_train.diffusion_files import UNET_PREFIX, VAE_PREFIX
from iamg_train.encoders import vision_fingerprint, weights_fingerprint
from iamg_train.gallery import picture_name
from iamg_train.prepared import TEST, Prepared, Sample
from iamg_train.variants import Variant


@dataclass(frozen=True)
class Drawing:
    """How pictures are drawn (D17). Picture n of every user begins from the noise of seed + n."""

    pictures: int = 4  # of each user
    steps: int = 50
    guidance_scale: float = 7.5
    seed: int = 0
    width: int = 512  # pixels
    height: int = 512


class Picture(NamedTuple):
    """One that is to be drawn."""

    name: str  # in the gallery
    seen: Sample  # what the U-Net sees
    asking: Sample  # with which IRA asks
    settings: dict  # all that it depends on


def plan_pictures(
    config: Config, prepared: Prepared, drawing: Drawing, dtype: torch.dtype, variant: Variant
) -> list[Picture]:
    """All pictures of the prepared test users, with the settings that go into each.

    config: with the variant's changes. dtype: of the U-Net.
    """
    method = config.method
    common = {
        "variant": variant.name,
        "image_weight": method.image_weight,
        "text_weight": method.text_weight,
        "interest_weight": method.drawn_interest_weight,
        "query": method.query,
        "heads": method.heads,
        "sampler": "DDIM",
        "steps": drawing.steps,
        "guidance_scale": drawing.guidance_scale,
        "width": drawing.width,
        "height": drawing.height,
        "precision": str(dtype).removeprefix("torch."),
        "cache_dtype": config.data.cache_dtype,
        "weights": _fingerprints(config.model),
    }
    return [
        Picture(
            picture_name(sample.user_id, sample.objective, number),
            sample.as_seen(variant.rewritten, foreground=True),
            sample,
            {**_described(sample, prepared), **common, "seed": drawing.seed + number},
        )
        for sample in prepared.samples(TEST)
        for number in range(drawing.pictures)
    ]


def _described(sample: Sample, prepared: Prepared) -> dict:
    """What a picture is of: to read, and as a hash of everything that conditions it."""
    embeds = prepared.image_embeds(sample.retrieved_ids)
    content = json.dumps(asdict(sample), sort_keys=True).encode() + embeds.numpy().tobytes()
    return {
        "user_id": sample.user_id,
        "objective": sample.objective,
        "history": list(sample.history),
        "item_text": sample.item_text,
        "text": sample.text,
        "retrieved_texts": list(sample.retrieved_text_ids),
        "retrieved_pictures": list(sample.retrieved_ids),
        "foreground": sample.foreground is not None,
        "data_hash": xxhash.xxh3_128_hexdigest(content),
    }


def _fingerprints(files: Model) -> dict[str, str]:
    """Of all weights that draw: 32 hex digits each."""
    drawing_parts = read_weights(files.checkpoint, (UNET_PREFIX, VAE_PREFIX, *TEXT_PREFIXES))
    return {
        "checkpoint": weights_fingerprint(drawing_parts),
        "clip_vision": vision_fingerprint(files.clip_vision),
        "ip_adapter": weights_fingerprint(read_adapter(files.ip_adapter)[0]),
    }
