"""Whom the demo draws for: by the truth about users and posters, two who love other things, and an item with neither."""

import csv

import pytest

from iamg_train.demo_world import SURROUNDINGS, choose_opposites, clearness
from iamg_train.mini.posters import Poster
from iamg_train.mini.world import Taste, invent_world, write_world

K, LIKED = 5, 4.0


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    invented = invent_world(3, items=60, users=400)
    write_world(folder, invented, 3)
    return folder, invented


def test_the_two_love_opposites_and_the_item_is_new_to_both(world):
    folder, truth = world
    objective, users = choose_opposites(folder, K, LIKED)
    loved = [dict(truth.tastes[user].loved) for user in users]
    assert loved[0].keys() == loved[1].keys() <= SURROUNDINGS
    assert all(loved[0][kind] != loved[1][kind] for kind in loved[0])
    poster = truth.posters[objective]
    assert not any(getattr(poster, kind) == value for taste in loved for kind, value in taste.items())
    with open(folder / "interactions.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["user_id"] in users]
    assert objective not in {row["item_id"] for row in rows}
    for user, taste in zip(users, loved, strict=True):
        liked = [row for row in rows if row["user_id"] == user and float(row["rating"]) >= LIKED]
        last = sorted(liked, key=lambda row: -float(row["timestamp"]))[:K]
        assert len(last) == K
        for kind, value in taste.items():  # it can be seen
            assert sum(getattr(truth.posters[row["item_id"]], kind) == value for row in last) >= 2


def test_the_choice_is_the_same_every_time(world):
    assert choose_opposites(world[0], K, LIKED) == choose_opposites(world[0], K, LIKED)


def test_where_nobody_has_so_long_a_history_it_says_what_to_lower(world):
    with pytest.raises(ValueError, match="no two users of opposite tastes with 50 liked items.*--history-length"):
        choose_opposites(world[0], 50, LIKED)


def test_clearness_counts_posters():
    def poster(frame, pattern):
        return Poster("cat", "red", "night", pattern, frame, ("moon",), 0)

    taste = Taste("u", (("frame", "gold"),))
    other = [Poster("tree", "blue", "dawn", "plain", "gold", ("kite",), 0), Poster("fish", "white", "ocean", "wavy", "gold", ("leaf",), 0)]  # fmt: skip
    assert clearness(taste, other) == (1, 2)  # two golden, everything else once
    assert clearness(taste, [*other, poster("black", "plain"), poster("black", "plain")]) == (2 - 3, 2)  # plain thrice
