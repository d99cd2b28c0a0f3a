"""Items with their pictures, some at a time."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from PIL import Image

from iamg.items import Item, Problem
from iamg.pictures import open_picture, resolve_inside

Batch = list[tuple[Item, Image.Image]]


def item_batches(folder: Path, items: Iterable[Item], size: int, on_problem: Problem) -> Iterator[tuple[Batch, int]]:
    """Batches, and how many of the items they stand for; one whose picture cannot be read is reported and left out."""
    items = iter(items)
    while batch := list(islice(items, size)):
        loaded = []
        for item in batch:
            try:
                loaded.append((item, open_picture(resolve_inside(folder, item.picture))))
            except ValueError as error:
                on_problem(item.item_id, str(error))
        yield loaded, len(batch)
