"""Draws the demo's film posters: a subject's silhouette over a patterned sky, in a mood's colours, with a title."""

import colorsys
import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

SIZE = (256, 384)
OVERSAMPLING = 3  # drawn larger and reduced once: smooth edges without an anti-aliasing library

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Palette:
    """The colours of a mood; `subject`, `accent`, `shade` and `light` are what silhouettes are drawn in."""

    sky: str
    horizon: str
    ground: str
    subject: str
    accent: str
    shade: str
    light: str


# A silhouette is a list of (shape, colour, points) in the unit square, x to the right and y down.
SILHOUETTES = {
    "lighthouse": [
        ("polygon", "light", (0.56, 0.17, 1.25, -0.02, 1.25, 0.34)),
        ("polygon", "subject", (0.41, 0.28, 0.59, 0.28, 0.67, 1.0, 0.33, 1.0)),
        ("polygon", "accent", (0.39, 0.43, 0.61, 0.43, 0.62, 0.56, 0.38, 0.56)),
        ("polygon", "accent", (0.36, 0.72, 0.64, 0.72, 0.655, 0.86, 0.345, 0.86)),
        ("rectangle", "shade", (0.37, 0.24, 0.63, 0.28)),
        ("rectangle", "light", (0.43, 0.11, 0.57, 0.24)),
        ("polygon", "shade", (0.39, 0.12, 0.61, 0.12, 0.5, 0.0)),
    ],
    "rocket": [
        ("polygon", "light", (0.40, 0.80, 0.60, 0.80, 0.5, 1.12)),
        ("polygon", "accent", (0.36, 0.52, 0.36, 0.82, 0.2, 0.9)),
        ("polygon", "accent", (0.64, 0.52, 0.64, 0.82, 0.8, 0.9)),
        ("ellipse", "subject", (0.33, 0.0, 0.67, 0.98)),
        ("rectangle", "shade", (0.40, 0.78, 0.60, 0.86)),
        ("ellipse", "shade", (0.40, 0.27, 0.60, 0.47)),
        ("ellipse", "light", (0.43, 0.30, 0.57, 0.44)),
    ],
    "sailboat": [
        ("polygon", "subject", (0.5, 0.02, 0.5, 0.74, 0.12, 0.74)),
        ("polygon", "accent", (0.54, 0.14, 0.54, 0.74, 0.86, 0.74)),
        ("rectangle", "shade", (0.505, 0.0, 0.535, 0.8)),
        ("polygon", "shade", (0.04, 0.79, 0.96, 0.79, 0.8, 0.98, 0.2, 0.98)),
        ("polygon", "light", (0.06, 0.81, 0.94, 0.81, 0.925, 0.83, 0.075, 0.83)),
    ],
    "balloon": [
        ("ellipse", "subject", (0.14, 0.0, 0.86, 0.72)),
        ("ellipse", "accent", (0.30, 0.0, 0.70, 0.72)),
        ("ellipse", "light", (0.43, 0.0, 0.57, 0.72)),
        ("polygon", "shade", (0.34, 0.66, 0.36, 0.66, 0.43, 0.86, 0.41, 0.86)),
        ("polygon", "shade", (0.64, 0.66, 0.66, 0.66, 0.59, 0.86, 0.57, 0.86)),
        ("rectangle", "shade", (0.40, 0.85, 0.60, 1.0)),
    ],
    "mountain": [
        ("polygon", "accent", (0.42, 1.0, 0.82, 0.28, 1.22, 1.0)),
        ("polygon", "subject", (-0.22, 1.0, 0.38, 0.03, 0.92, 1.0)),
        ("polygon", "light", (0.22, 0.29, 0.38, 0.03, 0.53, 0.3, 0.44, 0.25, 0.37, 0.33, 0.3, 0.25)),
        ("polygon", "shade", (0.38, 0.03, 0.92, 1.0, 0.55, 1.0, 0.46, 0.52, 0.5, 0.36)),
    ],
    "tree": [
        ("polygon", "shade", (0.45, 0.5, 0.55, 0.5, 0.62, 1.0, 0.38, 1.0)),
        ("ellipse", "accent", (0.08, 0.26, 0.54, 0.72)),
        ("ellipse", "accent", (0.46, 0.26, 0.92, 0.72)),
        ("ellipse", "subject", (0.22, 0.02, 0.78, 0.58)),
        ("ellipse", "light", (0.33, 0.16, 0.40, 0.23)),
        ("ellipse", "light", (0.58, 0.30, 0.65, 0.37)),
        ("ellipse", "light", (0.26, 0.46, 0.33, 0.53)),
    ],
    "castle": [
        ("rectangle", "subject", (0.16, 0.44, 0.84, 1.0)),
        ("rectangle", "accent", (0.08, 0.3, 0.28, 1.0)),
        ("rectangle", "accent", (0.72, 0.3, 0.92, 1.0)),
        ("rectangle", "accent", (0.4, 0.18, 0.6, 0.6)),
        ("polygon", "shade", (0.04, 0.31, 0.32, 0.31, 0.18, 0.1)),
        ("polygon", "shade", (0.68, 0.31, 0.96, 0.31, 0.82, 0.1)),
        ("polygon", "shade", (0.36, 0.19, 0.64, 0.19, 0.5, -0.04)),
        ("rectangle", "light", (0.47, 0.27, 0.53, 0.38)),
        ("ellipse", "shade", (0.4, 0.66, 0.6, 0.9)),
        ("rectangle", "shade", (0.4, 0.78, 0.6, 1.0)),
    ],
    "cat": [
        ("ellipse", "subject", (0.24, 0.44, 0.76, 1.06)),
        ("ellipse", "accent", (0.38, 0.62, 0.62, 1.04)),
        ("polygon", "subject", (0.25, 0.3, 0.27, 0.0, 0.5, 0.18)),
        ("polygon", "subject", (0.75, 0.3, 0.73, 0.0, 0.5, 0.18)),
        ("ellipse", "subject", (0.22, 0.12, 0.78, 0.58)),
        ("ellipse", "light", (0.31, 0.27, 0.45, 0.41)),
        ("ellipse", "light", (0.55, 0.27, 0.69, 0.41)),
        ("ellipse", "shade", (0.36, 0.27, 0.40, 0.41)),
        ("ellipse", "shade", (0.60, 0.27, 0.64, 0.41)),
        ("polygon", "shade", (0.46, 0.45, 0.54, 0.45, 0.5, 0.5)),
    ],
    "whale": [
        ("polygon", "light", (0.3, 0.3, 0.2, 0.04, 0.32, 0.12, 0.44, 0.04, 0.34, 0.3)),
        ("polygon", "subject", (0.72, 0.6, 1.0, 0.2, 0.98, 0.46, 1.16, 0.5, 0.86, 0.78)),
        ("ellipse", "subject", (0.0, 0.3, 0.92, 0.94)),
        ("chord", "accent", (0.0, 0.3, 0.92, 0.94)),
        ("ellipse", "shade", (0.16, 0.55, 0.21, 0.6)),
    ],
    "robot": [
        ("rectangle", "shade", (0.485, 0.0, 0.515, 0.12)),
        ("ellipse", "light", (0.46, -0.03, 0.54, 0.05)),
        ("rectangle", "subject", (0.28, 0.1, 0.72, 0.42)),
        ("ellipse", "light", (0.35, 0.18, 0.46, 0.29)),
        ("ellipse", "light", (0.54, 0.18, 0.65, 0.29)),
        ("rectangle", "shade", (0.4, 0.34, 0.6, 0.37)),
        ("rectangle", "accent", (0.22, 0.46, 0.78, 0.82)),
        ("rectangle", "subject", (0.08, 0.48, 0.18, 0.78)),
        ("rectangle", "subject", (0.82, 0.48, 0.92, 0.78)),
        ("ellipse", "light", (0.42, 0.55, 0.58, 0.71)),
        ("rectangle", "shade", (0.3, 0.84, 0.44, 1.0)),
        ("rectangle", "shade", (0.56, 0.84, 0.7, 1.0)),
    ],
    "butterfly": [
        ("ellipse", "subject", (-0.02, 0.06, 0.48, 0.56)),
        ("ellipse", "subject", (0.52, 0.06, 1.02, 0.56)),
        ("ellipse", "accent", (0.12, 0.48, 0.48, 0.92)),
        ("ellipse", "accent", (0.52, 0.48, 0.88, 0.92)),
        ("ellipse", "light", (0.12, 0.18, 0.32, 0.38)),
        ("ellipse", "light", (0.68, 0.18, 0.88, 0.38)),
        ("ellipse", "shade", (0.46, 0.1, 0.54, 0.94)),
    ],
    "cottage": [
        ("rectangle", "shade", (0.68, 0.1, 0.78, 0.4)),
        ("rectangle", "subject", (0.16, 0.46, 0.84, 1.0)),
        ("polygon", "accent", (0.04, 0.5, 0.96, 0.5, 0.5, 0.08)),
        ("rectangle", "shade", (0.43, 0.68, 0.57, 1.0)),
        ("rectangle", "light", (0.24, 0.6, 0.37, 0.75)),
        ("rectangle", "light", (0.63, 0.6, 0.76, 0.75)),
        ("ellipse", "light", (0.44, 0.28, 0.56, 0.4)),
    ],
}

