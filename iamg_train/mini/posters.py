"""Posters of the mini world: six independent attributes, drawn in 64 × 64 pixels."""

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

Colour = tuple[int, int, int]

SIDE = 64  # pixels
OVERSAMPLING = 4

COLOURS: dict[str, Colour] = {
    "red": (214, 40, 40),
    "yellow": (252, 210, 40),
    "green": (50, 190, 70),
    "blue": (40, 90, 230),
    "purple": (160, 50, 200),
    "white": (248, 248, 248),
}
SETTINGS: dict[str, tuple[Colour, Colour]] = {  # sky and ground
    "night": ((26, 28, 74), (12, 12, 36)),
    "dawn": ((255, 170, 150), (196, 98, 104)),
    "forest": ((64, 112, 72), (34, 62, 38)),
    "ocean": ((40, 158, 178), (16, 92, 122)),
    "desert": ((238, 206, 138), (196, 146, 82)),
    "winter": ((196, 214, 234), (242, 246, 250)),
}
PATTERNS = ("plain", "striped", "dotted", "checked", "wavy", "radiant")
FRAMES: dict[str, Colour] = {
    "gold": (222, 170, 30),
    "black": (16, 16, 18),
    "silver": (176, 182, 190),
    "beaded": (120, 24, 60),
    "filmstrip": (16, 16, 18),
}
CHARMS = ("moon", "cloud", "balloon", "lightning", "leaf", "kite")

OUTLINE: Colour = (18, 18, 28)
LIGHT: Colour = (255, 250, 230)

# Every shape is drawn in a unit square: kind, whether in the subject's colour, and its coordinates.
SUBJECTS: dict[str, tuple[tuple[str, str, tuple[float, ...]], ...]] = {
    "house": (
        ("rectangle", "fill", (0.14, 0.45, 0.86, 1.0)),
        ("polygon", "fill", (0.0, 0.48, 0.5, 0.02, 1.0, 0.48)),
        ("rectangle", "dark", (0.42, 0.66, 0.60, 1.0)),
    ),
    "tree": (
        ("rectangle", "dark", (0.42, 0.6, 0.58, 1.0)),
        ("ellipse", "fill", (0.04, 0.22, 0.58, 0.72)),
        ("ellipse", "fill", (0.42, 0.22, 0.96, 0.72)),
        ("ellipse", "fill", (0.22, 0.0, 0.78, 0.56)),
    ),
    "fish": (
        ("polygon", "fill", (0.7, 0.5, 1.0, 0.2, 1.0, 0.8)),
        ("ellipse", "fill", (0.0, 0.2, 0.82, 0.8)),
        ("ellipse", "dark", (0.14, 0.38, 0.25, 0.49)),
    ),
    "rocket": (
        ("polygon", "dark", (0.1, 1.0, 0.36, 0.56, 0.36, 0.9)),
        ("polygon", "dark", (0.9, 1.0, 0.64, 0.56, 0.64, 0.9)),
        ("ellipse", "fill", (0.28, 0.0, 0.72, 0.98)),
        ("ellipse", "dark", (0.40, 0.26, 0.60, 0.46)),
    ),
    "cat": (
        ("polygon", "fill", (0.1, 0.5, 0.12, 0.0, 0.46, 0.26)),
        ("polygon", "fill", (0.9, 0.5, 0.88, 0.0, 0.54, 0.26)),
        ("ellipse", "fill", (0.06, 0.16, 0.94, 1.0)),
        ("ellipse", "dark", (0.26, 0.42, 0.38, 0.62)),
        ("ellipse", "dark", (0.62, 0.42, 0.74, 0.62)),
    ),
    "boat": (
        ("polygon", "fill", (0.46, 0.02, 0.46, 0.66, 0.06, 0.66)),
        ("polygon", "fill", (0.54, 0.14, 0.54, 0.66, 0.9, 0.66)),
        ("polygon", "dark", (0.0, 0.72, 1.0, 0.72, 0.8, 1.0, 0.2, 1.0)),
    ),
    "crown": (
        ("polygon", "fill", (0.0, 0.15, 0.25, 0.5, 0.5, 0.05, 0.75, 0.5, 1.0, 0.15, 0.92, 0.95, 0.08, 0.95)),
        ("rectangle", "dark", (0.09, 0.78, 0.91, 0.86)),
    ),
    "flower": (
        ("rectangle", "dark", (0.46, 0.5, 0.54, 1.0)),
        ("ellipse", "fill", (0.32, 0.0, 0.68, 0.36)),
        ("ellipse", "fill", (0.10, 0.16, 0.46, 0.52)),
        ("ellipse", "fill", (0.54, 0.16, 0.90, 0.52)),
        ("ellipse", "fill", (0.18, 0.40, 0.52, 0.76)),
        ("ellipse", "fill", (0.48, 0.40, 0.82, 0.76)),
        ("ellipse", "dark", (0.38, 0.28, 0.62, 0.52)),
    ),
}

