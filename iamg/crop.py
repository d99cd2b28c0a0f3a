"""How a picture that is not square meets CLIP's square window (decision D16)."""

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

CROPS = ("center_crop", "pad", "squash")


def prepare(image: Image.Image, crop: str) -> "Tensor":
    """The picture as the float tensor (1, H, W, 3) in 0..1 that CLIP's preprocessing takes.

    `pad` sets the picture on a white square; the others leave it whole, because CLIP's preprocessing itself
    cuts the middle square out (`center_crop`) or squeezes the sides (`squash`): see `cuts_center`.
    """
    import torch

    if crop not in CROPS:
        raise ValueError(f"crop is {crop!r}; choose one of {', '.join(CROPS)}")
    if crop == "pad" and image.width != image.height:
        side = max(image.size)
        square = Image.new("RGB", (side, side), "white")
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        image = square
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255.0)[None]


def cuts_center(crop: str) -> bool:
    """Whether CLIP's preprocessing must cut the middle square out (else it squeezes both sides)."""
    return crop == "center_crop"
