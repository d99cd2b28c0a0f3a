"""Whom the demo draws for: two users with long enough histories that have little in common, and one item."""

import csv
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

from iamg.interactions import UserHistory, read_history

CANDIDATES = 20  # users of the objective that are compared in pairs

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

    Without `objective`: given users each get the latest item they liked; else it is the item that most users
    with a long enough history liked. Raises ValueError where no two such users are.
    """
    if users:
        return [read_history(interactions, user, known, objective, k, min_rating) for user in users]
    for item in [objective] if objective else _latest_items(interactions, known, min_rating):
        histories = list(_histories(interactions, known, item, k, min_rating))
        if len(histories) > 1:
            return list(min(combinations(histories, 2), key=lambda pair: _overlap(*pair, tags_of)))
    wanted = f"item '{objective}' and" if objective else "one item and"
    raise ValueError(f"{interactions} has no two users who liked {wanted} {k} items before it; lower --history-length")
