"""Opening pictures from strangers: whole, upright, RGB, and never outside their folder."""

from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from PIL import Image, ImageFile, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
MAX_PIXELS = 100_000_000


def resolve_inside(root: Path, relative: str) -> Path:
    """The file that `relative` (either slash) names under `root`; ValueError when it leads out of `root`."""
    name = relative.replace("\\", "/")
    parts = PurePosixPath(name).parts
    leads_out = not parts or name.startswith("/") or PureWindowsPath(name).drive or ".." in parts
    if leads_out or "\0" in name or not _ends_inside(root, name):
        raise ValueError(f"path {relative!r} leads out of {root}; give a path relative to that folder")
    return root / name


def _ends_inside(root: Path, name: str) -> bool:
    try:
        return (root / name).resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # links in a circle: they end nowhere
        return False


def open_picture(path: Path) -> Image.Image:
    """The picture as RGB: rotated as its EXIF says, transparency on white, the first frame of an animation.

    Raises ValueError with the file and the reason for anything that does not decode completely, or has more
    than 100 megapixels.
    """
    try:
        with _strict_decoding(), Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ValueError(f"{width}x{height} is more than {MAX_PIXELS // 1_000_000} megapixels")
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # Pillow's decoders raise nearly every built-in exception on damaged files
        raise ValueError(f"picture {path} cannot be read: {error}; replace the file, or remove it") from error


def thumbnail(image: Image.Image, size: int) -> Image.Image:
    """A copy whose longest side is at most `size` pixels."""
    small = image.copy()
    small.thumbnail((size, size), Image.Resampling.LANCZOS)
    return small


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("it holds floating-point pixels, which have no agreed white; save it with 8 bits")
    if image.mode.startswith("I"):  # 16 bits a pixel; convert("RGB") would clip all but the darkest 1/256
        image = Image.fromarray((np.clip(np.asarray(image), 0, 65535) / 257).round().astype(np.uint8))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")


@contextmanager
def _strict_decoding():
    """Other code in the process may have told Pillow to make up the missing half of a truncated file."""
    lenient = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient
