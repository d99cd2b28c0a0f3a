"""A pool under construction: the folder `<name>.building`, resumed after an interrupt or a kill.

A batch's thumbnails and embeddings are on the disk before its rows are committed in items.sqlite: the table
is the log of what is done, and anything beyond it is overwritten.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import xxhash
from PIL import Image

from . import pool_files
from .fingerprint import agree
from .item_table import ItemRecord, ItemTableWriter
from .nearest import build_index
from .pictures import thumbnail
from .pool_files import IMAGE_INDEX, IMAGE_VECTORS, ITEMS, TEXT_INDEX, TEXT_VECTORS
from .vector_file import VectorWriter, holds_rows, read_probe, read_vectors

THUMBNAIL_SIZE = 256  # longest side, pixels


@dataclass(frozen=True)
class Probes:
    """What the encoders make of the fingerprint's probes: (text_width,) and (image_width,)."""

    text: np.ndarray
    image: np.ndarray


class PoolDraft:
    """Rows are appended, replaced and removed here; `finish` makes the folder a pool.

    A context manager: leaving it closes the files, and removes the folder when it holds no row.
    """

    def __init__(self, folder: Path, parameters: dict, probes: Probes):
        """Continues the folder's draft if these parameters and encoders began it, else begins anew."""
        self._folder = folder
        self._probes = probes
        parameters = {**parameters, "widths": [len(probes.text), len(probes.image)]}
        if folder.exists() and any(folder.iterdir()) and not (folder / ITEMS).is_file():
            raise ValueError(f"{folder} is in the way and is no pool under construction; move it elsewhere")
        folder.mkdir(parents=True, exist_ok=True)
        self._table = _open_table(folder / ITEMS)
        try:
            if not self._continues(parameters):
                self._table.start(parameters)
                shutil.rmtree(folder / "thumbs", ignore_errors=True)
            self.count = self._table.count()
            self._text = VectorWriter(folder / TEXT_VECTORS, probes.text, self.count)
            self._image = VectorWriter(folder / IMAGE_VECTORS, probes.image, self.count)
        except BaseException:
            self._table.close()
            raise

    def __enter__(self) -> "PoolDraft":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        if self.count == 0:
            shutil.rmtree(self._folder)

    def find(self, item_id: str) -> tuple[int, str] | None:
        """Row and content checksum of an item that is done."""
        return self._table.find(item_id)

    def put(self, records: Sequence[ItemRecord], text: np.ndarray, image: np.ndarray) -> None:
        """Writes finished items at their rows, new or replaced; text and image are float16 (n, width)."""
        rows = [record.item.row for record in records]
        self._table.mark_unfinished(rows)
        self._text.write(rows, text)
        self._image.write(rows, image)
        self._table.put(records)
        self.count = max(self.count, *(row + 1 for row in rows))

    def write_thumbnail(self, row: int, image: Image.Image) -> str:
        """Writes a row's thumbnail and gives its checksum."""
        jpeg = BytesIO()
        thumbnail(image, THUMBNAIL_SIZE).save(jpeg, "JPEG", quality=90)
        self._place_for_thumbnail(row).write_bytes(jpeg.getvalue())
        return xxhash.xxh3_64_hexdigest(jpeg.getvalue())

    def link_thumbnail(self, row: int, source: Path) -> None:
        """Takes over a thumbnail of another pool, without a copy where the file system can."""
        place = self._place_for_thumbnail(row)
        try:
            os.link(source, place)
        except OSError:
            shutil.copyfile(source, place)

    def remove(self, rows: Iterable[int]) -> None:
        """Removes rows; rows from the end take their places."""
        for row in sorted(rows, reverse=True):
            last = self.count - 1
            if row != last:
                self._table.mark_unfinished([row])
                self._text.write([row], self._text.read(last)[None])
                self._image.write([row], self._image.read(last)[None])
                self.link_thumbnail(row, self._thumbnail(last))
            self._table.move(last, row)
            self._thumbnail(last).unlink()
            self.count = last

    def finish(self, manifest: dict[str, object], exact_limit: int) -> None:
        """Makes the folder a pool: headers, indexes, and a manifest with these fields."""
        self._text.finish(self.count)
        self._image.finish(self.count)
        sides = (
            ("text", TEXT_VECTORS, TEXT_INDEX, self._text.width),
            ("image", IMAGE_VECTORS, IMAGE_INDEX, self._image.width),
        )
        index = {}
        for side, vectors, name, width in sides:
            _, rows = read_vectors(self._folder / vectors, width, self.count)
            index[side] = build_index(self._folder / name, rows, exact_limit)
        self._close()
        widths = {"text_width": self._text.width, "image_width": self._image.width}
        pool_files.write_manifest(self._folder, {"count": self.count, **widths, **manifest, "index": index})

    def _continues(self, parameters: dict) -> bool:
        if self._table.parameters() != parameters:
            return False
        sides = ((TEXT_VECTORS, self._probes.text), (IMAGE_VECTORS, self._probes.image))
        return all(
            holds_rows(self._folder / name, len(probe), self._table.count())
            and agree(read_probe(self._folder / name, len(probe)), probe)
            for name, probe in sides
        )

    def _thumbnail(self, row: int) -> Path:
        return self._folder / pool_files.thumbnail_path(row)

    def _place_for_thumbnail(self, row: int) -> Path:
        """The row's thumbnail path without a file: what is there may be a link into another pool."""
        path = self._thumbnail(row)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        return path

    def _close(self) -> None:
        self._text.close()
        self._image.close()
        self._table.close()


def _open_table(path: Path) -> ItemTableWriter:
    try:
        return ItemTableWriter(path)
    except sqlite3.DatabaseError:  # damaged, so nothing in it can be continued
        path.unlink()
        return ItemTableWriter(path)
