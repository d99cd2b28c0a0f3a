"""The pictures of methods and catalogues: hashed once, and decoded when something must be computed from them."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
from PIL import Image

from iamg.pictures import open_picture
from iamg_train.whole_files import file_hash

MOST_PIXELS = 32_000_000  # of the decoded pictures that are kept, three bytes each


class Pictures:
    """Opens pictures; those that were opened last stay in memory, up to a number of pixels."""

    def __init__(self):
        self._hashes: dict[Path, str] = {}
        self._opened: OrderedDict[Path, Image.Image] = OrderedDict()
        self._pixels = 0

    def hash(self, path: Path) -> str:
        """xxh3_128 of the file."""
        if path not in self._hashes:
            self._hashes[path] = file_hash(path)
        return self._hashes[path]

    def open(self, path: Path) -> Image.Image:
        """RGB, upright; ValueError naming a file that is no picture."""
        if path in self._opened:
            self._opened.move_to_end(path)
            return self._opened[path]
        picture = open_picture(path)
        self._opened[path] = picture
        self._pixels += picture.width * picture.height
        while self._pixels > MOST_PIXELS:
            _, oldest = self._opened.popitem(last=False)
            self._pixels -= oldest.width * oldest.height
        return picture


def middle_square(picture: Image.Image, side: int, mode: str = "RGB") -> np.ndarray:
    """The middle square, bicubic with antialiasing: (side, side, 3) uint8, or (side, side) for the mode "L"."""
    shorter = min(picture.size)
    left, top = (picture.width - shorter) // 2, (picture.height - shorter) // 2
    box = (left, top, left + shorter, top + shorter)
    return np.asarray(picture.convert(mode).resize((side, side), Image.Resampling.BICUBIC, box=box))
