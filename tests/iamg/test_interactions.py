import csv
from pathlib import Path
from random import Random

import pytest

from iamg.interactions import Interaction, UserHistory, histories, read_history, read_interactions
from iamg.items import read_items

DATA = Path(__file__).parents[3] / "shared" / "data"
EVERYTHING = {f"m{number}" for number in range(100)}


def interactions(tmp_path, *rows, header="user_id,item_id,rating,timestamp"):
    path = tmp_path / "interactions.csv"
    path.write_text("\n".join((header, *rows)), encoding="utf-8")
    return path


@pytest.fixture
def ratings(tmp_path):
    return interactions(
        tmp_path,
        "u1,m5,5,500",
        "u1,m1,4.0,100",
        "u1,m2,3.5,200",
        "u1,m3,,300",
        "u1,m4,5,400",
        "u1,m6,1,600",
        "u2,m1,5,1",
        "u2,m2,5,2",
        "u3,m1,5,1",
    )


def test_objective_is_the_latest_liked_item_and_history_is_before_it(ratings):
    assert read_history(ratings, "u1", EVERYTHING, k=3) == UserHistory("u1", "m5", ("m4", "m3", "m1"))
    assert read_history(ratings, "u1", EVERYTHING, objective="", k=3).objective == "m5"


def test_a_given_objective_cuts_the_history_at_its_time_even_if_disliked(ratings):
    assert read_history(ratings, "u1", EVERYTHING, "m4", k=2).items == ("m3", "m1")
    assert read_history(ratings, "u1", EVERYTHING, "m2", k=1).items == ("m1",)
    assert read_history(ratings, "u1", EVERYTHING, "m6", k=4).items == ("m5", "m4", "m3", "m1")


def test_an_objective_never_met_has_the_whole_history_before_it(ratings):
    assert read_history(ratings, "u1", EVERYTHING, "m77", k=2) == UserHistory("u1", "m77", ("m5", "m4"))


def test_unknown_items_are_left_out(ratings):
    assert read_history(ratings, "u1", {"m1", "m3", "m4"}, k=2) == UserHistory("u1", "m4", ("m3", "m1"))
    assert read_history(ratings, "u1", lambda item: item != "m5", k=1).objective == "m4"


def test_min_rating_decides_what_is_liked(ratings):
    assert read_history(ratings, "u1", EVERYTHING, k=4, min_rating=3.5).items == ("m4", "m3", "m2", "m1")


def test_equal_timestamps_are_ordered_by_line_but_never_earlier(tmp_path):
    path = interactions(tmp_path, "u,m1,5,7", "u,m2,5,7", "u,m3,5,9", "u,m4,5,9")
    assert read_history(path, "u", EVERYTHING, k=2) == UserHistory("u", "m4", ("m2", "m1"))


def test_repeated_interactions_count_once_and_never_the_objective(tmp_path):
    path = interactions(tmp_path, "u,m1,5,1", "u,m2,5,2", "u,m1,5,3", "u,m3,5,4", "u,m3,5,5", "u,m2,5,6")
    assert read_history(path, "u", EVERYTHING, k=2) == UserHistory("u", "m2", ("m3", "m1"))


def test_too_little_history_says_how_much_there_is(ratings):
    message = "user 'u2' has 1 liked items before 'm2', 2 are needed; lower k or choose another user.*u1"
    with pytest.raises(ValueError, match=message):
        read_history(ratings, "u2", EVERYTHING, k=2)
    with pytest.raises(ValueError, match="'u1' has no liked item.*no user has"):
        read_history(ratings, "u1", set())


def test_unknown_user_is_told_users_with_enough(ratings):
    with pytest.raises(ValueError, match="no user 'nobody'; users with enough: u1, u2$"):
        read_history(ratings, "nobody", EVERYTHING, k=1)


def test_rows_that_are_not_finite_numbers_are_skipped(tmp_path):
    rows = ["u,m1,5,1", "u,m2,nan,2", "u,m3,5,nan", "u,m4,5,inf", "u,m5,five,3", "u,m6,5,", "u,m7", ",m8,5,8"]
    path = interactions(tmp_path, *rows, "u,m9,5,9")
    assert read_history(path, "u", EVERYTHING, k=1) == UserHistory("u", "m9", ("m1",))


def test_without_ratings_every_row_is_liked_and_columns_may_be_in_any_order(tmp_path):
    path = interactions(tmp_path, "3,m3,u\r", "\r", "1,m1,u", "2,m2,u", header="\ufefftimestamp,item_id,user_id\r")
    assert read_history(path, "u", EVERYTHING, k=2).items == ("m2", "m1")