VALUES: dict[str, tuple[str, ...]] = {
    "subject": tuple(SUBJECTS),
    "colour": tuple(COLOURS),
    "setting": tuple(SETTINGS),
    "pattern": PATTERNS,
    "frame": tuple(FRAMES),
    "charm": CHARMS,
}
"""The attributes and their values. A poster has one of each, and one or two charms."""


@dataclass(frozen=True)
class Poster:
    """What a poster shows; `seed` decides places, sizes and shades."""

    subject: str
    colour: str
    setting: str
    pattern: str
    frame: str
    charms: tuple[str, ...]
    seed: int

    def has(self, attribute: str, value: str) -> bool:
        return value in self.charms if attribute == "charm" else getattr(self, attribute) == value


HELD_OUT = {("fish", "red"), ("house", "blue"), ("cat", "green"), ("boat", "purple")}
"""Subjects and colours that meet on no poster that anything is trained on."""


def random_poster(chance: random.Random, held_out: bool = False) -> Poster:
    """A poster of any combination but those of HELD_OUT, or of any of those."""
    while True:
        one = {name: chance.choice(values) for name, values in VALUES.items() if name != "charm"}
        if ((one["subject"], one["colour"]) in HELD_OUT) == held_out:
            break
    charms = tuple(chance.sample(CHARMS, chance.choice((1, 2))))
    return Poster(**one, charms=charms, seed=chance.getrandbits(32))


def draw(poster: Poster) -> tuple[Image.Image, Image.Image]:
    """The poster, RGB, and the mask of its subject, L: white where the subject is."""
    chance = random.Random(poster.seed)
    side = SIDE * OVERSAMPLING
    sky, ground = (_vary(colour, chance) for colour in SETTINGS[poster.setting])
    image = Image.new("RGB", (side, side), sky)
    canvas = ImageDraw.Draw(image)
    shade = _mix(sky, LIGHT, 0.42) if sum(sky) < 480 else _mix(sky, OUTLINE, 0.24)
    _draw_pattern(canvas, poster.pattern, side, shade)
    canvas.ellipse((-0.4 * side, 0.74 * side, 1.4 * side, 1.6 * side), fill=ground)

    left_first = chance.random() < 0.5
    for place, charm in enumerate(poster.charms):
        x = 0.23 if (place == 0) == left_first else 0.77
        centre = (x + chance.uniform(-0.015, 0.015)) * side, (0.235 + chance.uniform(-0.015, 0.015)) * side
        _draw_charm(canvas, charm, *centre, 0.24 * side)

    mask = Image.new("L", (side, side))
    size = chance.uniform(0.47, 0.53) * side
    left = (0.5 + chance.uniform(-0.03, 0.03)) * side - size / 2
    top = (0.6 + chance.uniform(-0.02, 0.02)) * side - size / 2
    _draw_subject(canvas, ImageDraw.Draw(mask), poster, _vary(COLOURS[poster.colour], chance), left, top, size)

    _draw_frame(canvas, poster.frame, side)
    small = (SIDE, SIDE)
    return image.resize(small, Image.Resampling.BOX), mask.resize(small, Image.Resampling.BOX)


def _vary(colour: Colour, chance: random.Random) -> Colour:
    return tuple(min(255, max(0, channel + chance.randint(-8, 8))) for channel in colour)


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    return tuple(round(a + (b - a) * share) for a, b in zip(first, second, strict=True))


