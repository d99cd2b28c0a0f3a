"""Which pictures a catalogue names, and which of them are not there."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from iamg.items import METADATA_FILES, Problem, metadata_file, metadata_rows, text_of
from iamg.pictures import resolve_inside
from iamg_train.images.keeping import KEPT_AS

LONGEST_NAME = 250  # bytes; file systems allow 255, and a download adds ".part"


@dataclass(frozen=True)
class NamedPicture:
    """`file_name` is relative to the catalogue's folder, `address` what the catalogue says of where to get it."""

    file_name: str
    address: str
    path: Path


def named_pictures(folder: Path, column: str, on_problem: Problem) -> Iterator[NamedPicture]:
    """The pictures that the folder's metadata name by a file_name and, in `column`, an address.

    A row that names no address, or a file name that no picture can be written to, is reported as
    `on_problem(place, reason)`. Raises FileNotFoundError without metadata.
    """
    metadata = metadata_file(folder)
    if metadata is None:
        raise FileNotFoundError(f"folder {folder} has none of {', '.join(METADATA_FILES)}; one of them names pictures")
    taken = set()
    for place, row in metadata_rows(metadata, on_problem, ("file_name", "image", column)):
        try:
            picture = _named_picture(folder, row, column)
            if picture.path in taken:
                raise ValueError(f"its picture {picture.file_name} is named by a row before it")
        except ValueError as error:
            on_problem(place, str(error))
            continue
        taken.add(picture.path)
        yield picture


def _named_picture(folder: Path, row: Mapping[str, object], column: str) -> NamedPicture:
    name, address = text_of(row, "file_name") or text_of(row, "image"), text_of(row, column)
    if not name:
        raise ValueError("it names no picture; fill in file_name")
    path = resolve_inside(folder, name)
    if path.suffix.lower() not in KEPT_AS:
        raise ValueError(f"its picture {name} cannot be written; file_name must end in one of {', '.join(KEPT_AS)}")
    if max(len(os.fsencode(part)) for part in path.parts) > LONGEST_NAME:
        raise ValueError(f"a part of {name} has more than {LONGEST_NAME} bytes, which no file name may have")
    if not address and not path.is_file():
        raise ValueError(f"it names no address of its picture {name}; fill in {column}")
    return NamedPicture(name, address, path)
