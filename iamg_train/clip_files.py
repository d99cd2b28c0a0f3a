"""CLIP towers out of the files ComfyUI reads, into transformers' models; every size comes from the weights."""

from pathlib import Path

import torch
from safetensors import safe_open
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPVisionConfig, CLIPVisionModelWithProjection

Weights = dict[str, torch.Tensor]

# Where a text tower may lie in a file: an SD1.5 checkpoint (with and without the inner name), a text encoder alone.
TEXT_PREFIXES = ("cond_stage_model.transformer.text_model.", "cond_stage_model.transformer.", "text_model.")

# What a vision tower's sizes are read from.
VISION_KEYS = (
    "vision_model.embeddings.patch_embedding.weight",
    "vision_model.embeddings.position_embedding.weight",
    "vision_model.encoder.layers.0.mlp.fc1.weight",
    "visual_projection.weight",
)

# open_clip's names for the parts of a vision tower, and transformers' names for the same.
OPEN_CLIP_VISION = {
    "class_embedding": "embeddings.class_embedding",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_pre.": "pre_layrnorm.",
    "ln_post.": "post_layernorm.",
    "transformer.resblocks.": "encoder.layers.",
    ".ln_1.": ".layer_norm1.",
    ".ln_2.": ".layer_norm2.",
    ".attn.out_proj.": ".self_attn.out_proj.",
    ".mlp.c_fc.": ".mlp.fc1.",
    ".mlp.c_proj.": ".mlp.fc2.",
}

# Width of a tower, width of its heads: OpenCLIP's ViT-H and ViT-bigG, which have the exact GELU. Others are OpenAI's.
OPEN_CLIP_HEADS = {1280: 80, 1664: 104}


def text_model(weights: Weights, file: str) -> CLIPTextModelWithProjection:
    """The CLIP-L text tower of an SD1.5 checkpoint or of a text encoder alone, in float32; `file` names it in errors."""
    weights = text_tower(weights, file)
    vocabulary, width = weights["text_model.embeddings.token_embedding.weight"].shape
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=weights["text_model.encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=count_layers(weights, "text_model.encoder.layers."),
        num_attention_heads=width // 64,
        max_position_embeddings=weights["text_model.embeddings.position_embedding.weight"].shape[0],
        hidden_act="quick_gelu",
        projection_dim=1,  # the projection is not used: SD1.5 reads the unprojected rows
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
    )
    return fill(CLIPTextModelWithProjection, config, weights, file, unused=("text_projection.",))


def vision_model(weights: Weights, file: str) -> CLIPVisionModelWithProjection:
    """A CLIP Vision tower with its projection, in float32; `file` names it in errors."""
    weights = vision_tower(weights, file)
    width, _, _, patch = weights["vision_model.embeddings.patch_embedding.weight"].shape
    positions = weights["vision_model.embeddings.position_embedding.weight"].shape[0]
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=weights["vision_model.encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=count_layers(weights, "vision_model.encoder.layers."),
        num_attention_heads=width // OPEN_CLIP_HEADS.get(width, 64),
        hidden_act="gelu" if width in OPEN_CLIP_HEADS else "quick_gelu",
        image_size=round((positions - 1) ** 0.5) * patch,
        patch_size=patch,
        projection_dim=weights["visual_projection.weight"].shape[0],
    )
    return fill(CLIPVisionModelWithProjection, config, weights, file)


def read_weights(path: Path, prefixes: tuple[str, ...] = ("",)) -> Weights:
    """The tensors whose names begin so, of a .safetensors file, or of a torch file read weights-only."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                return {key: file.get_tensor(key) for key in file.keys() if key.startswith(prefixes)}
        weights = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        weights = weights.get("state_dict", weights)  # .ckpt files keep their tensors under this name
        return {key: tensor for key, tensor in weights.items() if key.startswith(prefixes)}
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist") from None
    except Exception as error:
        raise ValueError(f"{path.name} cannot be read as weights: {error}") from None


def text_tower(weights: Weights, file: str) -> Weights:
    """The text tower's tensors as `text_model.*`, wherever they lie; ValueError where there are none."""
    prefix = next((p for p in TEXT_PREFIXES if p + "final_layer_norm.weight" in weights), None)
    if prefix is None:
        raise ValueError(
            f"{file} holds no CLIP text tower (no {TEXT_PREFIXES[0]}* tensors); "
            "give an SD1.5 checkpoint or a CLIP-L text encoder file"
        )
    return {"text_model." + key[len(prefix) :]: t for key, t in weights.items() if key.startswith(prefix)}


def vision_tower(weights: Weights, file: str) -> Weights:
    """The vision tower's tensors under transformers' names; ValueError where the file holds no whole tower."""
    weights = transformers_names(weights)
    if missing := [key for key in VISION_KEYS if key not in weights]:
        raise ValueError(f"{file} is no CLIP Vision file with projection: it lacks {missing[0]}")
    return weights


def transformers_names(weights: Weights) -> Weights:
    """A CLIP Vision file's tensors under transformers' names, whichever of the two layouts it has."""
    if "visual.conv1.weight" not in weights:
        return weights
    renamed = {"visual_projection.weight": weights["visual.proj"].T}
    for key, tensor in weights.items():
        if not key.startswith("visual.") or key == "visual.proj":
            continue
        name = key.removeprefix("visual.")
        for theirs, ours in OPEN_CLIP_VISION.items():
            name = name.replace(theirs, ours)
        name = "vision_model." + name
        if ".attn.in_proj_" in name:
            for part, rows in zip("qkv", tensor.chunk(3), strict=True):
                renamed[name.replace(".attn.in_proj_", f".self_attn.{part}_proj.")] = rows
        else:
            renamed[name] = tensor
    return renamed


def count_layers(weights: Weights, prefix: str) -> int:
    return 1 + max(int(key[len(prefix) :].split(".")[0]) for key in weights if key.startswith(prefix))


def fill(model_class, config, weights: Weights, file: str, unused: tuple[str, ...] = ()):
    """A model of this config holding these weights, in evaluation; ValueError where a tensor is missing or misfits."""
    model = model_class(config).eval().requires_grad_(False)
    wanted = {key for key in model.state_dict() if not key.startswith(unused) and not key.endswith("position_ids")}
    if missing := sorted(wanted - weights.keys()):
        raise ValueError(f"{file} lacks {len(missing)} tensors of its tower, the first is {missing[0]}")
    try:
        model.load_state_dict({key: weights[key] for key in wanted}, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{file} does not fit the tower its shapes describe: {error}") from None
    return model
