"""Any folder of pictures that this project can read, checked and copied: hostile rows and files stay behind."""

from argparse import Namespace
from collections.abc import Container, Iterator
from pathlib import Path

from iamg.items import read_items
from iamg_train.datasets.catalogue import INTERACTIONS
from iamg_train.datasets.dataset import CatalogueItem, Event
from iamg_train.datasets.findings import UNUSABLE_ITEM, Findings
from iamg_train.datasets.importing import import_dataset
from iamg_train.datasets.tables import csv_rows

COLUMNS, OPTIONAL = ("user_id", "item_id", "timestamp"), ("rating",)


def run(arguments: Namespace) -> int:
    return import_dataset(ImageFolder(arguments), arguments)


class ImageFolder:
    """A folder with metadata, or with captions; interactions.csv in it, or given, is taken along."""

    def __init__(self, arguments: Namespace):
        self.pictures: Path = arguments.source
        given: Path | None = arguments.interactions
        if given and not given.is_file():
            raise FileNotFoundError(f"interactions file {given} does not exist; give a CSV with {', '.join(COLUMNS)}")
        self._interactions = given or arguments.source / INTERACTIONS

    def items(self, findings: Findings) -> Iterator[CatalogueItem]:
        def note(place: str, reason: str) -> None:
            findings.note(UNUSABLE_ITEM, f"{place}: {reason}")

        for item in read_items(self.pictures, note):
            yield CatalogueItem(item.picture, item.item_id, item.title, item.text, item.tags, item.picture)

    def users(self, findings: Findings) -> Iterator[str]:
        return (event.user_id for event in self.events(None, findings))

    def events(self, users: Container[str] | None, findings: Findings) -> Iterator[Event]:
        rows = csv_rows(self._interactions, COLUMNS, findings, OPTIONAL) if self._interactions.is_file() else ()
        for line, (user_id, item_id, timestamp, rating) in rows:
            if users is None or user_id in users:
                yield Event(line, user_id, item_id, rating, timestamp)
