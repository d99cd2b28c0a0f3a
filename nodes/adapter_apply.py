"""IAMGAdapterApply: Eq 13 in every cross-attention of the model."""

import comfy.supported_models
import torch
from comfy_api.latest import io
from torch import Tensor

from . import sockets
from .adapter_weights import on_device
from .cross_attention import Application, apply, cross_attention_slots


class IAMGAdapterApply(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IAMGAdapterApply",
            display_name="Apply Adapter (I-AM-G)",
            category=sockets.CATEGORY,
            description="Lets the item's picture and the user's interest guide an SD1.5 model beside the text.",
            search_aliases=["iamg apply", "ip-adapter apply", "personalise"],
            inputs=[
                io.Model.Input("model", tooltip="An SD1.5 model; LoRAs and other adapters may come before or after."),
                sockets.Adapter.Input("adapter", tooltip="From Load Adapter."),
                io.ClipVisionOutput.Input(
                    "clip_vision_output", tooltip="The item's picture, or its foreground, from CLIP Vision Encode."
                ),
                io.Float.Input(
                    "image_weight", default=1.0, min=0.0, max=3.0, step=0.05, tooltip="How strongly the picture guides."
                ),
                io.Float.Input(
                    "text_weight",
                    default=1.0,
                    min=0.0,
                    max=3.0,
                    step=0.05,
                    tooltip="λ1: how strongly the rewritten text guides. Lower it to stay nearer to the picture.",
                ),
                io.Float.Input(
                    "interest_weight",
                    default=0.2,
                    min=0.0,
                    max=3.0,
                    step=0.05,
                    tooltip="λ2: how strongly the user's interest guides. 0.1 to 0.3 is useful, 0.5 is often too much.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="From which part of the sampling on.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Up to which part of the sampling.",
                ),
                sockets.Interest.Input(
                    "interest", optional=True, tooltip="From Fuse Interests; none: only picture and text."
                ),
                io.Mask.Input(
                    "mask", optional=True, tooltip="Where picture and interest count; any size, white is full."
                ),
            ],
            outputs=[io.Model.Output("model")],
        )

    @classmethod
    def execute(
        cls,
        model,
        adapter,
        clip_vision_output,
        image_weight,
        text_weight,
        interest_weight,
        start_percent,
        end_percent,
        interest=None,
        mask=None,
    ) -> io.NodeOutput:
        if start_percent > end_percent:
            raise ValueError(f"start_percent {start_percent} is after end_percent {end_percent}; swap them")
        _check_model(model, adapter.model)
        if interest is not None and interest.shape[-1] != adapter.model.width:
            raise ValueError(
                f"the interest is {interest.shape[-1]}-d, but the adapter's tokens are {adapter.model.width}-d; connect the same "
                "Load Adapter to Fuse Interests and to Apply Adapter"
            )
        dtype = model.model.get_dtype_inference()
        with on_device(adapter) as (weights, device):
            embeds = clip_vision_output.image_embeds.float().to(device)
            sides = weights.null_image_tokens(embeds), weights.project_image(embeds)
            # several pictures: their tokens end to end
            image_pairs = _stored(weights.keys_values(torch.stack([side.flatten(0, 1) for side in sides])), dtype)
            interest_pairs = [] if interest is None else _stored(weights.keys_values(interest.to(device)), dtype)
        application = Application(
            image_pairs,
            interest_pairs,
            image_weight,
            text_weight,
            interest_weight,
            _window(model, start_percent, end_percent),
            None if mask is None else mask.reshape(-1, *mask.shape[-2:]).float().cpu(),
        )
        return io.NodeOutput(apply(model, application))


def _stored(pairs: list[tuple[Tensor, Tensor]], dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    return [(key.to("cpu", dtype), value.to("cpu", dtype)) for key, value in pairs]


def _window(model, start_percent: float, end_percent: float) -> tuple[float, float] | None:
    if start_percent == 0 and end_percent == 1:
        return None
    sampling = model.get_model_object("model_sampling")
    return float(sampling.percent_to_sigma(start_percent)), float(sampling.percent_to_sigma(end_percent))


def _check_model(model, adapter) -> None:
    config = model.model.model_config
    if not isinstance(config, comfy.supported_models.SD15):
        raise ValueError(
            f"I-AM-G works on models of the SD1.5 family, but the connected model is {type(config).__name__}; connect an "
            "SD1.5 checkpoint"
        )
    slots = cross_attention_slots(model)
    channels = [slot_channels for _, slot_channels, _ in slots]
    widths = {width for _, _, width in slots}
    if channels != adapter.channels or widths != {adapter.width}:
        raise ValueError(
            f"the adapter has {len(adapter.channels)} blocks of {_spoken(adapter.channels)} channels and {adapter.width}-d "
            f"tokens, but the model has {len(channels)} of {_spoken(channels)} and {_spoken(widths)}-d; use the adapter that "
            "was made for this model"
        )


def _spoken(numbers) -> str:
    return "/".join(map(str, sorted(set(numbers))))
