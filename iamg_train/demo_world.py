"""The demo's catalogue, a small mini world, and whom to draw for in it: two users of opposite tastes, and an item."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from iamg.interactions import read_interactions
from iamg_train.mini.posters import VALUES, Poster
from iamg_train.mini.world import Taste, invent_world, read_world, write_world

SEED, ITEMS, USERS = 11, 1200, 600  # training draws another world
SURROUNDINGS = {"setting", "pattern", "frame"}
"""What fills most of a poster, and may change while its subject stays what it is."""


def draw_catalogue(folder: Path) -> None:
    """One that is there already is left as it is."""
    write_world(folder, invent_world(SEED, ITEMS, USERS), SEED)


def choose_opposites(catalogue: Path, k: int, min_rating: float) -> tuple[str, list[str]]:
    """An item, and two users who love other surroundings, none of which it has; neither user has met it.

    Of all such users they are the two whose last k liked items show most clearly what they love. Nothing that the
    method finds or draws is looked at. ValueError where there are no such users, or there is no such item.
    """
    world, (met, _) = read_world(catalogue), read_interactions(catalogue / "interactions.csv")
    clear = {}  # by user: how far what they love is ahead of all else on their last items, and on how many it is
    for user_id, events in met.items():
        last = [world.posters[event.item_id] for event in events if event.liked(min_rating)][:k]
        if len(last) == k:
            clear[user_id] = clearness(world.tastes[user_id], last)

    def both(pair: tuple[str, str]) -> tuple[int, int]:
        ahead, shown = zip(*(clear[user_id] for user_id in pair), strict=True)
        return min(ahead), sum(shown)

    pairs = [pair for pair in combinations(clear, 2) if love_opposites(*(world.tastes[user_id] for user_id in pair))]
    for pair in sorted(pairs, key=both, reverse=True):
        known = {event.item_id for user_id in pair for event in met[user_id]}
        for item_id, poster in world.posters.items():
            if item_id not in known and not any(world.tastes[user_id].count(poster) for user_id in pair):
                return item_id, list(pair)
    raise ValueError(
        f"{catalogue} has no two users of opposite tastes with {k} liked items, and an item with nothing of either; lower "
        "--history-length or --min-rating"
    )


def love_opposites(one: Taste, other: Taste) -> bool:
    """Whether both love the same kinds of surroundings, and never the same."""
    kinds = {name for name, _ in one.loved}
    return kinds == {name for name, _ in other.loved} <= SURROUNDINGS and not {*one.loved} & {*other.loved}


def clearness(taste: Taste, posters: Sequence[Poster]) -> tuple[int, int]:
    """By how many posters the rarest loved value is ahead of the commonest other one, and how many have it."""
    counts = {(name, value): sum(x.has(name, value) for x in posters) for name in VALUES for value in VALUES[name]}
    loved = min(counts.pop(value) for value in taste.loved)
    return loved - max(counts.values()), loved
