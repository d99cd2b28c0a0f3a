"""One file of embeddings: safetensors with room in its header, so that rows can be appended.

Tensors: "probe" float32 (width,), what the encoder makes of the fingerprint's probe; "embeddings" float16
(n, width), L2-normalised. The header is padded with spaces, as the format allows, to a fixed size.
"""

import json
import os
import struct
from pathlib import Path

import numpy as np

HEADER_BYTES = 512  # with the 8 bytes of the length; a multiple of 64, so that the rows are aligned


def normalised(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1 as float16 (n, width); a zero or non-finite row becomes NaN."""
    vectors = vectors.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def read_vectors(path: Path, width: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The probe (width,) and the memory-mapped rows (count, width); ValueError when the file holds others."""
    expected = _rows_at(width) + count * width * 2
    with path.open("rb") as file:
        if file.read(HEADER_BYTES) != _header(width, count) or path.stat().st_size != expected:
            raise ValueError(f"{path.name} does not hold {count} embeddings of width {width}")
    return read_probe(path, width), np.memmap(path, np.float16, mode="r", offset=_rows_at(width), shape=(count, width))


def read_probe(path: Path, width: int) -> np.ndarray:
    return np.fromfile(path, np.float32, count=width, offset=HEADER_BYTES)


def holds_rows(path: Path, width: int, count: int) -> bool:
    """Whether a file under construction is long enough for that many rows."""
    return path.is_file() and path.stat().st_size >= _rows_at(width) + count * width * 2


class VectorWriter:
    """The file while it grows; a valid safetensors file after `finish`."""

    def __init__(self, path: Path, probe: np.ndarray, rows_kept: int = 0):
        """Keeps the first rows of the file that is there, or starts an empty one."""
        self.width = len(probe)
        self._file = path.open("r+b" if rows_kept else "w+b")
        if not rows_kept:
            self._file.write(_header(self.width, 0) + probe.astype(np.float32).tobytes())
        self._file.truncate(_rows_at(self.width) + rows_kept * self.width * 2)

    def write(self, rows: list[int], vectors: np.ndarray) -> None:
        """Puts float16 vectors (len(rows), width) at these rows, on the disk when it returns."""
        for row, vector in zip(rows, vectors, strict=True):
            self._file.seek(_rows_at(self.width) + row * self.width * 2)
            self._file.write(vector.tobytes())
        self._sync()

    def read(self, row: int) -> np.ndarray:
        self._file.seek(_rows_at(self.width) + row * self.width * 2)
        return np.frombuffer(self._file.read(self.width * 2), np.float16)

    def finish(self, count: int) -> None:
        self._file.truncate(_rows_at(self.width) + count * self.width * 2)
        self._file.seek(0)
        self._file.write(_header(self.width, count))
        self._sync()

    def close(self) -> None:
        self._file.close()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


def _rows_at(width: int) -> int:
    return HEADER_BYTES + 4 * width


def _header(width: int, count: int) -> bytes:
    tensors = {
        "probe": {"dtype": "F32", "shape": [width], "data_offsets": [0, 4 * width]},
        "embeddings": {
            "dtype": "F16",
            "shape": [count, width],
            "data_offsets": [4 * width, 4 * width + 2 * count * width],
        },
    }
    length = HEADER_BYTES - 8
    return struct.pack("<Q", length) + json.dumps(tensors).encode().ljust(length)
