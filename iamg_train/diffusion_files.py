"""U-Net and VAE out of one SD1.5 checkpoint file, into diffusers' models; every size comes from the weights."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint

from iamg_train.clip_files import Weights, count_layers, read_weights

UNET_PREFIX, VAE_PREFIX = "model.diffusion_model.", "first_stage_model."
HEADS = 8
LATENT_CHANNELS = 4
LATENT_SCALE = 0.18215  # from the VAE's latents to the U-Net's, in all of SD1.5
EXPECTED = "a Stable Diffusion 1.5 checkpoint (one .safetensors or .ckpt file with U-Net, VAE and CLIP-L)"

# What a tensor's name tells about a file that is no SD1.5 checkpoint, the first that fits.
TELLING_NAMES = (
    ("lora", "a LoRA"),
    ("conditioner.embedders.", "an SDXL checkpoint"),
    ("model.diffusion_model.label_emb.", "an SDXL checkpoint"),
    ("cond_stage_model.model.", "a Stable Diffusion 2 checkpoint"),
    ("ip_adapter.", "an IP-Adapter"),
    ("control_model.", "a ControlNet"),
    ("down_blocks.0.", "one model in diffusers' own format"),
)


def load_unet(checkpoint: Path, dtype: torch.dtype | None = None) -> UNet2DConditionModel:
    """The U-Net, frozen, in this type or the one it is stored in; ValueError for a file that is no SD1.5 checkpoint.

    Tensors that need no conversion stay in the mapped file until they are moved.
    """
    weights = _read(checkpoint)
    unet = {key.removeprefix(UNET_PREFIX): x for key, x in weights.items() if key.startswith(UNET_PREFIX)}
    if "input_blocks.0.0.weight" not in unet or "output_blocks.0.0.in_layers.0.weight" not in unet:
        raise ValueError(f"{checkpoint.name} holds no U-Net (no {UNET_PREFIX}* tensors); give {EXPECTED}")
    channels = unet["input_blocks.0.0.weight"].shape[1]
    if channels != LATENT_CHANNELS:
        kind = {9: "an inpainting checkpoint", 8: "an image-editing checkpoint"}.get(channels, "of another family")
        raise ValueError(
            f"{checkpoint.name} is {kind}: its U-Net takes {channels} channels, not {LATENT_CHANNELS}; give {EXPECTED}"
        )
    config = unet_config(unet, checkpoint.name)
    with torch.device("meta"):
        model = UNet2DConditionModel(**config)
    named = convert_ldm_unet_checkpoint(weights, config)
    dtype = dtype or named["conv_in.weight"].dtype
    return _fill(model, {key: tensor.to(dtype) for key, tensor in named.items()}, checkpoint.name, "U-Net")


def load_vae(checkpoint: Path) -> "Vae":
    """The VAE in float32, frozen, SD1.5's own or one of TAESD's shape; ValueError where the file holds neither."""
    weights, file = vae_weights(checkpoint), checkpoint.name
    if "taesd_decoder.1.weight" in weights:
        model, named = _tiny_vae(weights)
        scale = LATENT_SCALE / float(weights.get("vae_scale", 1.0))
        shift = LATENT_SCALE * float(weights.get("vae_shift", 0.0))
    elif "encoder.conv_in.weight" in weights and "quant_conv.weight" in weights:
        model, named = _kl_vae(weights)
        scale, shift = LATENT_SCALE, 0.0
    else:
        raise ValueError(f"{file} holds no VAE that encodes (no {VAE_PREFIX}encoder.* tensors); give {EXPECTED}")
    channels = model.config.latent_channels
    if channels != LATENT_CHANNELS:
        raise ValueError(f"{file} has a VAE of {channels} latent channels, not {LATENT_CHANNELS}; give {EXPECTED}")
    _fill(model, {key: tensor.float() for key, tensor in named.items()}, file, "VAE")
    return Vae(model, scale, shift, pixels_a_latent(weights))


def vae_weights(checkpoint: Path) -> Weights:
    """The VAE's tensors, by their names within it; ValueError for a file that holds none."""
    weights = _read(checkpoint)
    vae = {key.removeprefix(VAE_PREFIX): x for key, x in weights.items() if key.startswith(VAE_PREFIX)}
    if not vae:
        raise ValueError(f"{checkpoint.name} holds no VAE (no {VAE_PREFIX}* tensors); give {EXPECTED}")
    return vae


def pixels_a_latent(vae: Weights) -> int:
    """How many pixels a latent is wide: 8 in SD1.5 and in TAESD."""
    levels = count_layers(vae, "encoder.down.") if "encoder.down.0.block.0.conv1.weight" in vae else 4
    return 2 ** (levels - 1)


