"""For whom the evaluation draws, and what: held-out users, items that they never met, and a stranger's history for each."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import xxhash

from iamg.interactions import UserHistory, read_interactions
from iamg.pool import EmbeddingPool
from iamg_train.config import Data
from iamg_train.histories import Split
from iamg_train.mini.world import World
from iamg_train.objectives import Objectives
from iamg_train.wanted import Wanted, find_histories

NEVER, UNWANTED = 100, 1  # what a stranger costs who may not be one, and one who loves something that the user loves


@dataclass(frozen=True)
class Case:
    """A held-out user, and a held-out item that they have not met."""

    own: UserHistory
    other: UserHistory  # another user's items, before the same objective


def choose_cases(
    data: Data, world: World, pool: EmbeddingPool, objectives: Objectives, split: Split, users: int, seed: int
) -> list[Case]:
    """So many cases, a user each, in the order of a hash; ValueError where there are fewer users."""
    met = {user_id: {x.item_id for x in events} for user_id, events in read_interactions(data.interactions)[0].items()}
    items = [item_id for item_id in world.posters if split.is_test_item(item_id) and pool.contains(item_id)]
    wanted = []
    for user_id in sorted(filter(split.is_test_user, met), key=lambda x: _place(seed, x)):
        if new := [item_id for item_id in items if item_id not in met[user_id]]:
            wanted.append(Wanted(user_id, min(new, key=lambda x: _place(seed, user_id, x))))
    own, _ = find_histories(wanted, data, pool, objectives)
    if len(own) < users:
        raise ValueError(
            f"{data.interactions} has {len(own)} held-out users with {data.history_length} liked items, {users} are to be "
            "drawn for; lower --users, or invent a larger world"
        )
    own = own[:users]
    loved = {user_id: frozenset(taste.loved) for user_id, taste in world.tastes.items()}
    return [
        Case(one, UserHistory(stranger.user_id, one.objective, stranger.items))
        for one, stranger in zip(own, choose_strangers(own, loved, seed), strict=True)
    ]


def choose_strangers(own: Sequence[UserHistory], loved: Mapping[str, frozenset], seed: int) -> list[UserHistory]:
    """For each history another one, every one once: with no loved value in common where that can be had.

    Never the user's own, and never one that holds the objective; ValueError where there are too few for that.
    """
    strangers = list(own)
    random.Random(f"strangers {seed}").shuffle(strangers)

    def cost(place: int, other: int) -> int:
        user, stranger = own[place], strangers[other]
        if user.user_id == stranger.user_id or user.objective in stranger.items:
            return NEVER
        return UNWANTED if loved[user.user_id] & loved[stranger.user_id] else 0

    better = True
    while better:
        better = False
        for place in range(len(own)):
            for other in range(len(own)):
                swapped = cost(place, other) + cost(other, place)
                if cost(place, place) and swapped < cost(place, place) + cost(other, other):
                    strangers[place], strangers[other] = strangers[other], strangers[place]
                    better = True
    if any(cost(place, place) == NEVER for place in range(len(own))):
        raise ValueError(f"{len(own)} users are too few to give each the history of another one; raise --users")
    return strangers


def _place(*names: object) -> str:
    """Where something stands in an order of its own for every seed."""
    return xxhash.xxh3_128_hexdigest("\0".join(map(str, names)).encode())
