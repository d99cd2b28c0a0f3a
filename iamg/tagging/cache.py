"""Tags kept on disk, so that a slow tagger sees an item once."""

import json
import logging
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

import xxhash
from PIL import Image

from ..scenarios import Scenario
from . import ItemTags, Tagger

logger = logging.getLogger(__name__)

WAIT = 30.0  # seconds for another process that is writing
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


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
        context = json.dumps([self.name, self.parameters, asdict(scenario)], sort_keys=True, default=dict)
        keys = [_key(context, image, text) for image, text in zip(images, texts, strict=True)]
        found = self._read(keys)
        misses = {key: index for index, key in enumerate(keys) if key not in found}
        if misses:
            rows = misses.values()
            fresh = self.tagger.tag([images[row] for row in rows], [texts[row] for row in rows], scenario)
            new = dict(zip(misses, fresh, strict=True))
            self._write(new)
            found |= new
        return [found[key] for key in keys]

    def _read(self, keys: Sequence[str]) -> dict[str, ItemTags]:
        with self._connect() as connection:
            rows = [
                row
                for key in dict.fromkeys(keys)
                for row in connection.execute("SELECT key, image, text FROM tags WHERE key = ?", (key,))
            ]
        return {key: ItemTags(image=tuple(json.loads(image)), text=tuple(json.loads(text))) for key, image, text in rows}
