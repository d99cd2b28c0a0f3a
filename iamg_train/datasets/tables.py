"""Rows of published text files from strangers, read line by line in bounded memory.

A byte order mark, NUL characters and any kind of line end are passed over; what is not valid in the file's encoding
stays in the text as a lone surrogate, for whoever uses the text to refuse.
"""

import csv
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path

from iamg.pictures import resolve_inside
from iamg_train.datasets.findings import UNREADABLE_ROW, Findings

MAX_LINE = 2**20  # characters; POG's longest line has 20,000

UTF8 = "utf-8-sig"

Row = tuple[int, Sequence[str]]  # line number, cells


def find_table(folder: Path, *names: str) -> Path:
    """The first of these files in the folder; FileNotFoundError where there is none, ValueError where it leads out."""
    for name in names:
        if (path := resolve_inside(folder, name)).is_file():
            return path
    raise FileNotFoundError(f"{folder} has no {' and no '.join(names)}; give the folder that the dataset unpacks to")


def csv_rows(path: Path, columns: Sequence[str], findings: Findings, optional: Sequence[str] = ()) -> Iterator[Row]:
    """The cells of `columns`, then of the `optional` ones, empty where the file lacks them.

    Raises ValueError where the header lacks a column.
    """
    reader = csv.reader(_lines(path, UTF8, findings))
    header = [name.strip() for name in next(reader, [])]
    for column in columns:
        if column not in header:
            raise ValueError(f"{path} has no column {column!r}; expected the header {','.join((*columns, *optional))}")
    width = len(header)
    cells = itemgetter(*(header.index(column) if column in header else width for column in (*columns, *optional)))
    for line, row in _records(reader, path, findings):
        if len(row) == width:
            row.append("")
            yield line, cells(row)
        else:
            findings.note(UNREADABLE_ROW, f"{path.name}, line {line}: {len(row)} cells; the header has {width}")


def pair_rows(path: Path, findings: Findings) -> Iterator[Row]:
    """The first two cells of a CSV with or without a header."""
    for line, row in _records(csv.reader(_lines(path, UTF8, findings)), path, findings):
        if len(row) >= 2:
            yield line, row[:2]
        else:
            findings.note(UNREADABLE_ROW, f"{path.name}, line {line}: one cell; expected two or more")


def split_rows(path: Path, separator: str, count: int, findings: Findings, encoding: str = UTF8) -> Iterator[Row]:
    """Lines without quoting, cut into `count` cells; the last cell may hold the separator."""
    for line, text in enumerate(_lines(path, encoding, findings), 1):
        cells = text.rstrip("\n").split(separator, count - 1)
        if len(cells) == count:
            yield line, cells
        elif text.strip():
            findings.note(UNREADABLE_ROW, f"{path.name}, line {line}: {len(cells)} cells; expected {count}")


def _records(reader, path: Path, findings: Findings) -> Iterator[tuple[int, list[str]]]:
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            findings.note(UNREADABLE_ROW, f"{path.name}, line {reader.line_num}: {error}")
            continue
        if row:
            yield reader.line_num, row


def _lines(path: Path, encoding: str, findings: Findings) -> Iterator[str]:
    """Lines with their ends; one that is too long is empty."""
    with path.open(encoding=encoding, errors="surrogateescape") as file:
        number = 0
        while line := file.readline(MAX_LINE):
            number += 1
            if len(line) == MAX_LINE and not line.endswith("\n"):
                findings.note(UNREADABLE_ROW, f"{path.name}, line {number}: more than {MAX_LINE} characters")
                while (rest := file.readline(MAX_LINE)) and not rest.endswith("\n"):
                    pass
                line = "\n"
            yield line.replace("\0", "")
