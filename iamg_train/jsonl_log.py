"""A JSON Lines file that grows while a long command runs, and survives a kill at any moment."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path


def read_log(path: Path) -> Iterator[dict]:
    """Its rows, without a last one that was not written to its end; none where there is no file."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            row = _parsed(line)
            if isinstance(row, dict):
                yield row


def json_lines(rows: Iterable[Mapping[str, object]]) -> bytes:
    """The rows in UTF-8, one a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "replace")


class JsonLinesLog:
    """Appends rows; they are on the disk when `append` returns."""

    def __init__(self, path: Path):
        self._file = path.open("ab+")
        _end_last_line(self._file)

    def append(self, rows: Iterable[Mapping[str, object]]) -> None:
        self._file.write(json_lines(rows))
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> "JsonLinesLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _end_last_line(file) -> None:
    """A last line without its end is ended where it is a whole row, and cut away where it is none."""
    file.seek(0)
    start, last = 0, b""
    for last in file:
        if last.endswith(b"\n"):
            start += len(last)
    if last and not last.endswith(b"\n"):
        if _parsed(last.decode("utf-8", "replace")) is None:
            file.truncate(start)
        else:
            file.write(b"\n")


def _parsed(line: str) -> object:
    """None for what is no JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