@pytest.mark.parametrize("content", [b"", b"user,item\n", b"\xff\xfeu\0", b"user_id;item_id;timestamp\n"])
def test_other_files_are_refused_by_name(tmp_path, content):
    path = tmp_path / "interactions.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="interactions.csv"):
        read_history(path, "u", EVERYTHING)


def test_missing_file_and_k_below_one_are_refused(tmp_path, ratings):
    with pytest.raises(FileNotFoundError, match="none.csv"):
        read_history(tmp_path / "none.csv", "u", EVERYTHING)
    with pytest.raises(ValueError, match="k is 0"):
        read_history(ratings, "u1", EVERYTHING, k=0)


@pytest.mark.parametrize(("name", "min_rating", "enough"), [("movielens_mini", 4.0, 400), ("fashion_mini", 1.0, 8)])
def test_real_histories_agree_with_a_naive_reading(name, min_rating, enough):
    if not (DATA / name).is_dir():
        pytest.skip(f"{DATA / name} is not on this machine")
    path = DATA / name / "interactions.csv"
    known = {item.item_id for item in read_items(DATA / name, lambda *_: None)}
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = 0
    for user in sorted({row["user_id"] for row in rows})[:: 25 if len(rows) > 1000 else 1]:
        liked = [row for row in rows if row["user_id"] == user and float(row["rating"]) >= min_rating]
        last = max((float(row["timestamp"]) for row in liked), default=0)
        naive = [row for row in liked if float(row["timestamp"]) < last]
        try:
            history = read_history(path, user, known, min_rating=min_rating)
        except ValueError:
            assert len(naive) < 5
            continue
        found += 1
        times = {row["item_id"]: float(row["timestamp"]) for row in liked}
        assert times[history.objective] == last
        assert [times[item] for item in history.items] == sorted(float(r["timestamp"]) for r in naive)[:-6:-1]
    assert found >= enough / (25 if len(rows) > 1000 else 1)


def test_all_users_are_read_newest_first_and_skipped_rows_counted(tmp_path):
    path = interactions(tmp_path, "u,m1,5,2", "v,m9,,1", "u,m2,5,3", "u,m3,x,9", "u,m4,1,2", "w,m1,5,")
    users, skipped = read_interactions(path)
    assert {user: [event.item_id for event in events] for user, events in users.items()} == {
        "u": ["m2", "m4", "m1"],
        "v": ["m9"],
    }
    assert skipped == 2


def test_every_liked_item_with_k_before_it_gives_a_history():
    random = Random(0)
    for _ in range(200):
        rows = [(f"m{random.randrange(6)}", random.randrange(8), random.choice([None, 1.0, 5.0])) for _ in range(9)]
        newest_first = [Interaction(*row) for row in sorted(rows, key=lambda row: -row[1])]
        expected = {}
        for item, _, rating in rows:
            if rating != 1.0 and item != "m0":
                met = max(time for other, time, _ in rows if other == item)
                before = {o: t for o, t, r in sorted(rows, key=lambda row: row[1]) if r != 1.0 and t < met}
                before = {o: t for o, t in before.items() if o not in ("m0", item)}
                if len(before) >= 2:
                    expected[item] = sorted(before.values())[:-3:-1]
        found = list(histories("u", newest_first, lambda item: item != "m0", 2, 4.0))
        assert {history.objective for history in found} == expected.keys() and len(found) == len(expected)
        times = {(item, time) for item, time, rating in rows if rating != 1.0}
        for history in found:
            assert all((i, t) in times for i, t in zip(history.items, expected[history.objective], strict=True))
        newest = [max(t for i, t, r in rows if i == h.objective and r != 1.0) for h in found]
        assert newest == sorted(newest, reverse=True)


def test_hostile_rows_are_skipped_and_counted_one_by_one(tmp_path):
    path = tmp_path / "interactions.csv"
    rows = ["u,m1,5,1", "u,m2,NaN,2", f"u,{'x' * 200_000},5,3", "u,m\0" + "3,5,4\r", "u,m4,inf,5", "=1+1,m5,5,6"]
    path.write_text("\ufeffuser_id,item_id,rating,timestamp\r\n" + "\n".join(rows), encoding="utf-8", newline="")
    users, skipped = read_interactions(path)
    assert {user: [event.item_id for event in events] for user, events in users.items()} == {
        "u": ["m3", "m1"],
        "=1+1": ["m5"],
    }
    assert skipped == 3
