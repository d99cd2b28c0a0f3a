"""The adapter's weights under ComfyUI's memory management: on the device for a moment, then off it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import torch

from ..iamg.adapter import Adapter, load_adapter


def load(path: Path) -> comfy.model_patcher.ModelPatcher:
    return comfy.model_patcher.CoreModelPatcher(
        load_adapter(path, operations=comfy.ops.manual_cast),
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )


@contextmanager
def on_device(patcher: comfy.model_patcher.ModelPatcher) -> Iterator[tuple[Adapter, torch.device]]:
    """The adapter where it computes fastest; it is let go of afterwards, so sampling has that memory."""
    comfy.model_management.load_models_gpu([patcher])
    try:
        yield patcher.model, patcher.load_device
    finally:
        comfy.model_management.unload_model_and_clones(patcher)
