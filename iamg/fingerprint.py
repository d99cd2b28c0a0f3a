"""Telling whether two encoders are the same weights: by what they make of one text and one picture."""

import numpy as np
from PIL import Image

PROBE_TEXT = "A red bicycle leans on a yellow wall beside two tall windows, in the evening light."
SAME_WEIGHTS = 0.99  # cosine; half precision moves it by less than 0.001


def probe_image() -> Image.Image:
    """A square picture, the same bytes everywhere: colour ramps, a disc and stripes."""
    y, x = np.mgrid[:256, :256]
    disc = (x - 90) ** 2 + (y - 120) ** 2 < 60**2
    stripes = (x > 150) & ((x + 2 * y) // 16 % 2 == 0)
    pixels = np.stack([x, y, 255 - (x + y) // 2], axis=-1)
    pixels[disc] = (220, 30, 40)
    pixels[stripes] = (250, 240, 80)
    return Image.fromarray(pixels.astype(np.uint8))


def agree(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two embeddings (width,) of one probe can come from the same weights."""
    if a.shape != b.shape:
        return False
    a, b = a.astype(np.float64), b.astype(np.float64)
    return bool(a @ b >= SAME_WEIGHTS * np.linalg.norm(a) * np.linalg.norm(b) > 0)
