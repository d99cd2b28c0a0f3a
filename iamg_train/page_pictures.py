"""Pictures inside a page that needs no other file."""

import base64
from io import BytesIO

from PIL import Image

from iamg.pictures import thumbnail

PIXEL_ART = 128  # up to this side a picture is enlarged as it is, pixel by pixel


def small_file(picture: Image.Image, side: int) -> tuple[bytes, str, tuple[int, int]]:
    """A picture of at most `side` pixels as a file of nothing but its pixels, that file's kind, and its size.

    Small ones stay as they are.
    """
    small, file = thumbnail(picture, side), BytesIO()
    small.info.clear()  # what a PNG says of how it was drawn
    kind = "png" if max(small.size) <= PIXEL_ART else "jpeg"
    small.save(file, kind, quality=85)
    return file.getvalue(), kind, small.size


def data_address(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def image_tag(content: bytes, kind: str, size: tuple[int, int], alt: str) -> str:
    """An <img>; alt is HTML already."""
    enlarged = " class='pixels'" if max(size) <= PIXEL_ART else ""
    return f"<img src='{data_address(content, kind)}' alt='{alt}' width='{size[0]}' height='{size[1]}'{enlarged}>"
