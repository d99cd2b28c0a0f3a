"""Who is trained on and who is held out, against a naive reading of random interactions."""

from random import Random

import pytest

from iamg.interactions import Interaction, UserHistory
from iamg_train.histories import Entry, Split, choose_entries, control_entries

K = 3
SPLIT = Split(0.3)
ITEMS = [f"m{number}" for number in range(40)]


@pytest.fixture(scope="module")
def users():
    random = Random(0)

    def events():
        times = sorted(random.sample(range(1000), random.randrange(1, 15)), reverse=True)
        items = random.sample([*ITEMS, "unknown"], len(times))
        return [Interaction(*row) for row in zip(items, times, random.choices([1.0, 5.0, None], k=99), strict=False)]

    return {f"u{number}": events() for number in range(300)}


def choose(users, limit=10_000, usable=lambda item_id: True, split=SPLIT):
    return choose_entries(users, set(ITEMS), usable, split, K, 4.0, limit)


def naive(user, events, usable):
    """The entry that D15 and the paper's A.1 give one user, or None."""
    liked = [e.item_id for e in events if e.item_id != "unknown" and e.rating != 1.0]  # newest first, all times differ
    if SPLIT.is_test_user(user):
        places = [n for n, item in enumerate(liked) if SPLIT.is_test_item(item) and usable(item)]
    else:
        liked = [item for item in liked if not SPLIT.is_test_item(item)]
        places = [n for n, item in enumerate(liked) if usable(item)]
    if not places or len(liked) - places[0] - 1 < K:
        return None
    split = "test" if SPLIT.is_test_user(user) else "train"
    return Entry(split, UserHistory(user, liked[places[0]], tuple(liked[places[0] + 1 :][:K])))


@pytest.mark.parametrize("broken", [(), ITEMS[::3]])
def test_entries_are_those_of_a_naive_reading(users, broken):
    def usable(item_id):
        return item_id not in broken

    choice = choose(users, usable=usable)
    expected = [entry for user, events in users.items() if (entry := naive(user, events, usable))]
    assert sorted(choice.entries, key=str) == sorted(expected, key=str)
    counts = choice.counts()
    assert counts["train"] > 50 and counts["test"] > 10 and counts["users_beyond_limit"] == 0
    assert counts["train"] + counts["test"] + counts["short_users"] == len(users)


def test_only_possible_objectives_are_opened(users):
    opened = []
    choice = choose(users, usable=lambda item_id: not opened.append(item_id))
    assert opened == [entry.history.objective for entry in choice.entries]


def test_the_limit_takes_the_same_users_whatever_the_files_order(users):
    everyone = choose(users).entries
    names = list(users)
    Random(1).shuffle(names)
    choice = choose({name: users[name] for name in names}, limit=20)
    assert choice.entries == everyone[:20]
    assert choice.short_users + choice.users_beyond_limit + 20 == len(users) and choice.users_beyond_limit > 100
    assert [e.history.user_id for e in everyone[:20]] != [e.history.user_id for e in everyone if e.split == "test"][:20]


def test_the_split_holds_out_its_share_of_users_and_of_items_independently():
    split, names = Split(0.1), [str(number) for number in range(20_000)]
    test_users = {name for name in names if split.is_test_user(name)}
    test_items = {name for name in names if split.is_test_item(name)}
    assert 1850 < len(test_users) < 2150 and 1850 < len(test_items) < 2150
    assert 150 < len(test_users & test_items) < 250
    assert test_users < {name for name in names if Split(0.2).is_test_user(name)}
    assert not any(Split(0.0).is_test_user(name) or Split(0.0).is_test_item(name) for name in names)


def test_a_control_keeps_the_objective_and_takes_the_next_test_users_history():
    def entry(split, user, objective, *items):
        return Entry(split, UserHistory(user, objective, items))

    first, second, third = entry("test", "a", "x", "p"), entry("test", "b", "y", "x"), entry("test", "c", "z", "q")
    trained = entry("train", "t", "p", "q")
    controls = control_entries([first, trained, second, third])
    assert controls == [
        entry("control", "c", "x", "q"),  # b's history holds x itself
        entry("control", "c", "y", "q"),
        entry("control", "a", "z", "p"),
    ]
    assert control_entries([trained, first]) == [entry("control", "t", "x", "q")]
    assert control_entries([trained]) == []
