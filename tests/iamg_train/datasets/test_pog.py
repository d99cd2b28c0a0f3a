"""POG's files as published, turned into a folder of items."""

import pytest
from small_datasets import CLICKS, CLOTHES, OUTFITS, readable_ids, run_import, write_files, write_pictures

from iamg.interactions import read_history
from iamg_train.datasets.findings import NO_PICTURE, OTHER_ITEM, UNKNOWN_OUTFIT


@pytest.fixture
def source(tmp_path):
    return write_files(tmp_path / "pog", item_data_txt=CLOTHES, outfit_data_txt=OUTFITS, user_data_txt=CLICKS)


def test_clothes_with_an_address_become_items_to_be_downloaded(source, tmp_path):
    imported = run_import("pog", source, tmp_path / "out")
    assert imported.items == [
        {"file_name": "images/f6a0.jpg", "item_id": "f6a0", "title": "Summer dress, with dots", "text": "", "tags": [],
         "image_url": "https://img.alicdn.com/imgextra/i1/a.jpg"},
        {"file_name": "images/0c3b.jpg", "item_id": "0c3b", "title": "White shoes", "text": "", "tags": [],
         "image_url": "http://img.alicdn.com/b.jpg"},
        {"file_name": "images/77ff.jpg", "item_id": "77ff", "title": "复古手提包", "text": "", "tags": [],
         "image_url": "https://img.alicdn.com/c.jpg"},
    ]  # fmt: skip
    assert imported.report["to_download"] == 3 and imported.report["pictures"] == 0
    assert imported.count(NO_PICTURE) == 1


def test_pictures_that_are_there_need_no_download(source, tmp_path):
    pictures = write_pictures(tmp_path / "pictures", "f6a0.jpg", "0c3b.jpg", "77ff.jpg", "1d2e.jpg")
    imported = run_import("pog", source, tmp_path / "out", "--pictures", pictures)
    assert imported.report["to_download"] == 0 and len(readable_ids(tmp_path / "out")) == 4


def test_an_outfits_pieces_are_clicked_together_after_the_items_before(source, tmp_path):
    imported = run_import("pog", source, tmp_path / "out")
    assert [tuple(row.values()) for row in imported.interactions] == [
        ("u1", "f6a0", "", "1"),
        ("u1", "77ff", "", "3"),
        ("u1", "0c3b", "", "3"),
        ("u2", "0c3b", "", "1"),
        ("u2", "77ff", "", "2"),
        ("u2", "f6a0", "", "3"),
        ("u2", "f6a0", "", "4"),
        ("u1", "0c3b", "", "4"),
    ]
    assert imported.count(OTHER_ITEM) == 1 and imported.count(UNKNOWN_OUTFIT) == 1


def test_the_objective_is_a_piece_of_the_outfit_and_its_history_none_of_it(tmp_path):
    source = write_files(
        tmp_path / "pog", item_data_txt=CLOTHES, outfit_data_txt=OUTFITS, user_data_txt="u1,f6a0,o1\nu2,0c3b;77ff,o2\n"
    )
    run_import("pog", source, tmp_path / "out")
    known = {"f6a0", "0c3b", "77ff"}
    history = read_history(tmp_path / "out" / "interactions.csv", "u1", known, k=1)
    assert history.objective == "0c3b" and history.items == ("f6a0",)
    history = read_history(tmp_path / "out" / "interactions.csv", "u2", known, k=2)
    assert history.objective == "f6a0" and history.items == ("77ff", "0c3b")


def test_only_what_the_chosen_users_met_is_kept(source, tmp_path):
    imported = run_import("pog", source, tmp_path / "out", "--max-users", 1)
    assert imported.report["users"] == 1
    assert set(imported.ids) == {row["item_id"] for row in imported.interactions}
