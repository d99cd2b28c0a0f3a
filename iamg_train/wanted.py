"""Whom to draw for: users by id or from a file, and the histories that they have."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from iamg.interactions import UserHistory, liked_before, read_interactions
from iamg.pool import EmbeddingPool
from iamg_train.config import Data
from iamg_train.ids import as_id
from iamg_train.objectives import Objectives

LINE = '{"user_id": "45", "objective": "2571"}, objective may be left out'


@dataclass(frozen=True)
class Wanted:
    """A user, and the item to redraw for them: without one, the item that they liked last."""

    user_id: str
    objective: str | None


def read_wanted(path: Path, objective: str | None) -> list[Wanted]:
    """The users of a JSONL file, each once; `objective` is for lines that name none.

    Raises FileNotFoundError, or ValueError naming the file and the line that is not as `LINE` says.
    """
    if not path.is_file():
        raise FileNotFoundError(f"users file {path} does not exist; give a JSONL with lines such as {LINE}")
    wanted = []
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
                own = row.get("objective")
                wanted.append(Wanted(as_id(row["user_id"]), objective if own in (None, "") else as_id(own)))
            except (ValueError, LookupError, TypeError, AttributeError):
                raise ValueError(f"{path} line {number} is not as expected: {LINE}") from None
    if not wanted:
        raise ValueError(f"{path} names no user; give a JSONL with lines such as {LINE}")
    return list(dict.fromkeys(wanted))


def find_histories(
    wanted: Sequence[Wanted], data: Data, pool: EmbeddingPool, objectives: Objectives
) -> tuple[list[UserHistory], list[tuple[str, str]]]:
    """The histories of those who can be drawn for, each once, and (user, reason) of the others.

    The objective is any item of the pool whose picture can be read, and met by the user or not (D15).
    """
    users, _ = read_interactions(data.interactions)
    known = cache(pool.contains)
    found, problems = {}, []
    for who in wanted:
        objective, items = liked_before(users.get(who.user_id, ()), known, who.objective, data.min_rating)
        if who.user_id not in users:
            problem = f"{data.interactions.name} has no such user"
        elif objective is None:
            problem = "has no liked item that the pool knows"
        elif not known(objective):
            problem = f"pool '{pool.name}' has no item {objective!r} to redraw"
        elif len(items) < data.history_length:
            problem = f"has {len(items)} liked items before {objective!r}, {data.history_length} are needed"
        elif not objectives.readable(objective):
            problem = objectives.problems[objective]
        else:
            found[UserHistory(who.user_id, objective, tuple(items[: data.history_length]))] = None
            continue
        problems.append((who.user_id, problem))
    return list(found), problems
