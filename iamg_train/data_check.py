"""Looking a catalogue over before training: which items and which users' histories can be used."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from rich.table import Table

from iamg.interactions import liked_before, read_interactions
from iamg.items import Item, read_items
from iamg.pictures import open_picture, resolve_inside
from iamg_train.pool_commands import console, progress_bar, tell_problems

FEW_WORDS = 3  # a text of fewer says next to nothing about an item
LONG_HISTORIES = (10, 20, 50, 100)  # the ends of the table's rows beyond k
BAR_WIDTH = 30


@dataclass(frozen=True)
class UserReport:
    """What an interactions file holds of the items."""

    interactions: int
    skipped_rows: int
    unknown_items: int  # named in the file, not among the items
    lengths: Counter[int]  # liked items before the latest one: how many users have so many


@dataclass(frozen=True)
class Report:
    """What was found. Items are those whose picture can be read."""

    items: int
    problems: list[tuple[str, str]] = field(default_factory=list)  # (item or place, reason)
    short_texts: int = 0
    without_tags: int = 0
    users: UserReport | None = None
    k: int = 5

    @property
    def entries(self) -> int:
        """Users with k liked items before their latest."""
        return sum(users for length, users in self.users.lengths.items() if length >= self.k) if self.users else 0

    @property
    def usable(self) -> bool:
        return self.items > 0 and (self.users is None or self.entries > 0)


def check(folder: Path, interactions: Path | None, k: int = 5, min_rating: float = 4.0) -> Report:
    """Opens every picture of the folder, and reads the interactions if there are any."""
    problems: list[tuple[str, str]] = []
    items = _readable_items(folder, lambda name, reason: problems.append((name, reason)))
    return Report(
        items=len(items),
        problems=problems,
        short_texts=sum(len(item.description.split()) < FEW_WORDS for item in items),
        without_tags=sum(not item.tags for item in items),
        users=_users(interactions, {item.item_id for item in items}, min_rating) if interactions else None,
        k=k,
    )


def tell(report: Report) -> None:
    """Prints the report."""
    table = Table("items", str(report.items), show_edge=False)
    table.add_row(f"with a text of fewer than {FEW_WORDS} words", str(report.short_texts))
    table.add_row("without tags of their own", str(report.without_tags))
    console.print(table)
    tell_problems("items cannot be used", report.problems)
    if report.users:
        _tell_users(report, report.users)


def _readable_items(folder: Path, on_problem: Callable[[str, str], None]) -> list[Item]:
    try:
        items = list(read_items(folder, on_problem))
    except ValueError as error:  # nothing in the folder is an item
        on_problem(folder.name, str(error))
        return []
    readable = []
    with progress_bar() as bar:
        for item in bar.track(items, description="opening pictures"):
            try:
                open_picture(resolve_inside(folder, item.picture))
                readable.append(item)
            except ValueError as error:
                on_problem(item.item_id, str(error))
    return readable


def _users(interactions: Path, known: set[str], min_rating: float) -> UserReport:
    users, skipped_rows = read_interactions(interactions)
    named = {event.item_id for events in users.values() for event in events}
    before = (liked_before(events, known.__contains__, None, min_rating)[1] for events in users.values())
    return UserReport(
        interactions=sum(map(len, users.values())),
        skipped_rows=skipped_rows,
        unknown_items=len(named - known),
        lengths=Counter(map(len, before)),
    )


def _tell_users(report: Report, users: UserReport) -> None:
    table = Table("users", str(users.lengths.total()), show_edge=False)
    table.add_row("interactions", str(users.interactions))
    table.add_row("rows without a number as rating or timestamp", str(users.skipped_rows))
    table.add_row("items they name that are not in the folder", str(users.unknown_items))
    console.print()
    console.print(table)
    table = Table("liked items before the latest", "users", "", show_edge=False)
    for name, count in _rows(report.k, users.lengths):
        table.add_row(name, str(count), "█" * round(BAR_WIDTH * count / max(1, users.lengths.total())))
    console.print()
    console.print(table)
    console.print(f"\nwith k = {report.k}: {report.entries} users give an entry")


def _rows(k: int, lengths: Counter[int]) -> list[tuple[str, int]]:
    """One row for each length below k, and for ranges from k on."""
    starts = [*range(k + 1), *(end for end in LONG_HISTORIES if end > k)]
    rows = [
        (str(start) if end == start + 1 else f"{start} to {end - 1}", sum(lengths[x] for x in range(start, end)))
        for start, end in pairwise(starts)
    ]
    last = starts[-1]
    return [*rows, (f"{last} or more", sum(count for length, count in lengths.items() if length >= last))]
