"""IAMGMiniModel: the small family that the pack carries, in ComfyUI's own classes."""

import comfy.model_detection
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
from comfy.clip_vision import ClipVisionModel
from comfy_api.latest import io
from torch import Tensor

from ..iamg.mini.family import read_family
from ..iamg.mini.places import FAMILY
from .sockets import CATEGORY

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
HEAD_WIDTH = 64  # of both towers, as in OpenAI's CLIP


class IAMGMiniModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IAMGMiniModel",
            display_name="Load Mini Model (I-AM-G)",
            category=CATEGORY,
            description="A whole Stable Diffusion in 25 MB that comes with the pack: it draws the mini world's posters, 64 "
            "pixels a side, in seconds without a GPU. For trying the nodes before fetching the real weights.",
            search_aliases=["iamg mini", "small model", "demo model"],
            outputs=[
                io.Model.Output("model"),
                io.Clip.Output("clip"),
                io.Vae.Output("vae"),
                io.ClipVision.Output("clip_vision"),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls):
        status = FAMILY.stat()
        return status.st_mtime_ns, status.st_size

    @classmethod
    def execute(cls) -> io.NodeOutput:
        family = read_family()
        weights = family.checkpoint
        return io.NodeOutput(
            load_model(weights), load_clip(weights), load_vae(weights), load_vision(family.clip_vision)
        )


def load_model(weights: dict[str, Tensor]) -> comfy.model_patcher.ModelPatcher:
    """The U-Net as an SD1.5 of other sizes."""
    config = comfy.supported_models.SD15(comfy.model_detection.detect_unet_config(weights, UNET))
    memory, kinds = comfy.model_management, config.supported_inference_dtypes
    device = memory.get_torch_device()
    count = sum(tensor.numel() for key, tensor in weights.items() if key.startswith(UNET))
    dtype = memory.unet_dtype(
        model_params=count, supported_dtypes=kinds, weight_dtype=weights[UNET + "out.2.weight"].dtype
    )
    config.set_inference_dtype(dtype, memory.unet_manual_cast(dtype, device, kinds), device=device)
    model = config.get_model(weights, UNET, device=memory.unet_inital_load_device(count, dtype))
    patcher = comfy.model_patcher.CoreModelPatcher(
        model, load_device=device, offload_device=memory.unet_offload_device()
    )
    model.load_model_weights(dict(weights), UNET, assign=patcher.is_dynamic())
    return patcher


def load_clip(weights: dict[str, Tensor]) -> comfy.sd.CLIP:
    """SD1.5's text encoder class, its tower as large as the weights are."""
    tower = {f"clip_l.transformer.{key.removeprefix(TEXT)}": x for key, x in weights.items() if key.startswith(TEXT)}
    prefix = "clip_l.transformer.text_model."
    target = comfy.supported_models.SD15({}).clip_target()
    return comfy.sd.CLIP(
        target,
        parameters=sum(tensor.numel() for tensor in tower.values()),
        state_dict=tower,
        model_options={"clip_l_model_config": _tower_config(tower, prefix)},
    )


def load_vae(weights: dict[str, Tensor]) -> comfy.sd.VAE:
    tensors = {key.removeprefix(VAE): tensor for key, tensor in weights.items() if key.startswith(VAE)}
    levels = _count(tensors, "encoder.down.")
    channels = [len(tensors[f"encoder.down.{n}.block.0.conv1.weight"]) for n in range(levels)]
    latent = tensors["post_quant_conv.weight"].shape[0]
    sizes = {
        "double_z": True,
        "z_channels": latent,
        "resolution": 64,
        "in_channels": 3,
        "out_ch": 3,
        "ch": channels[0],
        "ch_mult": [n // channels[0] for n in channels],
        "num_res_blocks": _count(tensors, "encoder.down.0.block."),
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    return comfy.sd.VAE(tensors, config={"params": {"ddconfig": sizes, "embed_dim": latent}})


def load_vision(weights: dict[str, Tensor]) -> ClipVisionModel:
    patches = weights["vision_model.embeddings.patch_embedding.weight"]
    positions = len(weights["vision_model.embeddings.position_embedding.weight"])
    config = _tower_config(weights, "vision_model.") | {
        "hidden_act": "quick_gelu",
        "image_size": round((positions - 1) ** 0.5) * patches.shape[-1],
        "patch_size": patches.shape[-1],
        "num_channels": 3,
        "projection_dim": len(weights["visual_projection.weight"]),
        "layer_norm_eps": 1e-5,
        "model_type": "clip_vision_model",
    }
    vision = ClipVisionModel(config)
    vision.load_sd(dict(weights))
    return vision


def _tower_config(weights: dict[str, Tensor], prefix: str) -> dict[str, int]:
    intermediate, width = weights[f"{prefix}encoder.layers.0.mlp.fc1.weight"].shape
    return {
        "hidden_size": width,
        "intermediate_size": intermediate,
        "num_attention_heads": width // HEAD_WIDTH,
        "num_hidden_layers": _count(weights, f"{prefix}encoder.layers."),
    }


def _count(weights: dict[str, Tensor], prefix: str) -> int:
    return 1 + max(int(key[len(prefix) :].split(".")[0]) for key in weights if key.startswith(prefix))
