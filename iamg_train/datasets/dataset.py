"""What an importer tells of a dataset."""

from collections.abc import Container, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from iamg_train.datasets.findings import Findings


class CatalogueItem(NamedTuple):
    """An item as published, unchecked."""

    place: str  # where it stands, for people
    item_id: str
    title: str
    text: str
    tags: tuple[str, ...] = ()
    picture: str = ""  # a file in the dataset's folder of pictures; wins over image_url
    image_url: str = ""


class Event(NamedTuple):
    """An interaction as published, unchecked."""

    line: int
    user_id: str
    item_id: str
    rating: str  # empty: a click
    timestamp: str


class Dataset(Protocol):
    """A dataset's files. Each method reads them from their beginning, in bounded memory but for what it must join."""

    pictures: Path | None  # the folder of `CatalogueItem.picture`

    def items(self, findings: Findings) -> Iterator[CatalogueItem]: ...

    def users(self, findings: Findings) -> Iterator[str]:
        """The ids of users, in any order, each as often as it likes."""
        ...

    def events(self, users: Container[str] | None, findings: Findings) -> Iterator[Event]:
        """The interactions of these users, or of all. Of those of one time the later one counts as the newer."""
        ...
