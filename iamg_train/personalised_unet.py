"""diffusers' frozen U-Net under the guidance of text, picture and interest: Eq 10 to Eq 13, for training and drawing."""

from typing import NamedTuple

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from iamg.adapter import Adapter, read_adapter
from iamg.attention import Term, decoupled_attention, multi_head_attention
from iamg_train.config import Method, Model
from iamg_train.diffusion_files import load_unet

TRAINED = ("ip_adapter.", "ira.")
FILE_ORDER = ("down_blocks", "up_blocks", "mid_block")


class Conditions(NamedTuple):
    """What guides B pictures. What is dropped (D9) is the empty prompt's tokens, a zero embedding, a zero weight."""

    text: Tensor  # F_text(T*), (B, 77, d)
    image_embeds: Tensor  # F_img(I*), (B, image width)
    query: Tensor  # z*_text, with which IRA asks, (B, 77 or 1, d)
    retrieved_text: Tensor  # Φ, (B, K, 77, d)
    retrieved_image: Tensor  # Ψ before its projection, (B, K, image width)
    interest_weight: Tensor  # λ2, (B,)

    def on(self, device: torch.device) -> "Conditions":
        return Conditions(*(x.to(device) for x in self))


class Guidance(NamedTuple):
    """What every cross-attention is given in place of the text's tokens; keys and values are in the file's order."""

    text: Tensor  # (B, 77, d)
    image: list[tuple[Tensor, Tensor]]  # of I*'s tokens, each (B, tokens, channels)
    interest: list[tuple[Tensor, Tensor]]  # of z̃, each (B, 77 or 1, channels)
    interest_weight: Tensor  # (B, 1, 1)


class DecoupledAttention:
    """Eq 13 in one cross-attention of the U-Net, as one of diffusers' attention processors."""

    def __init__(self, index: int, image_weight: float, text_weight: float):
        self.index, self.image_weight, self.text_weight = index, image_weight, text_weight

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Guidance, attention_mask=None, temb=None
    ) -> Tensor:
        guidance = encoder_hidden_states
        query = attn.to_q(hidden_states)
        key, value = attn.to_k(guidance.text), attn.to_v(guidance.text)
        text = multi_head_attention(query, key, value, attn.heads)
        terms = (
            Term(*guidance.image[self.index], self.image_weight),
            Term(*guidance.interest[self.index], guidance.interest_weight),
        )
        out = decoupled_attention(query, text, terms, attn.heads, self.text_weight)
        return attn.to_out[1](attn.to_out[0](out))


class PersonalisedUNet(nn.Module):
    """A U-Net in any precision, and an adapter in float32 of which IRA and to_k_ip/to_v_ip train (D7)."""

    def __init__(
        self, unet: UNet2DConditionModel, adapter: Adapter, image_weight: float = 1.0, text_weight: float = 1.0
    ):
        """text_weight: λ1. ValueError where the adapter's blocks are not the U-Net's."""
        super().__init__()
        self.unet = unet.eval().requires_grad_(False)
        self.adapter = adapter.float().requires_grad_(False)
        for name, parameter in adapter.named_parameters():
            parameter.requires_grad_(name.startswith(TRAINED))
        names = cross_attentions(unet)
        channels = [unet.get_submodule(name).to_k.out_features for name in names]
        if channels != adapter.channels or unet.config.cross_attention_dim != adapter.width:
            raise ValueError(
                f"the adapter has {len(adapter.channels)} blocks of {sorted(set(adapter.channels))} channels and "
                f"{adapter.width}-d tokens, but the checkpoint's U-Net has {len(channels)} of {sorted(set(channels))} and "
                f"{unet.config.cross_attention_dim}-d; give the IP-Adapter that was made for this checkpoint"
            )
        processors = dict(unet.attn_processors)
        for index, name in enumerate(names):
            processors[f"{name}.processor"] = DecoupledAttention(index, image_weight, text_weight)
        unet.set_attn_processor(processors)

    def trainable(self) -> dict[str, nn.Parameter]:
        """What trains, under the adapter file's own keys."""
        return {name: p for name, p in self.adapter.named_parameters() if p.requires_grad}

    def guide(self, conditions: Conditions) -> Guidance:
        """Eq 10, Eq 11 and the keys and values of Eq 13: everything that does not depend on the step."""
        dtype, device = self.unet.dtype, conditions.text.device
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            adapter = self.adapter
            projected = adapter.project_image(conditions.retrieved_image.flatten(0, 1))
            interest = adapter.ira(
                conditions.query,
                conditions.retrieved_text,
                projected.unflatten(0, conditions.retrieved_image.shape[:2]),
            )
            image = adapter.keys_values(adapter.project_image(conditions.image_embeds))
            interest = adapter.keys_values(interest.tokens)
        weight = conditions.interest_weight.to(dtype)[:, None, None]
        return Guidance(conditions.text.to(dtype), _cast(image, dtype), _cast(interest, dtype), weight)

    def predict(self, noisy: Tensor, timesteps: Tensor, guidance: Guidance) -> Tensor:
        """ε (B, 4, height, width), float32."""
        return self.unet(noisy.to(self.unet.dtype), timesteps, guidance).sample.float()

    def forward(self, noisy: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        """Eq 12: ε(x_t, F_text(T*), F_img(I*), z̃, t), (B, 4, height, width), float32."""
        guidance = self.guide(conditions)
        with torch.autocast(noisy.device.type, enabled=False):
            return self.predict(noisy, timesteps, guidance)


def load_model(files: Model, method: Method, dtype: torch.dtype | None = None) -> PersonalisedUNet:
    """The checkpoint's U-Net in `dtype`, or as it is stored and mapped, under the IP-Adapter's weights, on the CPU.

    ValueError where the files do not fit each other.
    """
    path, heads = files.ip_adapter, method.heads
    state, metadata = read_adapter(path)
    if metadata.get("heads", heads) != heads:
        raise ValueError(
            f"method.heads is {heads}, but '{path.name}' was trained with {metadata['heads']}; set heads = "
            f"{metadata['heads']}, or start from a stock IP-Adapter"
        )
    unet = load_unet(files.checkpoint, dtype)
    return PersonalisedUNet(unet, Adapter(state, heads), method.image_weight, method.text_weight)


def frozen_dtype(precision: str, device: str) -> torch.dtype:
    """What the frozen parts compute in on this kind of device; precision: auto, fp32, bf16 or fp16."""
    if precision == "auto":
        halves = "bf16" if device == "cuda" and torch.cuda.is_bf16_supported() else "fp16"
        precision = halves if device == "cuda" else "fp32"
    if precision == "fp16" and device == "cpu":
        raise ValueError('train.precision is "fp16", which needs a GPU; use "bf16" or "fp32" on the CPU')
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def cross_attentions(unet: UNet2DConditionModel) -> list[str]:
    """Names of the cross-attentions in the adapter file's order: down, up, and the middle last."""
    names = [name.removesuffix(".processor") for name in unet.attn_processors if name.endswith("attn2.processor")]
    return sorted(names, key=lambda name: FILE_ORDER.index(name.split(".")[0]))


def _cast(pairs: list[tuple[Tensor, Tensor]], dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    return [(key.to(dtype), value.to(dtype)) for key, value in pairs]