PATTERNS = ("rays", "stars", "stripes", "rings", "confetti", "hills")
BORDERS = ("none", "frame", "bands", "rounded")


def draw_poster(title: str, subject: str, palette: Palette, pattern: str, border: str, seed: str) -> Image.Image:
    """One poster of SIZE, RGB; the same arguments draw the same pixels."""
    chance = random.Random(seed)
    colours = _vary(palette, chance)
    width, height = (side * OVERSAMPLING for side in SIZE)
    image = _gradient(width, height, colours["sky"], colours["horizon"])
    draw = ImageDraw.Draw(image)

    _draw_pattern(draw, pattern, width, height, _mix(colours["sky"], colours["light"], 0.28), chance)
    ground = height * 0.72
    draw.ellipse((-width * 0.5, ground, width * 1.5, height * 1.6), fill=colours["ground"])

    side = width * chance.uniform(0.60, 0.70)
    left, top = width / 2 - side / 2 + width * chance.uniform(-0.06, 0.06), height * 0.76 - side
    for shape, role, points in SILHOUETTES[subject]:
        placed = [left + side * p if i % 2 == 0 else top + side * p for i, p in enumerate(points)]
        if shape == "chord":  # the belly of an ellipse
            draw.chord(placed, 20, 160, fill=colours[role])
        else:
            getattr(draw, shape)(placed, fill=colours[role])

    _draw_border(draw, border, width, height, colours["accent"])
    _draw_title(draw, title, width, height, colours["light"], colours["shade"])
    return image.resize(SIZE, Image.Resampling.LANCZOS)