class Vae:
    """Pictures to latents and back, in the U-Net's units: latents * scale + shift."""

    def __init__(self, model: AutoencoderKL | AutoencoderTiny, scale: float, shift: float, factor: int):
        self.model, self.scale, self.shift = model, scale, shift
        self.factor = factor  # pixels a latent

    def to(self, device: str | torch.device, dtype: torch.dtype = torch.float32) -> "Vae":
        torch.nn.Module.to(self.model, device, dtype)  # diffusers' own warns of float32 modules that there are not
        return self

    @torch.no_grad()
    def posterior(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation, each (B, 4, H/factor, W/factor) float32, of pixels (B, 3, H, W) in -1..1."""
        encoded = self.model.encode(pixels.to(self.model.device, self.model.dtype))
        if isinstance(self.model, AutoencoderTiny):
            mean = encoded.latents.float()
            deviation = torch.zeros_like(mean)
        else:
            mean, deviation = encoded.latent_dist.mean.float(), encoded.latent_dist.std.float()
        return mean * self.scale + self.shift, deviation * self.scale

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels (B, 3, H, W) float32 in 0..1."""
        latents = ((latents - self.shift) / self.scale).to(self.model.device, self.model.dtype)
        return (self.model.decode(latents).sample.float() / 2 + 0.5).clamp(0, 1)


def _kl_vae(weights: Weights) -> tuple[AutoencoderKL, Weights]:
    levels = count_layers(weights, "encoder.down.")
    config = {
        "block_out_channels": [len(weights[f"encoder.down.{n}.block.0.conv1.weight"]) for n in range(levels)],
        "layers_per_block": count_layers(weights, "encoder.down.0.block."),
        "latent_channels": len(weights["quant_conv.weight"]) // 2,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "scaling_factor": LATENT_SCALE,
    }
    with torch.device("meta"):
        model = AutoencoderKL(**config)
    return model, convert_ldm_vae_checkpoint({VAE_PREFIX + key: x for key, x in weights.items()}, config)


def _tiny_vae(weights: Weights) -> tuple[AutoencoderTiny, Weights]:
    """TAESD's layers; its decoder counts the clamp that diffusers does outside."""
    width, latent = weights["taesd_decoder.1.weight"].shape[:2]
    with torch.device("meta"):
        model = AutoencoderTiny(
            latent_channels=latent, encoder_block_out_channels=[width] * 4, decoder_block_out_channels=[width] * 4
        )
    names = {}
    for key, tensor in weights.items():
        part, _, rest = key.partition(".")
        place, _, rest = rest.partition(".")
        if part in ("taesd_encoder", "taesd_decoder"):
            before = 1 if part == "taesd_decoder" else 0
            names[f"{part.removeprefix('taesd_')}.layers.{int(place) - before}.{rest}"] = tensor
    return model, names


def unet_config(unet: Weights, file: str) -> dict:
    """diffusers' config for a U-Net in the names of the original checkpoints."""
    levels: list[list[tuple[int, bool]]] = [[]]  # for each level its residual blocks: channels, with a transformer
    for block in range(1, count_layers(unet, "input_blocks.")):
        if f"input_blocks.{block}.0.op.weight" in unet:
            levels.append([])
        elif (convolution := unet.get(f"input_blocks.{block}.0.out_layers.3.weight")) is not None:
            levels[-1].append((len(convolution), f"input_blocks.{block}.1.proj_in.weight" in unet))
    attentions = [key for key in unet if key.endswith(".attn2.to_k.weight")]
    if any(key.endswith(".proj_in.weight") and tensor.ndim == 2 for key, tensor in unet.items()):
        raise ValueError(f"{file} is a Stable Diffusion 2 checkpoint; give {EXPECTED}")
    if not attentions or any(len(set(level)) != 1 or len(level) != len(levels[0]) for level in levels):
        raise ValueError(f"{file} has a U-Net of another architecture; give {EXPECTED}")
    with_transformer = [level[0][1] for level in levels]
    return {
        "block_out_channels": [level[0][0] for level in levels],
        "layers_per_block": len(levels[0]),
        "down_block_types": ["CrossAttnDownBlock2D" if x else "DownBlock2D" for x in with_transformer],
        "up_block_types": ["CrossAttnUpBlock2D" if x else "UpBlock2D" for x in reversed(with_transformer)],
        "cross_attention_dim": unet[attentions[0]].shape[1],
        "attention_head_dim": HEADS,  # diffusers' name for the number of heads
        "class_embed_type": None,
        "addition_embed_type": None,
    }


def _read(checkpoint: Path) -> Weights:
    """All tensors of the file; ValueError where their names tell that it is no SD1.5 checkpoint."""
    weights = read_weights(checkpoint)
    for part, kind in TELLING_NAMES:
        if any(part in key for key in weights):
            raise ValueError(f"{checkpoint.name} is {kind}; give {EXPECTED}")
    return weights


def _fill(model: torch.nn.Module, weights: Weights, file: str, part: str):
    """The model, made on the meta device, with these tensors for its parameters; frozen, in evaluation."""
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise ValueError(f"{file} has a {part} that does not fit the sizes of its own blocks: {error}") from None
    return model.eval().requires_grad_(False)
