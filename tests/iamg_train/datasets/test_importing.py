"""A new folder, whole or not at all; never in place of another."""

import json
import os
import shutil
from pathlib import Path

import pytest
from small_datasets import MOVIES, RATINGS, read_import, readable_ids, run_import, write_files, write_pictures

from iamg_train.cli import main
from iamg_train.datasets import catalogue

DATA = Path(__file__).parents[4] / "shared" / "data" / "movielens_mini"


@pytest.fixture
def source(tmp_path):
    return write_files(tmp_path / "ml", movies_csv=MOVIES, ratings_csv=RATINGS)


@pytest.fixture
def posters(tmp_path):
    return write_pictures(tmp_path / "posters", "1.jpg", "29.jpg")


@pytest.fixture
def command(source, posters, tmp_path):
    return ["data", "movielens", str(source), "--posters", str(posters), "--out", str(tmp_path / "out")]


def snapshot(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_the_same_command_again_leaves_the_folder_as_it_is(command, tmp_path, capsys):
    assert main(command) == 0
    (tmp_path / "out" / "descriptions.jsonl").write_text("kept")
    before = snapshot(tmp_path / "out")
    capsys.readouterr()
    assert main(command) == 0
    assert snapshot(tmp_path / "out") == before
    told = capsys.readouterr().out
    assert "is there already" in told and "interactions" in told


def test_two_imports_of_the_same_files_are_equal_byte_for_byte(command, tmp_path):
    assert main(command) == 0
    first = {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    shutil.rmtree(tmp_path / "out")
    assert main(command) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == first


@pytest.mark.parametrize("change", ["rows", "poster", "arguments"])
def test_other_files_or_arguments_never_replace_what_is_there(command, source, posters, tmp_path, capsys, change):
    assert main(command) == 0
    before = snapshot(tmp_path / "out")
    if change == "rows":
        (source / "ratings.csv").write_text(RATINGS + "3,1,5,9\n")
    if change == "poster":
        write_pictures(posters, "11.jpg")
    more = ["--max-users", "1"] if change == "arguments" else []
    assert main([*command, *more]) == 2
    assert "made from something else" in capsys.readouterr().err
    assert snapshot(tmp_path / "out") == before


@pytest.mark.parametrize("content", ["notes.txt", "report.json"])
def test_a_foreign_folder_is_left_alone(command, tmp_path, capsys, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / content).write_text("mine")
    assert main(command) == 2
    assert "was not written by this command" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == [content]


def test_an_empty_folder_is_filled_and_a_file_is_not(command, tmp_path):
    (tmp_path / "out").mkdir()
    assert main(command) == 0 and readable_ids(tmp_path / "out") == ["1", "29"]
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").write_text("mine")
    assert main(command) == 2 and (tmp_path / "out").read_text() == "mine"


def test_what_a_killed_import_left_is_begun_anew(command, tmp_path):
    draft = tmp_path / "out.importing"
    (draft / "images").mkdir(parents=True)
    (draft / "unfinished").touch()
    (draft / "metadata.jsonl").write_text('{"file_name": "images/1.j')
    assert main(command) == 0
    assert read_import(tmp_path / "out").ids == ["1", "29"] and not draft.exists()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "images",
        "interactions.csv",
        "metadata.jsonl",
        "report.json",
    ]


def test_a_folder_of_somebody_else_at_the_drafts_place_is_left_alone(command, tmp_path, capsys):
    draft = write_files(tmp_path / "out.importing", notes_txt="mine")
    assert main(command) == 2
    assert "is no unfinished import" in capsys.readouterr().err
    assert (draft / "notes.txt").read_text() == "mine" and not (tmp_path / "out").exists()


def test_an_import_that_breaks_leaves_nothing(command, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(catalogue.csv, "writer", full)
    assert main(command) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ml", "posters"]


@pytest.mark.parametrize("out", ["ml/out", "posters/deep/out"])
def test_out_may_not_lie_in_the_source(command, tmp_path, capsys, out):
    assert main([*command[:-1], str(tmp_path / out)]) == 2
    assert "lie in each other" in capsys.readouterr().err and not (tmp_path / out).exists()


def test_a_table_that_leads_out_of_the_source_is_refused(command, source, tmp_path, capsys):
    (tmp_path / "secret.csv").write_text(RATINGS)
    (source / "ratings.csv").unlink()
    (source / "ratings.csv").symlink_to(tmp_path / "secret.csv")
    assert main(command) == 2
    assert "leads out of" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_missing_source_is_named(tmp_path, capsys):
    for kind in ("movielens", "mind", "pog", "imagefolder"):
        assert main(["data", kind, str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]) == 2
        assert "nowhere" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_any_folder_of_pictures_is_copied_with_its_captions_and_interactions(tmp_path):
    source = write_pictures(tmp_path / "films" / "sub", "a.jpg", "b.jpeg").parent
    write_files(source / "sub", a_txt="A red bus")
    rows = "user_id,item_id,timestamp\nu,a,1\nu,b,2\n"
    imported = run_import("imagefolder", write_files(source, interactions_csv=rows), tmp_path / "out")
    assert imported.items == [
        {"file_name": "images/a.jpg", "item_id": "a", "title": "", "text": "A red bus", "tags": []},
        {"file_name": "images/b.jpg", "item_id": "b", "title": "", "text": "", "tags": []},
    ]
    assert [tuple(row.values()) for row in imported.interactions] == [("u", "a", "", "1"), ("u", "b", "", "2")]


def test_a_folder_without_interactions_gives_none(tmp_path):
    imported = run_import("imagefolder", write_pictures(tmp_path / "films", "a.jpg"), tmp_path / "out")
    assert imported.ids == ["a"] and imported.report["interactions"] == 0
    assert not (tmp_path / "out" / "interactions.csv").exists()


@pytest.mark.slow
def test_the_real_sample_is_copied_whole(tmp_path):
    if not DATA.is_dir():
        pytest.skip(f"{DATA} is not on this machine")
    imported = run_import("imagefolder", DATA, tmp_path / "out")
    films = [json.loads(line) for line in (DATA / "items.jsonl").read_text("utf-8").splitlines()]
    columns = ("item_id", "title", "text", "tags")
    assert [[item[column] for column in columns] for item in imported.items] == [
        [film[column] for column in columns] for film in films
    ]
    assert (tmp_path / "out" / "interactions.csv").read_bytes() == (DATA / "interactions.csv").read_bytes()
    assert imported.report["found"] == {} and imported.report["pictures"] == 488
