"""A pool of items' text and image embeddings (Eq 6), memory-mapped, and its nearest K items (Eq 7-9)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from . import pool_files
from .fingerprint import agree
from .item_table import ItemRecord, ItemTable, PoolItem
from .nearest import NearestRows, cosines
from .pictures import open_picture, resolve_inside
from .pool_files import IMAGE_INDEX, IMAGE_VECTORS, ITEMS, TEXT_INDEX, TEXT_VECTORS
from .vector_file import read_vectors

__all__ = ["EmbeddingPool", "LeaveOut", "Neighbour", "PoolItem"]


@dataclass(frozen=True)
class LeaveOut:
    """What a search must not return (D11): the objective item, and near-duplicates of its picture.

    image_embeds: (image_width,), any length.
    """

    item_id: str | None = None
    image_embeds: np.ndarray | None = None
    near_duplicate: float = 0.985


@dataclass(frozen=True)
class Neighbour:
    """An item and its cosine with the query."""

    item: PoolItem
    similarity: float


class EmbeddingPool:
    """An open pool; a context manager. Rows are numbered from 0."""

    text_vectors: np.ndarray  # (n, text_width) float16, rows of length 1, mapped from the file
    image_vectors: np.ndarray  # (n, image_width)

    @classmethod
    def open(cls, path: Path) -> "EmbeddingPool":
        """Opens a pool; ValueError naming pool and file unless each file is as the manifest says."""
        pool_files.recover(path)
        return cls(path, pool_files.read_manifest(path))

    def __init__(self, path: Path, manifest: dict):
        self.path = path
        self.name = path.name
        self.manifest = manifest
        self.text_width, self.image_width = manifest["text_width"], manifest["image_width"]
        self.crop, self.scenario, self.tagger = manifest["crop"], manifest["scenario"], manifest["tagger"]
        for problem in pool_files.check_files(path, manifest):
            raise pool_files.damaged(path, problem)
        count, index = manifest["count"], manifest["index"]
        try:
            self.text_probe, self.text_vectors = read_vectors(path / TEXT_VECTORS, self.text_width, count)
            self.image_probe, self.image_vectors = read_vectors(path / IMAGE_VECTORS, self.image_width, count)
            self._text_index = NearestRows(path / TEXT_INDEX, self.text_vectors, index["text"])
            self._image_index = NearestRows(path / IMAGE_INDEX, self.image_vectors, index["image"])
            self._items = ItemTable(path / ITEMS, count)
        except ValueError as error:
            raise pool_files.damaged(path, str(error)) from error

    def __len__(self) -> int:
        return self.manifest["count"]

    def __enter__(self) -> "EmbeddingPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._items.close()

    def search_text(self, query: np.ndarray, k: int, leave_out: LeaveOut | None = None) -> list[Neighbour]:
        """Eq 8's top-K: the items whose text is nearest to `query` (text_width,), by (-cosine, row).

        Raises ValueError when fewer than k items are left.
        """
        return self._search(self._text_index, _unit(query, self.text_width, "text query"), k, leave_out)

    def search_image(self, query: np.ndarray, k: int, leave_out: LeaveOut | None = None) -> list[Neighbour]:
        """Eq 9's top-K: the items whose picture is nearest to `query` (image_width,), by (-cosine, row).

        Raises ValueError when fewer than k items are left.
        """
        return self._search(self._image_index, _unit(query, self.image_width, "image query"), k, leave_out)

    def item(self, item_id: str) -> PoolItem:
        """The item of that id; ValueError when the pool has none."""
        row = self._items.row_of(item_id)
        if row is None:
            raise ValueError(f"pool '{self.name}' has no item {item_id!r}; choose one of its {len(self)} items")
        return self._items.records([row])[0].item

    def contains(self, item_id: str) -> bool:
        return self._items.row_of(item_id) is not None

    def records(self, rows: Iterable[int]) -> list[ItemRecord]:
        """The items at these rows with their checksums."""
        return self._items.records(rows)

    def image_embeds(self, rows: Sequence[int]) -> np.ndarray:
        """Image embeddings (len(rows), image_width), float32, as long as the encoder gave them: Proj_img needs that."""
        lengths = np.array([record.image_length for record in self.records(rows)], dtype=np.float32)
        return self.image_vectors[np.asarray(rows, dtype=np.int64)].astype(np.float32) * lengths[:, None]

    def thumbnail(self, row: int) -> Image.Image:
        """The item's picture, longest side 256; ValueError when the file is not the one that was written."""
        path = resolve_inside(self.path, pool_files.thumbnail_path(row))
        if not path.is_file() or pool_files.checksum(path) != self.records([row])[0].thumbnail:
            raise pool_files.damaged(self.path, f"{pool_files.thumbnail_path(row)} does not hold what was written")
        return open_picture(path)

    def check_encoders(self, text_probe: np.ndarray, image_probe: np.ndarray) -> None:
        """ValueError unless the pool's encoders made these embeddings of the fingerprint's probes."""
        pairs = (("text", self.text_probe, text_probe), ("image", self.image_probe, image_probe))
        for side, own, connected in pairs:
            if not agree(own, connected):
                raise ValueError(
                    f"pool '{self.name}' was built with another {side} encoder ({len(own)}-d) than the "
                    f"connected one ({len(connected)}-d); connect that encoder, or rebuild the pool"
                )

    def verify(self) -> list[str]:
        """Everything that is wrong with the pool's files, every thumbnail and embedding included."""
        problems = pool_files.check_files(self.path, self.manifest)
        for name, vectors in ((TEXT_VECTORS, self.text_vectors), (IMAGE_VECTORS, self.image_vectors)):
            for start in range(0, len(self), 4096):
                lengths = np.linalg.norm(vectors[start : start + 4096].astype(np.float32), axis=1)
                for row in start + np.flatnonzero(~(np.abs(lengths - 1) < 0.01)):
                    problems.append(f"{name} row {row} has not length 1")
        for row in range(len(self)):
            try:
                self.thumbnail(row)
            except ValueError as error:
                problems.append(str(error))
        return problems

    def _search(self, index: NearestRows, query: np.ndarray, k: int, leave_out: LeaveOut | None) -> list[Neighbour]:
        if k < 1:
            raise ValueError(f"k is {k}; retrieve at least 1 item")
        rows, similarities = index.nearest(query, k, self._filter(leave_out or LeaveOut()))
        if len(rows) < k:
            raise ValueError(
                f"pool '{self.name}' has {len(rows)} of its {len(self)} items left for this search, {k} are "
                f"needed; lower k to {len(rows)} or less, raise near_duplicate, or add items"
            )
        records = self.records(rows)
        return [Neighbour(r.item, float(s)) for r, s in zip(records, similarities, strict=True)]

    def _filter(self, leave_out: LeaveOut) -> Callable[[np.ndarray], np.ndarray]:
        """A function from rows to the mask of those that D11 does not leave out."""
        row = None if leave_out.item_id is None else self._items.row_of(leave_out.item_id)
        embeds = leave_out.image_embeds
        picture = None if embeds is None else _unit(embeds, self.image_width, "image to leave out")

        def keep(rows: np.ndarray) -> np.ndarray:
            kept = rows != (-1 if row is None else row)
            if picture is not None:
                kept &= cosines(self.image_vectors[rows], picture) < leave_out.near_duplicate
            return kept

        return keep


def _unit(vector: np.ndarray, width: int, name: str) -> np.ndarray:
    """The vector as float32 of length 1."""
    if vector.shape != (width,):
        raise ValueError(
            f"the {name} has shape {vector.shape}, the pool's embeddings have width {width}; "
            "connect the encoders that the pool was built with"
        )
    length = np.linalg.norm(vector.astype(np.float64))
    if not (np.isfinite(length) and length > 0):
        raise ValueError(f"the {name} has length {length}; check the encoder, which may overflow in half precision")
    return (vector / length).astype(np.float32)
