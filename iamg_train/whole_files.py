"""Files that are there whole or not at all, and what they hold as a hash."""

import os
from pathlib import Path

import xxhash


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file beside, then renames it into place; one that holds just that is left as it is."""
    if path.is_file() and path.read_bytes() == content:
        return
    beside = path.with_name(path.name + ".part")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def file_hash(path: Path) -> str:
    """xxh3_128 of a file's bytes."""
    return xxhash.xxh3_128_hexdigest(path.read_bytes())
