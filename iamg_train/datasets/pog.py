"""POG, Alibaba's iFashion: item_data.txt, outfit_data.txt and user_data.txt."""

from argparse import Namespace
from collections import Counter
from collections.abc import Container, Iterator
from pathlib import Path

from iamg_train.datasets.dataset import CatalogueItem, Event
from iamg_train.datasets.findings import BAD_ADDRESS, UNKNOWN_OUTFIT, Findings
from iamg_train.datasets.importing import import_dataset
from iamg_train.datasets.picture_sources import picture_address, pictures_by_stem
from iamg_train.datasets.tables import find_table, split_rows

ITEM_COLUMNS = 4  # item, category, address of its picture, title
OUTFIT_COLUMNS = 2  # outfit, items
USER_COLUMNS = 3  # user, clicked items, the outfit clicked then


def run(arguments: Namespace) -> int:
    return import_dataset(Pog(arguments), arguments)


class Pog:
    """An item is one piece of clothing: only those have pictures. T_i is its title.

    A line of user_data.txt is a sequence of clicks without times: the items one after the other, then the items of
    the outfit, all at one time. So the objective is a piece of the outfit that a user chose, and its history is what
    the user clicked before, never the outfit's other pieces. A user's further lines come after, in the file's order.
    """

    def __init__(self, arguments: Namespace):
        self.pictures: Path | None = arguments.pictures
        self._items, self._outfits, self._users = (
            find_table(arguments.source, f"{name}_data.txt") for name in ("item", "outfit", "user")
        )

    def items(self, findings: Findings) -> Iterator[CatalogueItem]:
        files = pictures_by_stem(self.pictures)
        for line, (item_id, _, url, title) in split_rows(self._items, ",", ITEM_COLUMNS, findings):
            place = f"{self._items.name}, line {line}"
            address = picture_address(url)
            if url and not address:
                findings.note(BAD_ADDRESS, f"{place}: {url}")
            yield CatalogueItem(place, item_id, title, "", picture=files.get(item_id, ""), image_url=address)

    def users(self, findings: Findings) -> Iterator[str]:
        return (cells[0] for _, cells in split_rows(self._users, ",", USER_COLUMNS, findings))

    def events(self, users: Container[str] | None, findings: Findings) -> Iterator[Event]:
        outfits = dict(cells for _, cells in split_rows(self._outfits, ",", OUTFIT_COLUMNS, findings))
        clock: Counter[str] = Counter()
        for line, (user_id, clicked, outfit_id) in split_rows(self._users, ",", USER_COLUMNS, findings):
            if users is not None and user_id not in users:
                continue
            for item_id in _ids(clicked):
                clock[user_id] += 1
                yield Event(line, user_id, item_id, "", str(clock[user_id]))
            outfit = outfits.get(outfit_id.strip())
            if outfit is None:
                findings.note(UNKNOWN_OUTFIT, f"{self._users.name}, line {line}: {outfit_id}")
                continue
            clock[user_id] += 1
            for item_id in _ids(outfit):
                yield Event(line, user_id, item_id, "", str(clock[user_id]))


def _ids(cell: str) -> list[str]:
    return [item_id for item_id in cell.strip().split(";") if item_id]
