"""A downloaded file as the picture that the catalogue names, or not at all."""

import os
from pathlib import Path

from PIL import Image

from iamg.pictures import FORMATS, open_picture
from iamg_train.images.fetching import NotFetched

KEPT_AS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
QUALITY = 95


def keep_picture(downloaded: Path, destination: Path) -> None:
    """Renames a whole picture into place, written anew where its type is not the one that the name says.

    Raises NotFetched for what `open_picture` does not read.
    """
    try:
        picture = open_picture(downloaded)
    except ValueError as error:
        raise NotFetched("no picture that can be read", str(error.__cause__)) from error
    with Image.open(downloaded, formats=FORMATS) as opened:
        found = opened.format
    wanted = KEPT_AS[destination.suffix.lower()]
    if found != wanted:
        picture.save(downloaded, wanted, quality=QUALITY)
    with downloaded.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(downloaded, destination)
