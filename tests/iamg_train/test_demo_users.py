"""Two users of differing tastes and an item both liked, out of an interactions file."""

import pytest

from iamg_train.demo_users import choose_histories

TAGS = {"s": "sunny", "d": "dark"}


def interactions(path, rows):
    path.write_text("user_id,item_id,rating,timestamp\n" + "".join(f"{u},{i},{r},{t}\n" for u, i, r, t in rows))
    return path


def liked(user, *items):
    return [(user, item, 5, time) for time, item in enumerate(items)]


def choose(path, users=None, objective=None, k=2, known=lambda item: True):
    histories = choose_histories(path, known, lambda item: frozenset([TAGS[item[0]]]), users, objective, k, 4.0)
    return {history.user_id: (history.objective, history.items) for history in histories}


@pytest.fixture
def three_users(tmp_path):
    rows = [*liked("ann", "s1", "s2", "x"), *liked("ben", "s3", "s4", "x"), *liked("cy", "d1", "d2", "x")]
    return interactions(tmp_path / "interactions.csv", [*rows, ("dee", "x", 5, 9), ("dee", "s1", 1, 1)])


def test_the_two_users_share_an_item_and_as_few_tags_as_possible(three_users):
    chosen = choose(three_users)
    assert set(chosen) in ({"ann", "cy"}, {"ben", "cy"})
    assert {objective for objective, _ in chosen.values()} == {"x"}
    assert chosen["cy"] == ("x", ("d2", "d1"))


def test_given_users_get_the_given_objective_or_their_own_latest(three_users):
    assert choose(three_users, users=["ben"]) == {"ben": ("x", ("s4", "s3"))}
    assert choose(three_users, users=["ben", "cy"], objective="s4", k=1) == {
        "ben": ("s4", ("s3",)),
        "cy": ("s4", ("x",)),
    }


def test_items_that_the_pool_lacks_count_for_nobody(three_users):
    with pytest.raises(ValueError, match="no two users who liked one item and 2 items before it"):
        choose(three_users, known=lambda item: item != "x")


def test_no_two_users_is_an_error_that_says_what_to_change(three_users):
    with pytest.raises(ValueError, match="no two users who liked item 'd1' and 2 items.*--history-length"):
        choose(three_users, objective="d1")
    with pytest.raises(ValueError, match="user 'dee' has 0 liked items"):
        choose(three_users, users=["dee"])