def _draw_pattern(canvas: ImageDraw.ImageDraw, pattern: str, side: int, shade: Colour) -> None:
    step = side // 8
    if pattern == "striped":
        for x in range(-side, side, 2 * step):
            canvas.line((x, side, x + side, 0), fill=shade, width=step // 2)
    elif pattern == "dotted":
        for y in range(step, side, 2 * step):
            for x in range(step, side, 2 * step):
                radius = step * 0.42
                canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shade)
    elif pattern == "checked":
        for row in range(8):
            for column in range(row % 2, 8, 2):
                canvas.rectangle((column * step, row * step, (column + 1) * step, (row + 1) * step), fill=shade)
    elif pattern == "wavy":
        for y in range(step, side, 2 * step):
            points = [(x, y + step * 0.5 * math.sin(x / side * 4 * math.pi)) for x in range(0, side + 1, 4)]
            canvas.line(points, fill=shade, width=step // 2, joint="curve")
    elif pattern == "radiant":
        centre = side / 2, side * 0.6
        for turn in range(0, 360, 30):
            angles = (math.radians(turn), math.radians(turn + 13))
            edge = [(centre[0] + 2 * side * math.cos(a), centre[1] + 2 * side * math.sin(a)) for a in angles]
            canvas.polygon([centre, *edge], fill=shade)


def _draw_charm(canvas: ImageDraw.ImageDraw, charm: str, x: float, y: float, size: float) -> None:
    half, line = size / 2, max(1, round(size / 12))

    def box(left: float, top: float, right: float, bottom: float) -> tuple[float, ...]:
        return x + left * half, y + top * half, x + right * half, y + bottom * half

    def points(*pairs: tuple[float, float]) -> list[tuple[float, float]]:
        return [(x + px * half, y + py * half) for px, py in pairs]

    if charm == "moon":
        angles = [math.radians(a) for a in range(50, 311, 10)]
        outer = [(math.cos(a) * 0.95, math.sin(a) * 0.95) for a in angles]
        inner = [(0.34 + math.cos(a) * 0.78, math.sin(a) * 0.78) for a in reversed(angles)]
        canvas.polygon(points(*outer, *inner), fill=(255, 236, 110), outline=OUTLINE, width=line)
    elif charm == "cloud":
        for blob in ((-1, -0.2, 0.1, 0.7), (-0.5, -0.7, 0.6, 0.5), (0.0, -0.2, 1.0, 0.7)):
            canvas.ellipse(box(*blob), outline=OUTLINE, width=2 * line, fill=OUTLINE)
        for blob in ((-0.9, -0.1, 0.0, 0.6), (-0.4, -0.6, 0.5, 0.5), (0.1, -0.1, 0.9, 0.6)):
            canvas.ellipse(box(*blob), fill=(250, 252, 255))
    elif charm == "balloon":
        canvas.line(points((0, 0.4), (0.1, 1.0)), fill=OUTLINE, width=line)
        canvas.ellipse(box(-0.62, -1.0, 0.62, 0.48), fill=(236, 60, 110), outline=OUTLINE, width=line)
    elif charm == "lightning":
        bolt = ((0.1, -1.0), (-0.7, 0.15), (-0.1, 0.15), (-0.35, 1.0), (0.65, -0.25), (0.05, -0.25), (0.55, -1.0))
        canvas.polygon(points(*bolt), fill=(255, 150, 20), outline=OUTLINE, width=line)
    elif charm == "leaf":
        upper = [(-1 + 0.2 * n, -0.62 * math.sin(math.pi * n / 10)) for n in range(11)]
        lower = [(1 - 0.2 * n, 0.62 * math.sin(math.pi * n / 10)) for n in range(11)]
        canvas.polygon(points(*upper, *lower), fill=(120, 220, 60), outline=OUTLINE, width=line)
        canvas.line(points((-1.0, 0), (0.7, 0)), fill=OUTLINE, width=line)
    elif charm == "kite":
        canvas.line(points((0, 0.4), (-0.4, 1.0)), fill=OUTLINE, width=line)
        canvas.polygon(
            points((0, -1), (0.75, -0.2), (0, 0.6), (-0.75, -0.2)), fill=(70, 200, 250), outline=OUTLINE, width=line
        )
        canvas.line(points((0, -1), (0, 0.6)), fill=OUTLINE, width=line)


def _draw_subject(
    canvas: ImageDraw.ImageDraw,
    mask: ImageDraw.ImageDraw,
    poster: Poster,
    colour: Colour,
    left: float,
    top: float,
    size: float,
) -> None:
    inks = {"fill": colour, "dark": OUTLINE}
    outline = size / 22
    shapes = [
        (kind, ink, [left + size * p if n % 2 == 0 else top + size * p for n, p in enumerate(place)])
        for kind, ink, place in SUBJECTS[poster.subject]
    ]
    for kind, _, place in shapes:  # all outlines lie below all fills, so that overlapping shapes are one
        for ink, layer in ((OUTLINE, canvas), (255, mask)):
            if kind == "polygon":
                layer.polygon(place, fill=ink)
                layer.line([*place, *place[:4]], fill=ink, width=round(2 * outline), joint="curve")
            else:
                wide = [p - outline if n < 2 else p + outline for n, p in enumerate(place)]
                getattr(layer, kind)(wide, fill=ink)
    for kind, ink, place in shapes:
        getattr(canvas, kind)(place, fill=inks[ink])


def _draw_frame(canvas: ImageDraw.ImageDraw, frame: str, side: int) -> None:
    colour, thick = FRAMES[frame], round(side * 0.065)
    if frame == "filmstrip":
        for x in (0, side - 1.6 * thick):
            canvas.rectangle((x, 0, x + 1.6 * thick, side), fill=colour)
            for y in range(side // 20, side, side // 7):
                canvas.rectangle((x + 0.45 * thick, y, x + 1.15 * thick, y + side // 15), fill=(240, 240, 240))
        return
    canvas.rectangle((0, 0, side - 1, side - 1), outline=colour, width=thick)
    if frame == "beaded":
        for step in range(8):
            along, radius = (step + 0.5) * side / 8, thick * 0.36
            for x, y in ((along, thick / 2), (along, side - thick / 2), (thick / 2, along), (side - thick / 2, along)):
                canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=LIGHT)
