"""Which histories are trained on and which are held out (the paper's A.1, D15)."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from iamg.interactions import Interaction, UserHistory, histories
from iamg_train.id_hash import share_of, visiting_order
from iamg_train.prepared import CONTROL, TEST, TRAIN


@dataclass(frozen=True)
class Split:
    """Held-out users and items, by a hash of the id: the same ones whatever else is in the data (D15)."""

    test_fraction: float

    def is_test_user(self, user_id: str) -> bool:
        return share_of("test user", user_id) < self.test_fraction

    def is_test_item(self, item_id: str) -> bool:
        return share_of("test item", item_id) < self.test_fraction


@dataclass(frozen=True)
class Entry:
    """One user's history and objective, and the split they belong to."""

    split: str
    history: UserHistory


@dataclass(frozen=True)
class Choice:
    """The chosen entries in the users' hash order, and the users that gave none."""

    entries: list[Entry]
    short_users: int  # too few liked items, or none that may be the objective
    users_beyond_limit: int

    def counts(self) -> dict[str, int]:
        splits = [entry.split for entry in self.entries]
        return {
            TRAIN: splits.count(TRAIN),
            TEST: splits.count(TEST),
            "short_users": self.short_users,
            "users_beyond_limit": self.users_beyond_limit,
        }


def choose_entries(
    users: Mapping[str, Sequence[Interaction]],
    known: Collection[str],
    usable: Callable[[str], bool],
    split: Split,
    k: int,
    min_rating: float,
    max_entries: int,
    progress: Callable[[int, int], None] = lambda visited, users: None,
) -> Choice:
    """At most one entry a user and `max_entries` in all, taken in the order of a hash of the user's id.

    Train: a user, history and objective of the training part. Test: a test user, the newest test item they
    liked as objective, any known items as history. An objective that is not `usable` gives way to the next
    newest; `usable` is asked for no other item.
    """
    entries: list[Entry] = []
    short = 0
    for visited, user_id in enumerate(sorted(users, key=visiting_order), 1):
        test = split.is_test_user(user_id)
        found = histories(user_id, users[user_id], _items_of(test, known, split), k, min_rating)
        if test:
            found = (history for history in found if split.is_test_item(history.objective))
        history = next((history for history in found if usable(history.objective)), None)
        if history:
            entries.append(Entry(TEST if test else TRAIN, history))
        else:
            short += 1
        progress(visited, len(users))
        if len(entries) == max_entries:
            break
    return Choice(entries, short, len(users) - len(entries) - short)


def control_entries(entries: Sequence[Entry]) -> list[Entry]:
    """For each test entry, in their order, its objective with another user's history.

    That user is the next test user whose history lacks the objective, else a training user.
    """
    tests = [entry.history for entry in entries if entry.split == TEST]
    trains = [entry.history for entry in entries if entry.split == TRAIN]  # never hold a test item
    controls = []
    for place, own in enumerate(tests):
        others = (*tests[place + 1 :], *tests[:place], *trains)
        other = next(history for history in others if own.objective not in history.items)
        controls.append(Entry(CONTROL, UserHistory(other.user_id, own.objective, other.items)))
    return controls


def _items_of(test: bool, known: Collection[str], split: Split) -> Callable[[str], bool]:
    """Whether an item may be in a history of this part."""
    return lambda item_id: item_id in known and (test or not split.is_test_item(item_id))
