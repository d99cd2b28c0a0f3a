"""What a user liked before the objective item: the k history items of Eq 5."""

import csv
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
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


class _Interaction(NamedTuple):
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
    users = _read_users(path)
    if user_id not in users:
        raise ValueError(f"{path} has no user {user_id!r}; {_users_with(users, known, k, min_rating)}")
    found, items = _history(users[user_id], known, objective, min_rating)
    if not found or len(items) < k:
        count = f"{len(items)} liked items before {found!r}" if found else "no liked item that is known"
        raise ValueError(
            f"user {user_id!r} has {count}, {k} are needed; lower k or choose another user; "
            f"{_users_with(users, known, k, min_rating)}"
        )
    return UserHistory(user_id, found, tuple(items[:k]))


def _read_users(path: Path) -> dict[str, list[_Interaction]]:
    """Each user's interactions, in the file's order."""
    if not path.is_file():
        raise FileNotFoundError(f"interactions file {path} does not exist; give a CSV with {','.join(COLUMNS)}")
    users = defaultdict(list)
    skipped = 0
    for user_id, event in _rows(path):
        if event is None:
            skipped += 1
        else:
            users[user_id].append(event)
    if skipped:
        logger.warning("%s: %d rows without a number as rating or timestamp were skipped", path, skipped)
    return dict(users)


def _rows(path: Path) -> Iterator[tuple[str, _Interaction | None]]:
    try:
        with path.open(encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                header = "user_id,item_id,rating,timestamp"
                raise ValueError(f"{path} has no column {missing[0]!r}; expected the header {header}")
            for row in reader:
                user_id, item_id = (row["user_id"] or "").strip(), (row["item_id"] or "").strip()
                if user_id and item_id:
                    yield user_id, _interaction(item_id, row["timestamp"], row.get("rating"))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no readable UTF-8 CSV: {error}; save it again as CSV UTF-8") from error


def _interaction(item_id: str, timestamp: str | None, rating: str | None) -> _Interaction | None:
    """None where timestamp or rating is no finite number."""
    try:
        when = float(timestamp or "nan")
        stars = float(rating) if (rating or "").strip() else None
    except ValueError:
        return None
    finite = math.isfinite(when) and (stars is None or math.isfinite(stars))
    return _Interaction(item_id, when, stars) if finite else None


def _history(
    events: Iterable[_Interaction], known: Callable[[str], bool], objective: str | None, min_rating: float
) -> tuple[str | None, list[str]]:
    """The objective item (None when nothing was liked), and the liked items before it, newest first."""
    newest_first = sorted(events, key=lambda event: event.timestamp)[::-1]  # later lines first within a timestamp
    liked = [event for event in newest_first if event.liked(min_rating) and known(event.item_id)]
    if not objective and liked:
        objective = liked[0].item_id
    met = next((event.timestamp for event in newest_first if event.item_id == objective), math.inf)
    before = [event.item_id for event in liked if event.timestamp < met and event.item_id != objective]
    return objective, list(dict.fromkeys(before))


def _users_with(users: dict[str, list[_Interaction]], known: Callable[[str], bool], k: int, min_rating: float) -> str:
    """A few users whose latest liked item has k liked items before it."""
    enough = (name for name, events in users.items() if len(_history(events, known, None, min_rating)[1]) >= k)
    names = list(islice(enough, 5))
    return f"users with enough: {', '.join(names)}" if names else f"no user has {k} liked items before another"
