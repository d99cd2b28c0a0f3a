"""I*: what of a picture conditions the drawing (section 4.3)."""

from torch import Tensor
from torch.nn.functional import interpolate


def on_white(image: Tensor, mask: Tensor) -> Tensor:
    """The image (B, H, W, 3) in 0..1 with what the mask (B or 1, h, w) leaves dark turned white."""
    mask = interpolate(mask[:, None], image.shape[1:3], mode="bilinear", antialias=True).movedim(1, -1).to(image)
    return image * mask + (1 - mask)
