"""Between ComfyUI's image tensors and pictures."""

from collections.abc import Sequence

import numpy as np
import torch
from comfy_api.latest import io, ui
from PIL import Image, ImageOps
from torch import Tensor


def to_pictures(images: Tensor | None) -> list[Image.Image]:
    """(n, height, width, 3 or 4) in 0..1 → n RGB pictures."""
    if images is None:
        return []
    pixels = (images[..., :3].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return [Image.fromarray(picture) for picture in pixels]


def to_tensor(picture: Image.Image) -> Tensor:
    """A picture → (1, height, width, 3) in 0..1."""
    return torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32) / 255)[None]


def to_batch(pictures: Sequence[Image.Image], side: int) -> Tensor:
    """Pictures of any sizes → (n, side, side, 3): each whole, on white."""
    squares = [ImageOps.pad(picture, (side, side), color="white") for picture in pictures]
    return torch.cat([to_tensor(square) for square in squares])


def grown(images: io.Autogrow.Type | None) -> list[Image.Image]:
    """Every picture of a growing list of image inputs, in the order of its sockets."""
    return [picture for batch in (images or {}).values() for picture in to_pictures(batch)]


def shown(cls: type[io.ComfyNode], data: dict, images: Tensor | None = None) -> dict:
    """What a node shows: pictures on it, and its findings for API users under "iamg" in the history."""
    previews = {} if images is None else ui.PreviewImage(images, cls=cls).as_dict()
    return {**previews, "iamg": [data]}
