"""The drawn catalogue: an item folder like any other, the same bytes from the same seed."""

from collections import Counter

import pytest

from iamg.interactions import read_history
from iamg.items import read_items
from iamg.pictures import open_picture
from iamg_train.demo_catalogue import DEMO_OBJECTIVE, DEMO_USERS, write_catalogue


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "catalogue"
    write_catalogue(folder)
    return folder


def contents(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_seed_writes_the_same_bytes_and_another_does_not(catalogue, tmp_path):
    write_catalogue(tmp_path / "same")
    write_catalogue(tmp_path / "other", seed=1)
    assert contents(tmp_path / "same") == contents(catalogue)
    assert contents(tmp_path / "other").keys() == contents(catalogue).keys()
    assert contents(tmp_path / "other") != contents(catalogue)


def test_it_is_an_item_folder_of_72_different_posters(catalogue):
    problems = []
    items = list(read_items(catalogue, lambda *problem: problems.append(problem)))
    assert len(items) == 72 and not problems
    assert len({item.title for item in items}) == len({item.text for item in items}) == 72
    pictures = [open_picture(catalogue / item.picture) for item in items]
    assert {picture.size for picture in pictures} == {(256, 384)}
    assert len({picture.tobytes() for picture in pictures}) == 72
    assert all(item.text.endswith(".") and len(item.tags) == 5 for item in items)


def test_every_user_has_a_history_before_the_common_objective_and_low_ratings(catalogue):
    known = {item.item_id for item in read_items(catalogue, print)}
    histories = {}
    for user in (*DEMO_USERS, "chiyo"):
        history = read_history(catalogue / "interactions.csv", user, known)
        assert history.objective == DEMO_OBJECTIVE and len(history.items) == 5
        histories[user] = history.items
    assert not set(histories["ada"]) & set(histories["boris"])
    moods = {
        user: Counter(item.split("-")[1] for item in items).most_common(1)[0][0] for user, items in histories.items()
    }
    assert moods == {"ada": "sunny", "boris": "midnight", "chiyo": "meadow"}
    rows = (catalogue / "interactions.csv").read_text().splitlines()[1:]
    assert {len(row.split(",")) for row in rows} == {4} and any(float(row.split(",")[2]) < 4 for row in rows)


def test_a_half_written_catalogue_is_never_taken_for_a_whole_one(tmp_path, monkeypatch):
    monkeypatch.setattr("iamg_train.demo_catalogue._ratings", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_catalogue(tmp_path / "catalogue")
    assert not (tmp_path / "catalogue").exists()
