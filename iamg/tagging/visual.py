"""Tags of a picture from its pixels alone: no model, no download.

A picture becomes at most 128 pixels wide and high, in CIELAB (D65): lightness L* from 0 to 100, chroma C* from
0 (gray) to about 130. Each pair of tags has two thresholds; between them neither is given. A near-white, even
border is the background of a product photograph: it becomes the tag "white background", and colors and tones
are measured on the rest; contrast and edges always belong to the whole picture.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..scenarios import Scenario
from . import ItemTags

LONGEST_SIDE = 128  # pixels

COLORS = {  # sRGB; a pixel has the name of its nearest color in CIELAB
    "black": ["#000000", "#1a1a1c"],
    "gray": ["#505052", "#808080", "#b4b4b4"],
    "white": ["#ffffff", "#ececec"],
    "red": ["#c81e1e", "#8c1014", "#e83a30"],
    "orange": ["#f08020", "#c8601c"],
    "brown": ["#6e4628", "#462d1e", "#8c5f3c"],
    "beige": ["#e6d7b4", "#d2b48c"],
    "yellow": ["#f5dc32", "#d2b428"],
    "green": ["#3c8c3c", "#1e4623", "#96c85a", "#6e7332"],
    "turquoise": ["#148282", "#50c8c8", "#0f4b50", "#96b9b9"],
    "blue": ["#2850be", "#6ea0dc", "#96c8f0", "#141e50", "#46648c"],
    "purple": ["#6e328c", "#aa96c8", "#3c1e46"],
    "pink": ["#f096b4", "#d2288c", "#e6b4b4", "#b46e82"],
}
COLOR_SHARE = 0.12  # of the area: a dominant color has at least this
GRAY_SHARE = 0.25  # gray has at least this: shadows and soft edges of lettering are gray in every picture
MAX_COLORS = 3

DARK, BRIGHT = 32.0, 62.0  # mean L*
COOL, WARM = 0.3, 0.85  # share of the chroma that is in warm hues
WARM_HUES = (-30.0, 110.0)  # degrees of CIELAB hue: from magenta-red to yellow
COLORFUL = 8.0  # mean C*: less is too gray to be warm or cool
MONOCHROME, MUTED, VIVID = 3.0, 10.0, 33.0  # mean C*
LOW_CONTRAST, HIGH_CONTRAST = 15.0, 30.0  # standard deviation of L*
EDGE = 12.0  # difference of L* between neighbouring pixels that makes an edge
SIMPLE, BUSY = 0.16, 0.4  # share of the picture that is edges

BACKGROUND_LIGHTNESS = 88.0  # L* of a white background, at least
BACKGROUND_SPREAD = 6.0  # distance in CIELAB from the border's median that still is background
BACKGROUND_BORDER = 0.9  # of the border is background, at least
BACKGROUND_SHARE = 0.3  # of the picture is background, at least, to be worth a tag
SMALLEST_SUBJECT = 0.02  # of the picture; with less beside the background the whole picture is measured


class VisualTagger:
    """tags^I (Eq 2) from colors, tones, contrast and edges; texts are not read."""

    name = "visual"
    parameters = {"version": 1}

    def tag(
        self, images: Sequence[Image.Image | None], texts: Sequence[str | None], scenario: Scenario
    ) -> list[ItemTags]:
        return [
            ItemTags(image=visual_tags(image)[: scenario.tag_limit - 1] if image else ())
            for image, _ in zip(images, texts, strict=True)
        ]


def visual_tags(image: Image.Image) -> tuple[str, ...]:
    """All tags of a picture, dominant colors first."""
    small = image.convert("RGB")
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.BOX)
    lab = to_lab(np.asarray(small, dtype=np.float64))
    background = _white_background(lab)
    subject = lab[~background]
    if len(subject) < SMALLEST_SUBJECT * background.size:
        subject = lab.reshape(-1, 3)
    tags = (
        *_dominant_colors(subject),
        *_tone(subject),
        "high contrast" if lab[..., 0].std() > HIGH_CONTRAST else "",
        "low contrast" if lab[..., 0].std() < LOW_CONTRAST else "",
        *_composition(lab[..., 0]),
        "white background" if background.mean() >= BACKGROUND_SHARE else "",
    )
    return tuple(filter(None, tags))


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB (..., 3) of sRGB (..., 3) in 0..255, D65."""
    srgb = rgb / 255.0
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ np.array(
        [[0.4124564, 0.2126729, 0.0193339], [0.3575761, 0.7151522, 0.1191920], [0.1804375, 0.0721750, 0.9503041]]
    )
    ratio = xyz / np.array([0.95047, 1.0, 1.08883])
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


ANCHORS = to_lab(
    np.array([[int(code[i : i + 2], 16) for i in (1, 3, 5)] for codes in COLORS.values() for code in codes])
)
ANCHOR_NAMES = [name for name, codes in COLORS.items() for _ in codes]


def _white_background(lab: np.ndarray) -> np.ndarray:
    """Which pixels (height, width) are a near-white, even background; none if the border is not."""
    border = np.concatenate([lab[0], lab[-1], lab[:, 0], lab[:, -1]])
    color = np.median(border, axis=0)
    share = np.mean(np.linalg.norm(border - color, axis=-1) < BACKGROUND_SPREAD)
    if color[0] < BACKGROUND_LIGHTNESS or share < BACKGROUND_BORDER:
        return np.zeros(lab.shape[:2], dtype=bool)
    return np.linalg.norm(lab - color, axis=-1) < BACKGROUND_SPREAD


def _dominant_colors(pixels: np.ndarray) -> list[str]:
    """Up to MAX_COLORS names for pixels (count, 3), by share of the area."""
    distances = np.linalg.norm(pixels[:, None] - ANCHORS, axis=-1)  # (pixels, anchors)
    shares = dict.fromkeys(COLORS, 0.0)
    for anchor, count in enumerate(np.bincount(distances.argmin(axis=1), minlength=len(ANCHORS))):
        shares[ANCHOR_NAMES[anchor]] += count / len(pixels)
    dominant = [name for name in shares if shares[name] >= (GRAY_SHARE if name == "gray" else COLOR_SHARE)]
    return sorted(dominant, key=lambda name: -shares[name])[:MAX_COLORS]


def _tone(pixels: np.ndarray) -> list[str]:
    """Dark or bright, vivid or muted, warm or cool, for pixels (count, 3)."""
    lightness = pixels[:, 0].mean()
    chromas = np.hypot(pixels[:, 1], pixels[:, 2])
    chroma = chromas.mean()
    tags = ["dark tones"] if lightness < DARK else ["bright tones"] if lightness > BRIGHT else []
    if chroma >= COLORFUL:
        hues = np.degrees(np.arctan2(pixels[:, 2], pixels[:, 1]))
        warmth = chromas[(hues > WARM_HUES[0]) & (hues < WARM_HUES[1])].sum() / chromas.sum()
        tags += ["warm colors"] if warmth > WARM else ["cool colors"] if warmth < COOL else []
    if chroma > VIVID:
        tags.append("vivid colors")
    elif chroma < MUTED:
        tags.append("monochrome" if chroma < MONOCHROME else "muted colors")
    return tags


def _composition(lightness: np.ndarray) -> list[str]:
    """Simple or busy, by the share of edges in L* (height, width)."""
    steps = np.hypot(np.diff(lightness, axis=1)[:-1], np.diff(lightness, axis=0)[:, :-1])
    edges = (steps > EDGE).mean() if steps.size else 0.0
    return ["minimalist composition"] if edges < SIMPLE else ["busy composition"] if edges > BUSY else []
