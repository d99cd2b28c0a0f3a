"""Items of a folder: pictures with id, title, text and tags, in the ImageFolder convention."""

import csv
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from .pictures import PICTURE_SUFFIXES, resolve_inside

METADATA_FILES = ("metadata.jsonl", "metadata.csv", "metadata.parquet", "items.jsonl")
DESCRIPTIONS = "descriptions.jsonl"  # texts of items that have none, as `iamg-train tag --describe` writes them
COLUMNS = ("file_name", "image", "item_id", "title", "text", "tags")

MAX_TEXT = 100_000  # characters; thousands of times what T* has room for
MAX_CHARACTERS = {"item_id": 255, "user_id": 255, "file_name": 1000, "image": 1000}
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

Problem = Callable[[str, str], None]


@dataclass(frozen=True)
class Item:
    """One item: `picture` is a POSIX path relative to the items' folder."""

    item_id: str
    title: str
    text: str
    tags: tuple[str, ...]
    picture: str

    @property
    def description(self) -> str:
        return describe(self.title, self.text)


def describe(title: str, text: str) -> str:
    """T_i: title and text as one text, without saying the title twice."""
    head, rest = text[: len(title)], text[len(title) :]
    if not title or (head.casefold() == title.casefold() and not rest[:1].isalnum()):
        return text
    if not text:
        return title
    stop = "" if title.endswith((".", "!", "?", "…")) else "."
    return f"{title}{stop} {text}"


def read_items(folder: Path, on_problem: Problem) -> Iterator[Item]:
    """Items listed in the folder's metadata file, else its pictures with the .txt captions beside them.

    Metadata: metadata.jsonl, .csv or .parquet, or items.jsonl, with file_name (or image) and optionally
    item_id (else the file's stem), title, text, tags. A text that is empty is taken from descriptions.jsonl
    ({"item_id": ..., "text": ...}; the last line of an item counts), if that is there. A row or picture that
    cannot be used is reported as `on_problem(name, reason)` and skipped. Raises FileNotFoundError without the folder, ValueError when
    nothing in it is an item.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"folder {folder} does not exist; give the folder that holds the items")
    metadata = metadata_file(folder)
    rows = metadata_rows(metadata, on_problem) if metadata else _captioned_pictures(folder, on_problem)
    descriptions = _descriptions(folder, on_problem)
    ids = set()
    for place, row in rows:
        try:
            item = _item(folder, row, descriptions)
            if item.item_id in ids:
                raise ValueError(f"item_id {item.item_id!r} is already used by an item before it")
        except ValueError as error:
            on_problem(place, str(error))
            continue
        ids.add(item.item_id)
        yield item
    if not ids:
        source = f"{metadata.name} in {folder} lists no" if metadata else f"folder {folder} has no"
        raise ValueError(
            f"{source} usable item; expected pictures with .txt captions beside them, or a UTF-8 "
            "metadata.jsonl, metadata.csv or metadata.parquet with file_name, item_id, title, text, tags"
        )


def metadata_file(folder: Path) -> Path | None:
    """The file that lists the folder's items, if there is one."""
    return next((path for name in METADATA_FILES if (path := resolve_inside(folder, name)).is_file()), None)


def metadata_rows(
    metadata: Path, on_problem: Problem, columns: Sequence[str] = COLUMNS
) -> Iterator[tuple[str, Mapping[str, object]]]:
    """(place, row) of each row that can be read; a row has the `columns` at least, where the file has them."""
    readers = {".jsonl": _json_rows, ".csv": _csv_rows, ".parquet": partial(_parquet_rows, wanted=columns)}
    for number, row in readers[metadata.suffix](metadata):
        place = f"{metadata.name}, row {number}"
        if isinstance(row, dict):
            yield place, row
        else:
            on_problem(place, f"it cannot be read: {row}")


