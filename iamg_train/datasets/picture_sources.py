"""Where an imported item's picture comes from: a folder of files named after items, or a table of addresses."""

import shutil
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image

from iamg.pictures import FORMATS, PICTURE_SUFFIXES, open_picture, resolve_inside
from iamg_train.datasets.findings import BAD_ADDRESS, Findings
from iamg_train.datasets.tables import pair_rows

SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}
MAX_URL = 2000  # characters
ORIENTATION, UPRIGHT = 0x0112, 1  # in EXIF


def pictures_by_stem(folder: Path | None) -> dict[str, str]:
    """File names, relative to the folder, by what they are called without their ending.

    Raises FileNotFoundError without the folder. Of files with one stem the first in alphabetical order counts.
    """
    if folder is None:
        return {}
    if not folder.is_dir():
        raise FileNotFoundError(f"folder {folder} does not exist; give the folder that holds the pictures")
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    return {name.stem: name.as_posix() for name in reversed(names)}


def read_addresses(path: Path | None, findings: Findings) -> dict[str, str]:
    """Addresses of pictures by item, from a CSV of item and URL; FileNotFoundError without the file."""
    addresses = {}
    for line, (item_id, url) in pair_rows(path, findings) if path else ():
        if checked := picture_address(url):
            addresses[item_id.strip()] = checked
        elif line > 1:  # the first line may be a header
            findings.note(BAD_ADDRESS, f"{path.name}, line {line}: {url}")
    return addresses


def picture_address(url: str) -> str:
    """The address as it can be fetched, empty where it is none; "//host/path" is taken as https."""
    url = url.strip()
    url = f"https:{url}" if url.startswith("//") else url
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return ""
    fetchable = is_address and len(url) <= MAX_URL and url.isprintable() and " " not in url
    return url if fetchable else ""


def copy_picture(folder: Path, name: str, target: Path) -> tuple[str, bool]:
    """Puts a picture of the folder at `target` plus an ending; that ending, and whether it had to be converted.

    JPEG, PNG and WebP files are copied as they are if every program shows them alike, else written anew as PNG.
    Raises ValueError for what cannot be read, is too large or leads out of the folder.
    """
    path = resolve_inside(folder, name)
    picture = open_picture(path)
    with Image.open(path, formats=FORMATS) as image:
        suffix = SUFFIXES.get(image.format) if _is_plain(image) else None
    if suffix:
        shutil.copyfile(path, target.with_name(target.name + suffix))
        return suffix, False
    picture.save(target.with_name(f"{target.name}.png"))
    return ".png", True


def _is_plain(image: Image.Image) -> bool:
    single = not getattr(image, "is_animated", False)
    upright = image.getexif().get(ORIENTATION, UPRIGHT) == UPRIGHT
    return single and upright and image.mode in ("RGB", "L") and "transparency" not in image.info
