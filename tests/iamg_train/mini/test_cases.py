"""For whom is drawn: held-out users and items that they never met, and strangers who love other things."""

import csv
from collections import defaultdict

import pytest
from small_mini import write_mini

from iamg.interactions import UserHistory
from iamg.pool import EmbeddingPool
from iamg_train.config import Data
from iamg_train.histories import Split
from iamg_train.mini.cases import choose_cases, choose_strangers
from iamg_train.mini.world import read_world
from iamg_train.objectives import Objectives

RED, NIGHT, GOLD = ("colour", "red"), ("setting", "night"), ("frame", "gold")


def histories(count):
    return [UserHistory(f"u{n}", f"o{n}", (f"a{n}", f"b{n}")) for n in range(count)]


def loves(*values):
    return {f"u{n}": frozenset(value) for n, value in enumerate(values)}


def test_every_history_goes_to_another_user():
    own = histories(30)
    loved = loves(*([RED] for _ in own))  # nothing to choose by
    strangers = choose_strangers(own, loved, seed=0)
    assert sorted(x.user_id for x in strangers) == sorted(x.user_id for x in own)
    assert all(one.user_id != other.user_id for one, other in zip(own, strangers, strict=True))
    assert strangers == choose_strangers(own, loved, seed=0) != choose_strangers(own, loved, seed=1)


def test_strangers_share_no_loved_value_where_that_can_be():
    own = histories(40)
    loved = loves(*([RED, NIGHT] if n % 2 else [GOLD] for n in range(40)))
    for seed in range(5):
        strangers = choose_strangers(own, loved, seed)
        assert not any(loved[a.user_id] & loved[b.user_id] for a, b in zip(own, strangers, strict=True))


def test_no_history_holds_the_objective():
    own = histories(4)
    own[0] = UserHistory("u0", "o0", ("a0", "o1"))  # user 0 has met the objectives of 1 and 2
    own[3] = UserHistory("u3", "o3", ("o2", "a3"))
    loved = loves(*([RED] for _ in own))
    for seed in range(10):
        strangers = choose_strangers(own, loved, seed)
        assert all(one.objective not in other.items for one, other in zip(own, strangers, strict=True))


def test_too_few_users_for_strangers_are_refused():
    with pytest.raises(ValueError, match="1 users are too few"):
        choose_strangers(histories(1), loves([RED]), seed=0)
    own = [UserHistory("u0", "o0", ("o1",)), UserHistory("u1", "o1", ("a",))]
    with pytest.raises(ValueError, match="2 users are too few .* raise --users"):
        choose_strangers(own, loves([RED], [GOLD]), seed=0)


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    return write_mini(tmp_path_factory.mktemp("mini"))


@pytest.fixture
def choose(mini):
    def choose(users, seed=0):
        data = Data(
            items=mini["world"],
            interactions=mini["world"] / "interactions.csv",
            pool=mini["pool"],
            scenario="mini poster",
        )
        with EmbeddingPool.open(mini["pool"]) as pool:
            objectives = Objectives(data.items, pool)
            return choose_cases(data, read_world(mini["world"]), pool, objectives, Split(0.1), users, seed)

    return choose


def test_cases_are_held_out_users_with_their_last_liked_items_before_a_new_held_out_item(choose, mini):
    rows = defaultdict(list)
    with (mini["world"] / "interactions.csv").open() as file:
        for row in csv.DictReader(file):
            rows[row["user_id"]].append(row)
    last_liked = {
        user_id: tuple(x["item_id"] for x in sorted(mine, key=lambda x: -int(x["timestamp"])) if int(x["rating"]) >= 4)[
            :5
        ]
        for user_id, mine in rows.items()
    }
    split = Split(0.1)
    able = {user_id for user_id, items in last_liked.items() if len(items) == 5 and split.is_test_user(user_id)}
    cases = choose(len(able))
    assert {case.own.user_id for case in cases} == able and len(able) >= 4
    for case in cases:
        assert case.own.items == last_liked[case.own.user_id]
        assert case.other.items == last_liked[case.other.user_id] and case.other.user_id != case.own.user_id
        assert case.other.objective == case.own.objective
        assert split.is_test_item(case.own.objective)
        assert case.own.objective not in {x["item_id"] for x in rows[case.own.user_id]}


def test_fewer_cases_are_the_first_of_more(choose):
    few, more = choose(3), choose(4)
    assert [x.own for x in few] == [x.own for x in more[:3]]
    assert [x.own for x in choose(4, seed=1)] != [x.own for x in more]


def test_more_users_than_there_are_are_refused(choose):
    with pytest.raises(ValueError, match=r"has 5 held-out users with 5 liked items, 500 are .* lower --users"):
        choose(500)
