"""MovieLens' files as published, turned into a folder of items."""

import csv
import json
import re
from pathlib import Path

import pytest
from small_datasets import (
    FILMS_1M,
    LINKS,
    MOVIES,
    RATINGS,
    RATINGS_1M,
    TAGS,
    readable_ids,
    run_import,
    write_files,
    write_pictures,
)

from iamg.interactions import read_interactions
from iamg_train.cli import main
from iamg_train.datasets.findings import BAD_ADDRESS, NO_PICTURE, OTHER_ITEM
from iamg_train.datasets.movielens import readable_title
from iamg_train.histories import Split, choose_entries

DATA = Path(__file__).parents[4] / "shared" / "data" / "movielens_mini"


@pytest.fixture
def source(tmp_path):
    return write_files(tmp_path / "ml", movies_csv=MOVIES, ratings_csv=RATINGS, links_csv=LINKS, tags_csv=TAGS)


@pytest.fixture
def posters(tmp_path):
    return write_pictures(tmp_path / "posters", "1.jpg", "29.jpeg", "171749.jpg")


@pytest.mark.parametrize(
    ("published", "title"),
    [
        ("Toy Story (1995)", "Toy Story"),
        ("Fugitive, The (1993)", "The Fugitive"),
        ("Bug's Life, A (1998)", "A Bug's Life"),
        ("Avventura, L' (L'Avventura) (1960)", "L'Avventura (L'Avventura)"),
        ("City of Lost Children, The (Cité des enfants perdus, La) (1995)", "The City of Lost Children (La Cité des enfants perdus)"),
        ("Good, the Bad and the Ugly, The (Buono, il brutto, il cattivo, Il) (1966)", "The Good, the Bad and the Ugly (Il Buono, il brutto, il cattivo)"),
        ("Sex, Lies, and Videotape (1989)", "Sex, Lies, and Videotape"),
        ("Death Note: Desu nôto (2006–2007)", "Death Note: Desu nôto"),
        ("Fawlty Towers (1975- )", "Fawlty Towers"),
        ("2001: A Space Odyssey (1968)", "2001: A Space Odyssey"),
        ("(500) Days of Summer (2009) ", "(500) Days of Summer"),
        ("1984", "1984"),
    ],
)  # fmt: skip
def test_titles_lose_their_year_and_their_article_comes_first(published, title):
    assert readable_title(published) == title


def test_films_with_posters_become_items(source, posters, tmp_path):
    imported = run_import("movielens", source, tmp_path / "out", "--posters", posters)
    text = "Genres: Adventure, Animation, Children, Comedy, Fantasy. User tags: pixar, fun, zany, but good."
    assert imported.items == [
        {"file_name": "images/1.jpg", "item_id": "1", "title": "Toy Story", "text": text, "tags": ["pixar", "fun", "zany, but good"]},
        {"file_name": "images/29.jpg", "item_id": "29", "title": "The City of Lost Children (La Cité des enfants perdus)",
         "text": "Genres: Adventure, Drama.", "tags": []},
        {"file_name": "images/171749.jpg", "item_id": "171749", "title": "Death Note: Desu nôto", "text": "", "tags": []},
    ]  # fmt: skip
    assert readable_ids(tmp_path / "out") == ["1", "29", "171749"]
    assert (tmp_path / "out" / "images" / "29.jpg").read_bytes() == (posters / "29.jpeg").read_bytes()
    assert [tuple(row.values()) for row in imported.interactions] == [
        ("1", "1", "4.0", "964982703"),
        ("2", "29", "5.0", "1445714835"),
        ("2", "1", "0.5", "1445714800"),
    ]
    assert imported.report["users"] == 2 and imported.report["interactions"] == 3
    assert imported.count(NO_PICTURE) == 1 and imported.count(OTHER_ITEM) == 1


@pytest.mark.parametrize(
    ("whose", "names"),
    [("imdb", ("tt0114709.jpg", "0112346.jpg", "112682.png.jpg")), ("imdb", ("114709.jpg", "tt0112346.JPG")), ("tmdb", ("862.jpg", "9087.jpg", "1.jpg"))],
)  # fmt: skip
def test_posters_may_be_named_by_other_ids(source, tmp_path, whose, names):
    posters = write_pictures(tmp_path / "posters", *names)
    imported = run_import("movielens", source, tmp_path / "out", "--posters", posters, "--posters-by", whose)
    assert imported.ids == ["1", "11"]


@pytest.mark.parametrize("header", ["movieId,url\n", ""])
def test_addresses_make_items_to_be_downloaded(source, tmp_path, header):
    urls = write_files(
        tmp_path,
        urls_csv=header + "1,https://m.media-amazon.com/1.jpg\n11,//example.org/a b.jpg\n29,file:///etc/passwd\n",
    )
    posters = write_pictures(tmp_path / "posters", "171749.jpg")
    more = ("--posters", posters, "--image-urls", urls / "urls.csv")
    imported = run_import("movielens", source, tmp_path / "out", *more)
    assert [(item["file_name"], item.get("image_url")) for item in imported.items] == [
        ("images/1.jpg", "https://m.media-amazon.com/1.jpg"),
        ("images/171749.jpg", None),
    ]
    assert imported.report["to_download"] == 1 and imported.report["pictures"] == 1
    assert imported.count(BAD_ADDRESS) == 2


