"""Rows of one shape and type under content keys, in two files that only grow and survive a kill at any moment.

rows.bin holds the rows end to end, keys.txt one key of 32 hex digits a line. A row is on the disk before its key is
written; what lies behind the last whole key is cut away by the next append.
"""

import errno
import os
import re
from collections.abc import Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from shutil import disk_usage

import numpy as np
import torch

KEY = re.compile(rb"[0-9a-f]{32}\n")
KEY_BYTES = 33


class RowCache:
    """Readers need no lock; appending processes take turns, and none writes a key that is there already."""

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: torch.dtype):
        self.folder, self.shape, self.dtype = folder, tuple(shape), dtype
        self.row_bytes = prod(shape) * dtype.itemsize
        self._rows_file, self._keys_file = folder / "rows.bin", folder / "keys.txt"
        self._places: dict[str, int] = {}
        self._map: np.ndarray | None = None  # (rows, row_bytes)

    @classmethod
    def open(cls, folder: Path, shape: tuple[int, ...], dtype: torch.dtype) -> "RowCache":
        """The cache in this folder, which the first append makes; rows are tensors of this shape and type."""
        cache = cls(folder, shape, dtype)
        cache._read_new_keys()
        return cache

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __getitem__(self, key: str) -> torch.Tensor:
        """A copy of the row, (*shape)."""
        place = self._places[key]
        if self._map is None or place >= len(self._map):
            self._map = np.memmap(self._rows_file, np.uint8, mode="r", shape=(len(self), self.row_bytes))
        return torch.frombuffer(bytearray(self._map[place]), dtype=self.dtype).view(self.shape)

    def append(self, keys: Sequence[str], rows: torch.Tensor) -> None:
        """Put rows (n, *shape) under their keys, on the disk when it returns; keys that are there keep their row.

        OSError when the disk is full: the cache then holds what it held before.
        """
        if tuple(rows.shape) != (len(keys), *self.shape):
            expected = (len(keys), *self.shape)
            raise ValueError(f"{len(keys)} rows for {self.folder} have shape {tuple(rows.shape)}, not {expected}")
        self.folder.mkdir(parents=True, exist_ok=True)
        with _writing(self.folder / "lock"):
            self._read_new_keys()
            new = {key: row for row, key in enumerate(keys) if key not in self}
            stored = rows[list(new.values())].to("cpu", self.dtype).flatten().view(torch.uint8)
            try:
                _write_at(self._rows_file, len(self) * self.row_bytes, stored.numpy())
                _write_at(self._keys_file, len(self) * KEY_BYTES, "".join(f"{key}\n" for key in new).encode())
            except OSError as error:
                _cut(self._keys_file, len(self) * KEY_BYTES)
                _cut(self._rows_file, len(self) * self.row_bytes)
                raise self._no_room(len(new), error) from error
            self._read_new_keys()

    def check_room(self, rows: int) -> None:
        """OSError when the disk has no room for so many rows more."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if rows * self.row_bytes > disk_usage(self.folder).free:
            raise self._no_room(rows, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    def close(self) -> None:
        self._map = None

    def __enter__(self) -> "RowCache":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _read_new_keys(self) -> None:
        """Take in the keys, whole and with their rows, that the files hold beyond those known."""
        if not (self._rows_file.exists() and self._keys_file.exists()):
            return
        rows = self._rows_file.stat().st_size // self.row_bytes
        with self._keys_file.open("rb") as file:
            file.seek(len(self) * KEY_BYTES)
            while len(self) < rows and KEY.fullmatch(line := file.read(KEY_BYTES)):
                key = line[:-1].decode()
                if key in self:  # never written so: the rest is damaged
                    break
                self._places[key] = len(self)

    def _no_room(self, rows: int, error: OSError) -> OSError:
        return OSError(
            error.errno,
            f"{rows} rows ({rows * self.row_bytes / 1e6:.1f} MB) cannot be cached: {error.strerror}. The {len(self)} rows "
            "that are there are kept; make room, or choose another cache folder, and run it again",
            str(self.folder),
        )


def _write_at(path: Path, place: int, data: bytes | np.ndarray) -> None:
    """Let the file end with these bytes, from `place` on; they are on the disk when it returns."""
    path.touch()
    with path.open("r+b") as file:
        file.truncate(place)
        file.seek(place)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _cut(path: Path, size: int) -> None:
    if path.exists():
        os.truncate(path, size)


@contextmanager
def _writing(path: Path):
    """Waits until no other process holds this lock; it ends with the process, however that ends."""
    with path.open("a+b") as file:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