def _item(folder: Path, row: Mapping[str, object], descriptions: Mapping[str, str]) -> Item:
    name = text_of(row, "file_name") or text_of(row, "image")
    if not name:
        raise ValueError("it names no picture; fill in file_name")
    if not os.path.isfile(resolve_inside(folder, name)):  # Path.is_file raises where a name is too long
        raise ValueError(f"its picture {name} does not exist in {folder}")
    picture = PurePosixPath(name.replace("\\", "/"))
    item_id = text_of(row, "item_id") or picture.stem
    check_id(item_id)
    return Item(
        item_id=item_id,
        title=text_of(row, "title"),
        text=text_of(row, "text") or descriptions.get(item_id, ""),
        tags=_tags(row.get("tags")),
        picture=picture.as_posix(),
    )


def text_of(row: Mapping[str, object], column: str) -> str:
    """The text in a row's column, empty where there is none; ValueError for what is no text."""
    value = row.get(column)
    if value is None or value != value:  # NaN: an empty cell of a data frame
        return ""
    if isinstance(value, float) and value.is_integer():  # ids that became floats on their way through one
        value = int(value)
    if not isinstance(value, str | int | float):
        raise ValueError(f"its {column} is a {type(value).__name__}; expected text")
    text, limit = _clean(str(value)), MAX_CHARACTERS.get(column, MAX_TEXT)
    if len(text) > limit:
        raise ValueError(f"its {column} has {len(text)} characters, more than the {limit} that are read; shorten it")
    return text


def check_id(item_id: str) -> None:
    """ValueError for an id that cannot be shown on one line."""
    if CONTROL.search(item_id):
        raise ValueError(f"its id {item_id!r} holds control characters; rename it")


def _tags(value: object) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if parts is None or parts != parts:
        return ()
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise ValueError("its tags are no list of texts; expected a list, or one comma-separated text")
    return tuple(tag for tag in map(_clean, parts) if tag)


def _clean(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("its text is not valid UTF-8; save the file as UTF-8") from error
    return text.replace("\0", "").strip()


def _captioned_pictures(folder: Path, on_problem: Problem) -> Iterator[tuple[str, dict]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.suffix.lower() not in PICTURE_SUFFIXES or any(part.startswith(".") for part in name.parts):
            continue
        caption = name.with_suffix(".txt")
        place = name.as_posix().encode("utf-8", "replace").decode()
        try:
            text = _caption(folder, caption.as_posix())
        except (OSError, ValueError) as error:
            on_problem(place, f"its caption {caption.name} cannot be read: {error}")
            continue
        yield place, {"file_name": name.as_posix(), "text": text}


def _caption(folder: Path, name: str) -> str:
    """Empty where there is none."""
    path = resolve_inside(folder, name)
    if not path.is_file():
        return ""
    with path.open(encoding="utf-8-sig") as file:
        text = file.read(MAX_TEXT + 1)
    if len(text) > MAX_TEXT:
        raise ValueError(f"it has more than the {MAX_TEXT} characters that are read; shorten it")
    return text


def _descriptions(folder: Path, on_problem: Problem) -> dict[str, str]:
    """The texts of descriptions.jsonl by item."""
    path = resolve_inside(folder, DESCRIPTIONS)
    texts = {}
    for place, row in metadata_rows(path, on_problem) if path.is_file() else ():
        try:
            texts[text_of(row, "item_id")] = text_of(row, "text")
        except ValueError as error:
            on_problem(place, str(error))
    return texts


def _json_rows(path: Path) -> Iterator[tuple[int, dict | str]]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield number, str(error)
            else:
                yield number, row if isinstance(row, dict) else "expected one JSON object a line"


def _csv_rows(path: Path) -> Iterator[tuple[int, dict | str]]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
        rows = enumerate(csv.DictReader(lines), 1)
        while True:
            try:
                yield next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield rows.line_num, str(error)


def _parquet_rows(path: Path, wanted: Sequence[str]) -> Iterator[tuple[int, dict]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise ValueError(f"reading {path} needs pyarrow; run: pip install pyarrow") from error
    try:
        table = parquet.ParquetFile(path)
        columns = [name for name in wanted if name in table.schema_arrow.names]
        number = 0
        for batch in table.iter_batches(batch_size=1024, columns=columns):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (ArrowException, OSError) as error:
        raise ValueError(f"{path} is no readable parquet file: {error}; write it again") from error
