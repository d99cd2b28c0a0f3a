"""Whom the demo draws for: two users with long enough histories that have little in common, and one item."""

import csv
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

from iamg.interactions import UserHistory, read_history

TRIED_ITEMS = 10  # the most liked ones
TRIED_USERS = 40  # of an item, compared in pairs

TagsOf = Callable[[str], frozenset[str]]  # of an item


def choose_histories(
    interactions: Path,
    known: Callable[[str], bool],
    tags_of: TagsOf,
    users: list[str] | None,
    objective: str | None,
    k: int,
    min_rating: float,
) -> list[UserHistory]:
    """The histories of `users`, or of the two users of one objective whose histories share the fewest tags.

    Without `objective`, given users get the latest item that each liked; else it is the item that most users
    liked. Raises ValueError where no two users liked an item and k others before it.
    """
    if users:
        return [read_history(interactions, user, known, objective, k, min_rating) for user in users]
    fans = _fans(interactions, known, min_rating)
    most_liked = sorted(fans, key=lambda item: (-len(fans[item]), item))
    for item in [objective] if objective else most_liked[:TRIED_ITEMS]:
        histories = list(_histories(interactions, fans.get(item, []), known, item, k, min_rating))
        if len(histories) > 1:
            return list(min(combinations(histories, 2), key=lambda pair: _overlap(*pair, tags_of)))
    what = f"item {objective!r}" if objective else "one item"
    raise ValueError(
        f"{interactions} has no two users who liked {what} and {k} items before it; "
        "name --users, or lower --history-length or --min-rating"
    )


def _fans(interactions: Path, known: Callable[[str], bool], min_rating: float) -> dict[str, list[str]]:
    """item: the users who liked it, in the file's order."""
    fans = defaultdict(dict)
    with open(interactions, encoding="utf-8-sig", newline="") as lines:
        for row in csv.DictReader(lines):
            item, rating = row.get("item_id", ""), row.get("rating")
            try:
                liked = not rating or float(rating) >= min_rating
            except ValueError:
                continue
            if liked and known(item):
                fans[item][row["user_id"]] = None
    return {item: list(users) for item, users in fans.items()}


def _histories(
    interactions: Path, users: list[str], known: Callable[[str], bool], item: str, k: int, min_rating: float
) -> Iterator[UserHistory]:
    for user in users[:TRIED_USERS]:
        try:
            yield read_history(interactions, user, known, item, k, min_rating)
        except ValueError:  # too little before the item
            continue


def _overlap(first: UserHistory, second: UserHistory, tags_of: TagsOf) -> float:
    """Jaccard index of the tags of two histories."""
    one, other = (frozenset().union(*map(tags_of, history.items)) for history in (first, second))
    return len(one & other) / max(1, len(one | other))
