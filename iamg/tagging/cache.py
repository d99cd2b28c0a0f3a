"""Tags kept on disk, so that a slow tagger sees an item once."""

import json
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import xxhash
from PIL import Image

from ..scenarios import Scenario
from . import IncompleteTags, ItemTags, Tagger

logger = logging.getLogger(__name__)

WAIT = 30.0  # seconds for another process that is writing
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

Result = TypeVar("Result")


class CachedTagger:
    """A tagger that answers from an sqlite file what it was asked before, under the same tagger and scenario.

    Processes may share the file. A damaged file is set aside as `<name>.damaged`, with a warning.
    """

    def __init__(self, tagger: Tagger, path: Path):
        self.tagger = tagger
        self.path = Path(path)
        self.name = tagger.name
        self.parameters = tagger.parameters

    def tag(
        self, images: Sequence[Image.Image | None], texts: Sequence[str | None], scenario: Scenario
    ) -> list[ItemTags]:
        """What was asked before from the file, the rest from the tagger, then kept: also what it had when it failed."""
        context = json.dumps([self.name, self.parameters, asdict(scenario)], default=dict)
        keys = [_key(context, image, text) for image, text in zip(images, texts, strict=True)]
        found = self._read(keys)
        misses = {key: index for index, key in enumerate(keys) if key not in found}
        if misses:
            rows = misses.values()
            try:
                fresh = self.tagger.tag([images[row] for row in rows], [texts[row] for row in rows], scenario)
            except IncompleteTags as error:
                asked = list(misses)
                found |= self._keep({asked[place]: tags for place, tags in error.tags.items()})
                kept = {row: found[key] for row, key in enumerate(keys) if key in found}
                raise IncompleteTags(kept, error.cause) from error.cause
            found |= self._keep(dict(zip(misses, fresh, strict=True)))
        return [found[key] for key in keys]

    def _read(self, keys: Sequence[str]) -> dict[str, ItemTags]:
        def read(connection: sqlite3.Connection) -> dict[str, ItemTags]:
            query = "SELECT key, image, text FROM tags WHERE key = ?"
            rows = [row for key in set(keys) for row in connection.execute(query, (key,))]
            return {key: ItemTags(tuple(json.loads(image)), tuple(json.loads(text))) for key, image, text in rows}

        return self._transaction(read)

    def _keep(self, tags: dict[str, ItemTags]) -> dict[str, ItemTags]:
        """The tags, which the file has now."""
        rows = [(key, json.dumps(item.image), json.dumps(item.text)) for key, item in tags.items()]
        self._transaction(
            lambda connection: connection.executemany("INSERT OR REPLACE INTO tags VALUES (?, ?, ?)", rows)
        )
        return tags

    def _transaction(self, action: Callable[[sqlite3.Connection], Result]) -> Result:
        """The action's result, from a connection of its own; on a damaged file, from a new file."""
        try:
            return self._attempt(action)
        except (sqlite3.DatabaseError, json.JSONDecodeError) as error:
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF not in DAMAGED:
                raise ValueError(f"tag cache {self.path} cannot be used: {error}; choose another file") from error
            aside = self.path.with_name(f"{self.path.name}.damaged")
            logger.warning("tag cache %s is damaged (%s): set aside as %s", self.path, error, aside.name)
            os.replace(self.path, aside)
            return self._attempt(action)

    def _attempt(self, action: Callable[[sqlite3.Connection], Result]) -> Result:
        with closing(sqlite3.connect(self.path, timeout=WAIT)) as connection, connection:
            connection.execute("CREATE TABLE IF NOT EXISTS tags (key TEXT PRIMARY KEY, image TEXT, text TEXT)")
            return action(connection)


def _key(context: str, image: Image.Image | None, text: str | None) -> str:
    digest = xxhash.xxh3_128(context.encode())
    if image is not None:
        digest.update(f"\0{image.mode} {image.size}\0".encode())
        digest.update(image.tobytes())
    digest.update(b"\0text" if text is None else b"\0text " + text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
