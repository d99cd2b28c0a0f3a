"""diffusers' U-Net and VAE under the names of the original Stable Diffusion checkpoints."""

from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

Renaming = dict[str, str]  # prefixes: diffusers', the original's

RESIDUAL = {
    "norm1.": "in_layers.0.",
    "conv1.": "in_layers.2.",
    "time_emb_proj.": "emb_layers.1.",
    "norm2.": "out_layers.0.",
    "conv2.": "out_layers.3.",
    "conv_shortcut.": "skip_connection.",
}
VAE_ATTENTION = {"group_norm.": "norm.", "to_q.": "q.", "to_k.": "k.", "to_v.": "v.", "to_out.0.": "proj_out."}


def unet_weights(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """The U-Net's tensors by their names below model.diffusion_model."""
    levels, layers = len(unet.config.block_out_channels), unet.config.layers_per_block
    names = {
        "time_embedding.linear_1.": "time_embed.0.",
        "time_embedding.linear_2.": "time_embed.2.",
        "conv_in.": "input_blocks.0.0.",
        "mid_block.resnets.0.": "middle_block.0.",
        "mid_block.attentions.0.": "middle_block.1.",
        "mid_block.resnets.1.": "middle_block.2.",
        "conv_norm_out.": "out.0.",
        "conv_out.": "out.2.",
    }
    for level in range(levels):
        first = level * (layers + 1)
        for layer in range(layers):
            names[f"down_blocks.{level}.resnets.{layer}."] = f"input_blocks.{first + layer + 1}.0."
            names[f"down_blocks.{level}.attentions.{layer}."] = f"input_blocks.{first + layer + 1}.1."
        names[f"down_blocks.{level}.downsamplers.0.conv."] = f"input_blocks.{first + layers + 1}.0.op."
        for layer in range(layers + 1):
            names[f"up_blocks.{level}.resnets.{layer}."] = f"output_blocks.{first + layer}.0."
            names[f"up_blocks.{level}.attentions.{layer}."] = f"output_blocks.{first + layer}.1."
        names[f"up_blocks.{level}.upsamplers.0."] = f"output_blocks.{first + layers}.2."
    return {
        _renamed(key, names, RESIDUAL if ".resnets." in key else {}): tensor
        for key, tensor in unet.state_dict().items()
    }


def vae_weights(vae: AutoencoderKL) -> dict[str, Tensor]:
    """The VAE's tensors by their names below first_stage_model."""
    levels, layers = len(vae.config.block_out_channels), vae.config.layers_per_block
    names = {}
    for part in ("encoder", "decoder"):
        names[f"{part}.mid_block.resnets.0."] = f"{part}.mid.block_1."
        names[f"{part}.mid_block.attentions.0."] = f"{part}.mid.attn_1."
        names[f"{part}.mid_block.resnets.1."] = f"{part}.mid.block_2."
        names[f"{part}.conv_norm_out."] = f"{part}.norm_out."
    for level in range(levels):
        names[f"encoder.down_blocks.{level}.downsamplers.0."] = f"encoder.down.{level}.downsample."
        names[f"decoder.up_blocks.{level}.upsamplers.0."] = f"decoder.up.{levels - 1 - level}.upsample."
        for layer in range(layers + 1):
            names[f"encoder.down_blocks.{level}.resnets.{layer}."] = f"encoder.down.{level}.block.{layer}."
            names[f"decoder.up_blocks.{level}.resnets.{layer}."] = f"decoder.up.{levels - 1 - level}.block.{layer}."
    weights = {}
    for key, tensor in vae.state_dict().items():
        attention = ".attentions." in key
        inner = VAE_ATTENTION if attention else {"conv_shortcut.": "nin_shortcut."}
        as_convolution = attention and key.endswith("weight") and "group_norm" not in key
        weights[_renamed(key, names, inner)] = tensor[:, :, None, None] if as_convolution else tensor
    return weights


def _renamed(key: str, prefixes: Renaming, inner: Renaming) -> str:
    prefix = next((x for x in sorted(prefixes, key=len, reverse=True) if key.startswith(x)), "")
    rest = key[len(prefix) :]
    part = next((x for x in inner if rest.startswith(x)), "")
    return prefixes.get(prefix, "") + inner.get(part, "") + rest[len(part) :]