def _vary(palette: Palette, chance: random.Random) -> dict[str, Colour]:
    """The palette's colours, their hue and lightness moved a little, so that no two posters share them."""
    turn, lift = chance.uniform(-0.025, 0.025), chance.uniform(-0.04, 0.04)
    colours = {}
    for role, code in vars(palette).items():
        red, green, blue = (int(code[i : i + 2], 16) / 255 for i in (0, 2, 4))
        hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
        moved = colorsys.hls_to_rgb((hue + turn) % 1, min(max(lightness + lift, 0), 1), saturation)
        colours[role] = tuple(round(255 * channel) for channel in moved)
    return colours


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    return tuple(round(a + (b - a) * share) for a, b in zip(first, second, strict=True))


def _gradient(width: int, height: int, top: Colour, bottom: Colour) -> Image.Image:
    column = Image.new("RGB", (1, height))
    column.putdata([_mix(top, bottom, min(1.0, y / (height * 0.75))) for y in range(height)])
    return column.resize((width, height))


def _draw_pattern(draw: ImageDraw.ImageDraw, pattern: str, width: int, height: int, colour: Colour, chance) -> None:
    if pattern == "rays":
        reach = 2 * height
        for step in range(0, 360, 24):
            first, second = math.radians(step), math.radians(step + 11)
            edge = [(width / 2 + reach * math.cos(a), height * 0.5 + reach * math.sin(a)) for a in (first, second)]
            draw.polygon([(width / 2, height * 0.5), *edge], fill=colour)
    elif pattern == "rings":
        for radius in range(width, 0, -width // 9):
            box = (width / 2 - radius, height * 0.42 - radius, width / 2 + radius, height * 0.42 + radius)
            draw.ellipse(box, outline=colour, width=width // 45)
    elif pattern == "stripes":
        for x in range(-height, width, width // 7):
            draw.line((x, height, x + height, 0), fill=colour, width=width // 28)
    elif pattern == "hills":
        for crest in (0.5, 0.6):
            middle = width * chance.uniform(0.1, 0.9)
            draw.ellipse((middle - width, height * crest, middle + width, height * 1.5), fill=colour)
    else:
        for _ in range(70):
            x, y = chance.uniform(0, width), chance.uniform(0, height * 0.75)
            radius = width * (chance.uniform(0.002, 0.008) if pattern == "stars" else chance.uniform(0.008, 0.022))
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _draw_border(draw: ImageDraw.ImageDraw, border: str, width: int, height: int, colour: Colour) -> None:
    thick = width // 40
    if border == "frame":
        draw.rectangle((0, 0, width - 1, height - 1), outline=colour, width=thick)
    elif border == "rounded":
        box = (thick, thick, width - thick, height - thick)
        draw.rounded_rectangle(box, radius=width // 12, outline=colour, width=thick // 2)
    elif border == "bands":
        draw.rectangle((0, 0, width, thick * 2), fill=colour)
        draw.rectangle((0, height - thick * 2, width, height), fill=colour)


def _draw_title(draw: ImageDraw.ImageDraw, title: str, width: int, height: int, light: Colour, shade: Colour) -> None:
    size = width // 8
    while (font := ImageFont.load_default(size)).getlength(title.upper()) > width * 0.84:
        size -= 2
    place = (width / 2, height * 0.865)
    draw.text(place, title.upper(), font=font, fill=light, anchor="mm", stroke_width=width // 110, stroke_fill=shade)
