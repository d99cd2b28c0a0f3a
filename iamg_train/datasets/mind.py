"""MIND: news.tsv and behaviors.tsv. Its files hold no pictures, so they come from a folder or from a table of addresses."""

from argparse import Namespace
from collections.abc import Container, Iterator
from datetime import UTC, datetime
from pathlib import Path

from iamg_train.datasets.dataset import CatalogueItem, Event
from iamg_train.datasets.findings import UNREADABLE_ROW, Findings
from iamg_train.datasets.importing import import_dataset
from iamg_train.datasets.picture_sources import pictures_by_stem, read_addresses
from iamg_train.datasets.tables import find_table, split_rows

NEWS_COLUMNS = 6  # id, category, subcategory, title, abstract; then the page's address and the entities
BEHAVIOR_COLUMNS = 5  # impression, user, time, history, news shown
TIME = "%m/%d/%Y %I:%M:%S %p"  # 11/15/2019 10:22:32 AM
CLICKED = "1"


def run(arguments: Namespace) -> int:
    return import_dataset(Mind(arguments), arguments)


class Mind:
    """T_i is title and abstract. A click is an interaction without a rating; news shown and not clicked is none.

    The news of a user's history has no time of its own. It was clicked before everything else in the file, in its
    order, so its times are 1, 2, 3 ... seconds after 1970 began.
    """

    def __init__(self, arguments: Namespace):
        self.pictures = arguments.pictures
        self._addresses: Path | None = arguments.image_urls
        self._news = find_table(arguments.source, "news.tsv")
        self._behaviors = find_table(arguments.source, "behaviors.tsv")

    def items(self, findings: Findings) -> Iterator[CatalogueItem]:
        files, addresses = pictures_by_stem(self.pictures), read_addresses(self._addresses, findings)
        for line, cells in split_rows(self._news, "\t", NEWS_COLUMNS, findings):
            news_id, _, _, title, abstract, _ = cells
            yield CatalogueItem(
                place=f"{self._news.name}, line {line}",
                item_id=news_id,
                title=title,
                text=abstract,
                picture=files.get(news_id, ""),
                image_url=addresses.get(news_id, ""),
            )

    def users(self, findings: Findings) -> Iterator[str]:
        return (cells[1] for _, cells in split_rows(self._behaviors, "\t", BEHAVIOR_COLUMNS, findings))

    def events(self, users: Container[str] | None, findings: Findings) -> Iterator[Event]:
        told: dict[str, int] = {}  # how much of a user's history
        for line, (_, user_id, time, history, shown) in split_rows(self._behaviors, "\t", BEHAVIOR_COLUMNS, findings):
            if users is not None and user_id not in users:
                continue
            clicked = history.split()
            for place in range(told.get(user_id, 0), len(clicked)):
                yield Event(line, user_id, clicked[place], "", str(place + 1))
            told[user_id] = max(told.get(user_id, 0), len(clicked))
            try:
                when = int(datetime.strptime(time.strip(), TIME).replace(tzinfo=UTC).timestamp())
            except ValueError:
                findings.note(UNREADABLE_ROW, f"{self._behaviors.name}, line {line}: {time!r} is no time")
                continue
            for news in shown.split():
                news_id, _, click = news.rpartition("-")
                if click == CLICKED:
                    yield Event(line, user_id, news_id, "", str(when))
