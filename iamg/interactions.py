"""What a user liked before the objective item: the k history items of Eq 5."""

import csv
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

logger = logging.getLogger(__name__)

COLUMNS = ("user_id", "item_id", "timestamp")


@dataclass(frozen=True)
class UserHistory:
    """The user's last k liked items, newest first, strictly earlier than the objective item."""

    user_id: str
    objective: str
    items: tuple[str, ...]


class Interaction(NamedTuple):
    """One row of an interactions file."""

    item_id: str
    timestamp: float
    rating: float | None  # None: a click or a purchase, which counts as liked

    def liked(self, min_rating: float) -> bool:
        return self.rating is None or self.rating >= min_rating


def read_history(
    path: Path,
    user_id: str,
    known_items: Collection[str] | Callable[[str], bool],
    objective: str | None = None,
    k: int = 5,
    min_rating: float = 4.0,
) -> UserHistory:
    """The user's history from an interactions file: user_id,item_id,rating,timestamp.

    Without an objective it is the user's latest liked item. Of interactions with one timestamp the later line
    is the newer one, but none of them counts as earlier than another (D15). An objective that the user never
    met has the whole history before it. Items not in `known_items` are left out. Raises ValueError for an
    unknown user and for a user with fewer than k liked items.
    """
    if k < 1:
        raise ValueError(f"k is {k}; a history needs at least 1 item")
    known = known_items if callable(known_items) else known_items.__contains__
    users, skipped = read_interactions(path)
    if skipped:
        logger.warning("%s: %d rows without a number as rating or timestamp were skipped", path, skipped)
    if user_id not in users:
        raise ValueError(f"{path} has no user {user_id!r}; {_users_with(users, known, k, min_rating)}")
    found, items = liked_before(users[user_id], known, objective, min_rating)
    if not found or len(items) < k:
        count = f"{len(items)} liked items before {found!r}" if found else "no liked item that is known"
        raise ValueError(
            f"user {user_id!r} has {count}, {k} are needed; lower k or choose another user; "
            f"{_users_with(users, known, k, min_rating)}"
        )
    return UserHistory(user_id, found, tuple(items[:k]))


def read_interactions(path: Path) -> tuple[dict[str, list[Interaction]], int]:
    """Each user's interactions, newest first, and how many rows were skipped.

    Skipped are rows without a finite number as rating or timestamp, and rows that cannot be read. Of interactions
    with one timestamp the later line comes first.
    """
    if not path.is_file():
        raise FileNotFoundError(f"interactions file {path} does not exist; give a CSV with {','.join(COLUMNS)}")
    users = defaultdict(list)
    skipped = 0
    for user_id, event in _rows(path):
        if event is None:
            skipped += 1
        else:
            users[user_id].append(event)
    newest_first = {user_id: sorted(events, key=attrgetter("timestamp"))[::-1] for user_id, events in users.items()}
    return newest_first, skipped


def liked_before(
    newest_first: Iterable[Interaction], known: Callable[[str], bool], objective: str | None, min_rating: float
) -> tuple[str | None, list[str]]:
    """The objective item and the liked items strictly before it, newest first.

    Without an objective it is the latest liked item, None when nothing was liked.
    """
    liked = [event for event in newest_first if event.liked(min_rating) and known(event.item_id)]
    if not objective and liked:
        objective = liked[0].item_id
    met = next((event.timestamp for event in newest_first if event.item_id == objective), math.inf)
    before = [event.item_id for event in liked if event.timestamp < met and event.item_id != objective]
    return objective, list(dict.fromkeys(before))


def histories(
    user_id: str, newest_first: Sequence[Interaction], known: Callable[[str], bool], k: int, min_rating: float
) -> Iterator[UserHistory]:
    """A history for each liked item that has k liked items before it, the newest objective first."""
    liked = (event.item_id for event in newest_first if event.liked(min_rating) and known(event.item_id))
    for objective in dict.fromkeys(liked):
        _, items = liked_before(newest_first, known, objective, min_rating)
        if len(items) >= k:
            yield UserHistory(user_id, objective, tuple(items[:k]))


def _rows(path: Path) -> Iterator[tuple[str, Interaction | None]]:
    try:
        with path.open(encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                header = "user_id,item_id,rating,timestamp"
                raise ValueError(f"{path} has no column {missing[0]!r}; expected the header {header}")
            while True:
                try:
                    row = next(reader)
                except StopIteration:
                    return
                except csv.Error:  # a cell longer than csv reads
                    yield "", None
                    continue
                user_id, item_id = _id(row["user_id"]), _id(row["item_id"])
                if user_id and item_id:
                    yield user_id, _interaction(item_id, row["timestamp"], row.get("rating"))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no readable UTF-8 CSV: {error}; save it again as CSV UTF-8") from error


def _id(cell: str | None) -> str:
    return (cell or "").replace("\0", "").strip()


def _interaction(item_id: str, timestamp: str | None, rating: str | None) -> Interaction | None:
    """None where timestamp or rating is no finite number."""
    try:
        when = float(timestamp or "nan")
        stars = float(rating) if (rating or "").strip() else None
    except ValueError:
        return None
    finite = math.isfinite(when) and (stars is None or math.isfinite(stars))
    return Interaction(item_id, when, stars) if finite else None


def _users_with(users: dict[str, list[Interaction]], known: Callable[[str], bool], k: int, min_rating: float) -> str:
    """A few users whose latest liked item has k liked items before it."""
    enough = (name for name, events in users.items() if len(liked_before(events, known, None, min_rating)[1]) >= k)
    names = list(islice(enough, 5))
    return f"users with enough: {', '.join(names)}" if names else f"no user has {k} liked items before another"
