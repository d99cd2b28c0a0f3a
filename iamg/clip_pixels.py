"""A picture as the input of CLIP's image tower, to the bit as ComfyUI's CLIPVisionEncode makes it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


def clip_pixels(image: "Tensor", size: int, cut_center: bool) -> "Tensor":
    """A picture (1, H, W, 3) in 0..1 as (1, 3, size, size), its colours normalised."""
    import torch
    from torch.nn.functional import interpolate

    image = image.movedim(-1, 1)
    height, width = image.shape[2:]
    if (height, width) != (size, size):
        scale = size / min(height, width)
        target = (round(scale * height), round(scale * width)) if cut_center else (size, size)
        image = interpolate(image, size=target, mode="bicubic", antialias=True)
        top, left = (target[0] - size) // 2, (target[1] - size) // 2
        image = image[:, :, top : top + size, left : left + size]
    image = torch.clip(255.0 * image, 0, 255).round() / 255.0
    return (image - torch.tensor(PIXEL_MEAN).view(3, 1, 1)) / torch.tensor(PIXEL_STD).view(3, 1, 1)
