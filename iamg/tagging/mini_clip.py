"""The mini family's CLIP for the clip tagger: its two towers under open_clip's names, in open_clip's own class."""

import math
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..clip_pixels import clip_pixels
from ..crop import cuts_center, prepare
from ..mini.family import Family, read_family
from ..mini.places import FAMILY
from ..pool_files import checksum
from .open_clip_files import OpenClip, Towers

CROP = "center_crop"
HEAD_WIDTH = 64  # of both towers, as in OpenAI's CLIP
TEXT_PREFIX = "cond_stage_model.transformer."

# transformers' names for the parts of a CLIP tower, and open_clip's names for the same.
PARTS = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.": "conv1.",
    "embeddings.token_embedding.": "token_embedding.",
    "embeddings.position_embedding.weight": "positional_embedding",
    "encoder.layers.": "transformer.resblocks.",
    ".layer_norm1.": ".ln_1.",
    ".layer_norm2.": ".ln_2.",
    ".self_attn.out_proj.": ".attn.out_proj.",
    ".mlp.fc1.": ".mlp.c_fc.",
    ".mlp.fc2.": ".mlp.c_proj.",
    "pre_layrnorm.": "ln_pre.",
    "post_layernorm.": "ln_post.",
    "final_layer_norm.": "ln_final.",
}


def mini_clip(path: Path = FAMILY) -> OpenClip:
    """The CLIP of the shipped mini family; FileNotFoundError where the family is not there."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; install the pack again, or choose another CLIP model")
    return OpenClip(checksum(path), lambda: _mini_towers(read_family(path)))


def _mini_towers(family: Family) -> Towers:
    import open_clip

    weights = _open_clip_names(family)
    text_width, embed_dim = weights["text_projection"].shape
    vision_width, _, _, patch = weights["visual.conv1.weight"].shape
    size = math.isqrt(len(weights["visual.positional_embedding"]) - 1) * patch
    model = open_clip.CLIP(
        embed_dim,
        {
            "width": vision_width,
            "head_width": HEAD_WIDTH,
            "layers": _count_layers(weights, "visual."),
            "mlp_ratio": len(weights["visual.transformer.resblocks.0.mlp.c_fc.bias"]) / vision_width,
            "patch_size": patch,
            "image_size": size,
        },
        {
            "vocab_size": len(weights["token_embedding.weight"]),
            "context_length": len(weights["positional_embedding"]),
            "width": text_width,
            "heads": text_width // HEAD_WIDTH,
            "layers": _count_layers(weights, ""),
            "mlp_ratio": len(weights["transformer.resblocks.0.mlp.c_fc.bias"]) / text_width,
        },
        quick_gelu=True,
    )
    model.load_state_dict(weights)
    model.eval()

    def pixels(image: Image.Image) -> torch.Tensor:
        return clip_pixels(prepare(image, CROP), size, cuts_center(CROP))[0]

    return Towers(model, open_clip.SimpleTokenizer(context_length=model.context_length), pixels)


def _open_clip_names(family: Family) -> dict[str, Tensor]:
    """Both towers' tensors as open_clip's CLIP names them."""
    towers = {"": (TEXT_PREFIX + "text_model.", family.checkpoint), "visual.": ("vision_model.", family.clip_vision)}
    weights = {
        "text_projection": family.checkpoint[TEXT_PREFIX + "text_projection.weight"].T,
        "visual.proj": family.clip_vision["visual_projection.weight"].T,
        "logit_scale": torch.tensor(math.log(family.logit_scale)),
    }
    for theirs, (ours, tensors) in towers.items():
        for key, tensor in tensors.items():
            if not key.startswith(ours):
                continue
            name = key.removeprefix(ours)
            for part, other in PARTS.items():
                name = name.replace(part, other)
            weights[theirs + name] = tensor
    for name in [name for name in weights if ".self_attn.q_proj." in name]:
        q, k, v = (weights.pop(name.replace("q_proj", f"{x}_proj")) for x in "qkv")
        weights[name.replace(".self_attn.q_proj.", ".attn.in_proj_")] = torch.cat([q, k, v])
    return weights


def _count_layers(weights: dict[str, Tensor], tower: str) -> int:
    return sum(name.startswith(f"{tower}transformer.resblocks.") and name.endswith(".ln_1.bias") for name in weights)
