"""The items that samples redraw: their pictures opened and hashed, each once."""

from dataclasses import dataclass
from pathlib import Path

from iamg.pictures import open_picture, resolve_inside
from iamg.pool import EmbeddingPool
from iamg_train.whole_files import file_hash


@dataclass(frozen=True)
class Objective:
    """An item whose picture can be read."""

    item_id: str
    picture: str  # relative to the items' folder
    picture_hash: str


class Objectives:
    """Looks an item's picture up in the pool, and opens it in the items' folder."""

    def __init__(self, items: Path, pool: EmbeddingPool):
        self.items, self.pool = items, pool
        self.problems: dict[str, str] = {}  # by item
        self._readable: dict[str, Objective] = {}

    def __getitem__(self, item_id: str) -> Objective:
        return self._readable[item_id]

    def readable(self, item_id: str) -> bool:
        """Whether the picture is there and decodes completely; what is wrong else is put among the problems."""
        if item_id not in self._readable and item_id not in self.problems:
            picture = self.pool.item(item_id).picture
            try:
                path = resolve_inside(self.items, picture)
                open_picture(path)
                self._readable[item_id] = Objective(item_id, picture, file_hash(path))
            except (ValueError, OSError) as error:
                self.problems[item_id] = str(error)
        return item_id in self._readable
