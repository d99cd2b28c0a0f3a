"""A pool's items.sqlite: what is known of each row, looked up by key."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .items import describe
from .tagging import ItemTags

_COLUMNS = (
    "row",
    "item_id",
    "title",
    "text",
    "picture",
    "image_tags",
    "text_tags",
    "thumbnail",
    "content",
    "image_length",
)
_CREATE = """
CREATE TABLE IF NOT EXISTS items (
    row INTEGER PRIMARY KEY, item_id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, text TEXT NOT NULL,
    picture TEXT NOT NULL, image_tags TEXT NOT NULL, text_tags TEXT NOT NULL,
    thumbnail TEXT NOT NULL, content TEXT NOT NULL, image_length REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS build (parameters TEXT NOT NULL);
"""


@dataclass(frozen=True)
class PoolItem:
    """One item of a pool, at its row of the embeddings."""

    row: int
    item_id: str
    title: str
    text: str
    picture: str
    tags: ItemTags

    @property
    def description(self) -> str:
        """T_i, whose key the pool holds."""
        return describe(self.title, self.text)


@dataclass(frozen=True)
class ItemRecord:
    """A PoolItem with the xxh3_64 of its thumbnail and of the picture and texts it was made from.

    image_length: of the image embedding before it was brought to length 1.
    """

    item: PoolItem
    thumbnail: str
    content: str
    image_length: float


class ItemTable:
    """Read-only items of a finished pool."""

    def __init__(self, path: Path, count: int):
        """Opens the table; ValueError when it does not hold `count` items with the rows 0 to count - 1."""
        # immutable: no lock and no journal beside a file that nobody changes
        uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        self._database = sqlite3.connect(uri, uri=True, check_same_thread=False)
        sizes = "(SELECT count(*) FROM items), (SELECT min(row) FROM items), (SELECT max(row) FROM items)"
        try:
            self._database.execute("PRAGMA trusted_schema = OFF")
            columns = _columns(self._database)
            found = self._database.execute(f"SELECT {sizes}").fetchone()
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{path.name} holds no table of items ({error})") from error
        if columns != _COLUMNS or found != (count, 0, count - 1):
            raise ValueError(f"{path.name} does not hold {count} items with the rows 0 to {count - 1}")

    def row_of(self, item_id: str) -> int | None:
        found = self._database.execute("SELECT row FROM items WHERE item_id = ?", (item_id,)).fetchone()
        return found and found[0]

    def records(self, rows: Iterable[int]) -> list[ItemRecord]:
        """The records at these rows, in their order."""
        one = "SELECT * FROM items WHERE row = ?"
        return [_record(self._database.execute(one, (int(row),)).fetchone()) for row in rows]

    def close(self) -> None:
        self._database.close()


class ItemTableWriter:
    """The items of a pool under construction; what is committed here is done.

    Holds the file locked, until closed or the process dies; a second writer gets a ValueError.
    """

    def __init__(self, path: Path):
        self._database = sqlite3.connect(path, timeout=0)
        try:
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("BEGIN EXCLUSIVE")
            self._database.executescript(_CREATE)
            if _columns(self._database) != _COLUMNS:  # begun by another version
                raise sqlite3.DatabaseError(f"{path.name} has other columns")
        except sqlite3.OperationalError as error:
            self._database.close()
            raise ValueError(f"{path.parent} cannot be written ({error}); is another process building it?") from error
        except sqlite3.DatabaseError:
            self._database.close()
            raise

    def parameters(self) -> dict | None:
        """What the items were built with; None for a new table."""
        found = self._database.execute("SELECT parameters FROM build").fetchone()
        return found and json.loads(found[0])

    def start(self, parameters: dict) -> None:
        """Forgets every item."""
        with self._database as database:
            database.execute("DELETE FROM items")
            database.execute("DELETE FROM build")
            database.execute("INSERT INTO build VALUES (?)", (json.dumps(parameters),))

    def count(self) -> int:
        return self._database.execute("SELECT count(*) FROM items").fetchone()[0]

    def find(self, item_id: str) -> tuple[int, str] | None:
        """Row and content of an item."""
        return self._database.execute("SELECT row, content FROM items WHERE item_id = ?", (item_id,)).fetchone()

    def put(self, records: Sequence[ItemRecord]) -> None:
        """Adds records, or replaces those at the same rows."""
        with self._database as database:
            for record in records:
                item = record.item
                tags = (json.dumps(item.tags.image), json.dumps(item.tags.text))
                fields = (item.row, item.item_id, item.title, item.text, item.picture)
                values = (*fields, *tags, record.thumbnail, record.content, record.image_length)
                database.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

    def mark_unfinished(self, rows: Iterable[int]) -> None:
        """Says that these rows are about to change, so that no resumed build trusts them."""
        with self._database as database:
            database.executemany("UPDATE items SET content = '' WHERE row = ?", ((row,) for row in rows))

    def move(self, source: int, row: int) -> None:
        """Moves the item at `source` to `row`, whose own item is forgotten."""
        with self._database as database:
            database.execute("DELETE FROM items WHERE row = ?", (row,))
            database.execute("UPDATE items SET row = ? WHERE row = ?", (row, source))

    def close(self) -> None:
        self._database.close()


def _columns(database: sqlite3.Connection) -> tuple[str, ...]:
    return tuple(column[0] for column in database.execute("SELECT * FROM items LIMIT 0").description)


def _record(values: tuple) -> ItemRecord:
    row, item_id, title, text, picture, image_tags, text_tags, thumbnail, content, image_length = values
    tags = ItemTags(tuple(json.loads(image_tags)), tuple(json.loads(text_tags)))
    return ItemRecord(PoolItem(row, item_id, title, text, picture, tags), thumbnail, content, image_length)