def test_the_1m_files_are_latin_1_and_split_by_two_colons(tmp_path):
    source = write_files(tmp_path / "ml-1m", ratings_dat=RATINGS_1M, users_dat="1::F::1::10::48067\n")
    (source / "movies.dat").write_bytes(FILMS_1M.encode("latin-1"))
    imported = run_import(
        "movielens", source, tmp_path / "out", "--posters", write_pictures(tmp_path / "p", "1.jpg", "2.jpg")
    )
    assert [(item["title"], item["text"]) for item in imported.items] == [
        ("Toy Story", "Genres: Animation, Children's, Comedy."),
        ("Les Misérables", "Genres: Drama, Musical."),
    ]
    assert [tuple(row.values()) for row in imported.interactions] == [
        ("1", "1", "5", "978824268"),
        ("1", "2", "3", "978302109"),
        ("2", "2", "4", "978299000"),
    ]


def test_the_users_kept_are_those_that_entries_are_taken_from(tmp_path):
    rows = [
        f"{user},{(user * 7 + time * 3) % 20},{3 + (user + time) % 3},{time}" for user in range(60) for time in range(9)
    ]
    films = [f"{film},Film {film} (2000),Drama" for film in range(20)]
    source = write_files(
        tmp_path / "ml",
        movies_csv="\n".join(("movieId,title,genres", *films)),
        ratings_csv="\n".join(("userId,movieId,rating,timestamp", *rows)),
    )
    posters = write_pictures(tmp_path / "posters", *(f"{film}.jpg" for film in range(20)))

    def entries(out: str, *more: object):
        imported = run_import("movielens", source, tmp_path / out, "--posters", posters, *more)
        users, _ = read_interactions(tmp_path / out / "interactions.csv")
        known = {str(film) for film in range(20)}
        chosen = choose_entries(users, known, lambda item_id: True, Split(0.0), 3, 4.0, max_entries=5)
        return imported, chosen.entries

    whole, from_all = entries("all")
    small, from_some = entries("some", "--max-users", 8)
    assert from_some == from_all and len(from_all) == 5
    assert small.report["users"] == 8 and whole.report["users"] == 60
    assert set(small.ids) == {row["item_id"] for row in small.interactions}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no ratings.csv and no ratings.dat"),
        ({"ratings_csv": RATINGS}, "has no movies.csv"),
        ({"ratings_csv": RATINGS, "movies_csv": "id,title\n1,x\n"}, "movies.csv has no column 'movieId'"),
        ({"ratings_csv": "user,item\n1,1\n", "movies_csv": MOVIES}, "ratings.csv has no column 'userId'"),
        ({"ratings_csv": RATINGS, "movies_csv": MOVIES}, "no item of .* can be used: 4 items without a picture"),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_left(tmp_path, capsys, files, message):
    source = write_files(tmp_path / "ml", **files)
    more = [] if "picture" in message else ["--posters", str(write_pictures(tmp_path / "posters", "1.jpg"))]
    assert main(["data", "movielens", str(source), "--out", str(tmp_path / "out"), *more]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert sorted(path.name for path in tmp_path.iterdir()) == (["ml"] if not more else ["ml", "posters"])


@pytest.mark.slow
def test_the_real_sample_comes_back_from_its_reconstructed_files(tmp_path):
    if not DATA.is_dir():
        pytest.skip(f"{DATA} is not on this machine")
    films = [json.loads(line) for line in (DATA / "items.jsonl").read_text("utf-8").splitlines()]
    ratings = (DATA / "interactions.csv").read_text("utf-8")
    source = write_files(tmp_path / "ml", ratings_csv=ratings.replace("user_id,item_id", "userId,movieId", 1))
    with (source / "movies.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [(film["item_id"], f"{film['title']} ({film['year']})", "|".join(film["genres"])) for film in films]
        csv.writer(file).writerows([("movieId", "title", "genres"), *rows])
    with (source / "tags.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [(1, film["item_id"], tag, 1) for film in films for tag in film["tags"]]
        csv.writer(file).writerows([("userId", "movieId", "tag", "timestamp"), *rows])
    imported = run_import("movielens", source, tmp_path / "out", "--posters", DATA / "images")
    assert imported.report["found"] == {}
    assert (tmp_path / "out" / "interactions.csv").read_text("utf-8") == ratings
    assert imported.ids == readable_ids(tmp_path / "out") == [film["item_id"] for film in films]
    for item, film in zip(imported.items, films, strict=True):
        assert sorted(item["tags"]) == sorted(film["tags"])
        assert sorted(re.findall(r"\w+", item["title"])) == sorted(re.findall(r"\w+", film["title"]))
        assert item["text"].startswith(film["text"].split(" User tags")[0])
