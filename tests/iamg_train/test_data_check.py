"""What a check of a catalogue tells, and what `data prepare` is told by a run's settings."""

import json
from argparse import Namespace
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from iamg_train import data_commands
from iamg_train.config import load_config
from iamg_train.data_check import check

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def items(tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    rows = []
    for number in range(8):
        Image.new("RGB", (8, 12), (number, 0, 0)).save(folder / f"{number}.png")
        text = "too short" if number < 2 else "a film about a fox"
        rows.append({"file_name": f"{number}.png", "item_id": f"m{number}", "text": text, "tags": ["x"][: number % 2]})
    rows.append({"file_name": "gone.png", "item_id": "gone"})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "7.png").write_bytes((folder / "7.png").read_bytes()[:40])
    return folder


def interactions(folder, *rows):
    path = folder / "interactions.csv"
    path.write_text("\n".join(("user_id,item_id,rating,timestamp", *rows)))
    return path


def likes(user, *numbers):
    return [f"{user},m{number},5,{time}" for time, number in enumerate(numbers)]


def test_items_and_users_are_counted(items):
    rows = [*likes("a", *range(6)), *likes("b", 7, 0, 1), *likes("c", 99), "c,m1,2,5", "c,m2,,", *likes("d", *range(7))]
    report = check(items, interactions(items, *rows))
    assert (report.items, report.short_texts, report.without_tags) == (7, 2, 4)
    names, reasons = zip(*report.problems, strict=True)
    assert (
        names == ("metadata.jsonl, row 9", "m7") and "gone.png does not exist" in reasons[0] and "7.png" in reasons[1]
    )
    users = report.users
    assert (users.interactions, users.skipped_rows, users.unknown_items) == (18, 1, 2)  # m7 is not readable
    assert users.lengths == Counter({5: 1, 1: 1, 0: 1, 6: 1})
    assert report.entries == 2 and report.usable
    assert check(items, items / "interactions.csv", k=6).entries == 1


def run(items, given=None, k=5):
    return data_commands.check(Namespace(items=items, interactions=given, history_length=k, min_rating=4.0))


def test_the_check_names_problems_and_shows_users_by_history_length(items, capsys):
    interactions(items, *likes("a", *range(6)), *likes("b", 0, 1))
    assert run(items) == 0
    told = capsys.readouterr().out
    assert "2 items cannot be used" in told and "gone.png" in told and "m7" in told
    rows = [[cell.strip() for cell in line.split("│")] for line in told.splitlines() if "│" in line]
    shown = {row[0]: row[1] for row in rows}
    assert (shown["0"], shown["1"], shown["4"], shown["5 to 9"], shown["100 or more"]) == ("0", "1", "0", "1", "0")
    assert "with k = 5: 1 users give an entry" in told


def test_ten_problems_are_named_and_the_others_counted(items, capsys):
    for path in items.glob("*.png"):
        path.unlink()
    for number in range(12):
        (items / f"{number}.jpg").write_bytes(b"no picture")
    (items / "metadata.jsonl").unlink()
    assert run(items) == 1
    told = capsys.readouterr().out
    assert "12 items cannot be used" in told and "and 2 more" in told and "nothing here can be trained on" in told


@pytest.mark.parametrize(("rows", "status"), [(likes("a", *range(6)), 0), (likes("a", *range(5)), 1), ([], 1)])
def test_the_status_says_whether_anyone_gives_an_entry(items, tmp_path, rows, status):
    assert run(items, interactions(tmp_path, *rows)) == status


def test_without_interactions_only_items_are_checked(items, capsys):
    assert run(items) == 0
    assert "give --interactions FILE" in capsys.readouterr().out


def test_an_empty_folder_is_a_problem_and_a_missing_one_an_error(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty") == 1
    assert "has no usable item" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="nobody.csv"):
        run(tmp_path / "empty", tmp_path / "nobody.csv")


@pytest.mark.parametrize(("name", "min_rating", "items", "entries"), [("fashion_mini", 1.0, 330, 8)])
def test_a_real_catalogue_is_whole(name, min_rating, items, entries):
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not on this machine")
    report = check(folder, folder / "interactions.csv", min_rating=min_rating)
    assert (report.items, report.problems, report.entries) == (items, [], entries)


def test_prepare_is_given_the_runs_settings_with_the_flags_over_them(tmp_path, monkeypatch):
    (tmp_path / "run.toml").write_text(
        """
        [data]
        items = "films"
        pool = "pools/films"
        history_length = 4
        top_k = 7
        foreground = "masks"
        masks = "cut"
        [model]
        checkpoint = "sd15.safetensors"
        clip_vision = "vision.safetensors"
        ip_adapter = "adapter.safetensors"
        [train]
        device = "cpu"
        """
    )
    given = []
    monkeypatch.setattr(data_commands, "prepare_data", lambda *arguments: given.append(arguments))
    arguments = Namespace(config=tmp_path / "run.toml", top_k=9, prepared=tmp_path / "elsewhere")
    assert data_commands.prepare(arguments) == 0
    ((data, checkpoint, device),) = given
    assert (checkpoint, device) == (tmp_path / "sd15.safetensors", "cpu")
    assert (data.items, data.prepared, data.top_k) == (tmp_path / "films", tmp_path / "elsewhere", 9)
    assert (data.history_length, data.foreground, data.masks) == (4, "masks", tmp_path / "cut")
    assert load_config(tmp_path / "run.toml").data.top_k == 7
