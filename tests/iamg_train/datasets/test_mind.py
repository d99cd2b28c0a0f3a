"""MIND's files as published, turned into a folder of items."""

import pytest
from small_datasets import BEHAVIORS, NEWS, readable_ids, run_import, write_files, write_pictures

from iamg.interactions import read_history
from iamg_train.datasets.findings import NO_PICTURE, OTHER_ITEM, UNREADABLE_ROW


@pytest.fixture
def source(tmp_path):
    return write_files(tmp_path / "mind", news_tsv=NEWS, behaviors_tsv=BEHAVIORS)


@pytest.fixture
def pictures(tmp_path):
    return write_pictures(tmp_path / "pictures", "N1.jpg", "N2.jpg", "N3.jpg")


def test_title_and_abstract_are_the_text(source, pictures, tmp_path):
    imported = run_import("mind", source, tmp_path / "out", "--pictures", pictures)
    assert [(item["file_name"], item["title"], item["text"]) for item in imported.items] == [
        ("images/N1.jpg", "The Brands Queen Elizabeth Swears By", "Shop the notebooks."),
        ("images/N2.jpg", "50 Worst Habits", ""),
        ("images/N3.jpg", "The Cost of Trump's Aid", "Lt. Ivan Molchanets."),
    ]
    assert readable_ids(tmp_path / "out") == ["N1", "N2", "N3"]


def test_clicks_are_interactions_and_the_history_comes_before_them_in_its_order(source, pictures, tmp_path):
    imported = run_import("mind", source, tmp_path / "out", "--pictures", pictures)
    assert [tuple(row.values()) for row in imported.interactions] == [
        ("U13740", "N1", "", "1"),
        ("U13740", "N2", "", "2"),
        ("U13740", "N3", "", "1573463158"),  # 2019-11-11 09:05:58 UTC
        ("U91836", "N2", "", "1573582290"),
        ("U13740", "N3", "", "1573459200"),
    ]
    history = read_history(tmp_path / "out" / "interactions.csv", "U13740", {"N1", "N2", "N3"}, k=2)
    assert history.objective == "N3" and history.items == ("N2", "N1")


def test_a_history_that_grows_is_told_once(tmp_path, pictures):
    rows = "1\tu\t11/15/2019 10:22:32 AM\tN1\tN3-0\n2\tu\t11/15/2019 11:22:32 PM\tN1 N2\tN3-0\n3\tu\t11/16/2019 1:00:00 AM\tN1\tN3-0\n"
    source = write_files(tmp_path / "mind", news_tsv=NEWS, behaviors_tsv=rows)
    imported = run_import("mind", source, tmp_path / "out", "--pictures", pictures)
    assert [(row["item_id"], row["timestamp"]) for row in imported.interactions] == [("N1", "1"), ("N2", "2")]


def test_news_without_a_picture_and_rows_that_are_cut_short_are_counted(tmp_path):
    behaviors = BEHAVIORS + "4\tU1\t11/11/2019\n5\tU1\tyesterday\tN1\tN3-1\n"
    source = write_files(tmp_path / "mind", news_tsv=NEWS + "N4\tnews\n", behaviors_tsv=behaviors)
    urls = write_files(tmp_path, urls_csv="N3,https://example.org/3.jpg\n") / "urls.csv"
    pictures = write_pictures(tmp_path / "pictures", "N1.jpg")
    imported = run_import("mind", source, tmp_path / "out", "--pictures", pictures, "--image-urls", urls)
    assert [(item["item_id"], item.get("image_url")) for item in imported.items] == [
        ("N1", None),
        ("N3", "https://example.org/3.jpg"),
    ]
    assert imported.count(NO_PICTURE) == 1 and imported.count(OTHER_ITEM) == 2 and imported.count(UNREADABLE_ROW) == 3
    first = imported.report["found"][UNREADABLE_ROW]["first"]
    assert [example.split(":")[0] for example in first] == [
        "news.tsv, line 4",
        "behaviors.tsv, line 4",
        "behaviors.tsv, line 5",
    ]


def test_only_the_chosen_users_and_their_news_are_kept(source, pictures, tmp_path):
    imported = run_import("mind", source, tmp_path / "out", "--pictures", pictures, "--max-users", 1)
    assert len({row["user_id"] for row in imported.interactions}) == 1 == imported.report["users"]
    assert set(imported.ids) == {row["item_id"] for row in imported.interactions}
