"""What a stranger's catalogue may hold: each hazard against the whole command."""

import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from small_datasets import readable_ids, run_import, write_files, write_pictures

from iamg.interactions import read_interactions
from iamg.pictures import open_picture
from iamg_train.datasets.findings import (
    BAD_INTERACTION,
    BAD_PICTURE,
    CONVERTED_PICTURE,
    FORMULA_ID,
    OTHER_ITEM,
    REPEATED_ITEM,
    UNREADABLE_ROW,
    UNUSABLE_ITEM,
)

HEADER = "user_id,item_id,rating,timestamp\n"


@pytest.fixture
def source(tmp_path):
    """A healthy folder: items 0, 1 and 2."""
    folder = write_pictures(tmp_path / "source", "0.jpg", "1.jpg", "2.jpg")
    rows = [{"file_name": f"{number}.jpg", "item_id": str(number), "title": f"Film {number}"} for number in range(3)]
    write_files(folder, metadata_jsonl="".join(json.dumps(row) + "\n" for row in rows))
    return write_files(folder, interactions_csv=HEADER + "u,0,5,1\nu,1,5,2\nv,2,5,3\n")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def add_item(source, **row):
    with (source / "metadata.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def add_interactions(source, text):
    with (source / "interactions.csv").open("a", encoding="utf-8", newline="") as file:
        file.write(text)


def check(imported, out, ids=("0", "1", "2"), interactions=3, **_):
    """Only plain files lie in the folder, everything in it is readable, and nothing was lost."""
    assert imported.ids == readable_ids(out) == list(ids)
    assert len(imported.interactions) == interactions
    files = [path for path in out.rglob("*") if not path.is_dir()]
    assert all(path.is_file() and not path.is_symlink() for path in files)
    pictures = {path for path in files if path.parent == out / "images"}
    assert len(pictures) == len(ids) and len(files) == len(ids) + 3
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.mode == "RGB" and not getattr(picture, "is_animated", False)


def png_header(side):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(999))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [10_001, 60_000])
def test_pictures_of_more_than_100_megapixels(source, out, side):
    (source / "bomb.png").write_bytes(png_header(side))
    add_item(source, file_name="bomb.png", item_id="3")
    imported = run_import("imagefolder", source, out)
    check(imported, out)
    assert imported.count(BAD_PICTURE) == 1 and "bomb.png" in imported.report["found"][BAD_PICTURE]["first"][0]


def test_truncated_pictures_and_other_files_under_their_name(source, out):
    data = (source / "0.jpg").read_bytes()
    for number, content in enumerate((data[: len(data) // 2], b"", b"<svg onload='x'/>"), 3):
        (source / f"{number}.jpg").write_bytes(content)
        add_item(source, file_name=f"{number}.jpg", item_id=str(number))
    imported = run_import("imagefolder", source, out)
    check(imported, out)
    assert imported.count(BAD_PICTURE) == 3


def test_pictures_that_programs_show_differently_become_plain(source, out):
    red = Image.new("RGB", (20, 10), "red")
    turned = red.getexif()
    turned[0x0112] = 6
    red.save(source / "turned.jpg", exif=turned)
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(source / "cmyk.jpg", quality=95)
    Image.fromarray(np.full((4, 4), 128 * 257, np.uint16)).save(source / "deep.png")
    red.save(source / "moving.gif", save_all=True, append_images=[Image.new("RGB", (20, 10), "blue")])
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(source / "clear.png")
    names = ("turned.jpg", "cmyk.jpg", "deep.png", "moving.gif", "clear.png")
    for name in names:
        add_item(source, file_name=name)
    imported = run_import("imagefolder", source, out)
    check(imported, out, ids=("0", "1", "2", "turned", "cmyk", "deep", "moving", "clear"))
    assert imported.report["found"][CONVERTED_PICTURE] == {"count": 5, "first": list(names)}
    pictures = {item["item_id"]: open_picture(out / item["file_name"]) for item in imported.items}
    assert pictures["turned"].size == (10, 20)
    assert np.allclose(pictures["cmyk"].getpixel((8, 8)), (255, 0, 0), atol=25)
    assert pictures["deep"].getpixel((0, 0)) == (128, 128, 128)
    assert pictures["moving"].getpixel((0, 0)) == (255, 0, 0)
    assert pictures["clear"].getpixel((0, 0)) == (255, 255, 255)


def test_paths_and_links_out_of_the_folder(source, out, tmp_path):
    secret = write_pictures(tmp_path, "secret.jpg") / "secret.jpg"
    (source / "link.jpg").symlink_to(secret)
    (source / "loop.jpg").symlink_to("loop.jpg")
    (source / "linked").symlink_to(tmp_path)
    names = ("../secret.jpg", str(secret), "link.jpg", "loop.jpg", "linked/secret.jpg", "..\\secret.jpg", "C:\\a.jpg")
    for name in names:
        add_item(source, file_name=name)
    imported = run_import("imagefolder", source, out)
    check(imported, out)
    assert imported.count(UNUSABLE_ITEM) == len(names)
    assert all("leads out" in example for example in imported.report["found"][UNUSABLE_ITEM]["first"])
    assert not any(path.read_bytes() == secret.read_bytes() for path in (out / "images").iterdir() if path.stem > "2")


def test_linked_posters_stay_behind(tmp_path, out):
    secret = write_pictures(tmp_path, "secret.jpg") / "secret.jpg"
    posters = write_pictures(tmp_path / "posters", "1.jpg")
    (posters / "2.jpg").symlink_to(secret)
    movies = "movieId,title,genres\n1,A (2000),Drama\n2,B (2000),Drama\n"
    source = write_files(
        tmp_path / "ml", movies_csv=movies, ratings_csv="userId,movieId,rating,timestamp\n1,1,5,1\n1,1,5,2\n1,1,5,3\n"
    )
    imported = run_import("movielens", source, out, "--posters", posters)
    check(imported, out, ids=["1"])
    assert imported.count(BAD_PICTURE) == 1


def test_captions_of_10_megabytes(tmp_path, out):
    source = write_pictures(tmp_path / "source", "a.jpg", "b.jpg")
    write_files(source, a_txt="x" * 10_000_000, interactions_csv=HEADER + "u,b,5,1\n")
    imported = run_import("imagefolder", source, out)
    check(imported, out, ids=["b"], interactions=1)
    (example,) = imported.report["found"][UNUSABLE_ITEM]["first"]
    assert "a.jpg" in example and "100000 characters" in example


@pytest.mark.parametrize("rating", ["nan", "NaN", "inf", "-inf", "five", "=1+1"])
def test_ratings_that_are_no_number(source, out, rating):
    add_interactions(source, f"u,2,{rating},9\nu,2,5,{rating}\n")
    imported = run_import("imagefolder", source, out)
    check(imported, out)
    found = imported.report["found"][BAD_INTERACTION]
    assert found["count"] == 2 and found["first"][0] == f"line 5: u, 2, {rating}, 9"


def test_ids_that_are_used_twice(source, out, tmp_path):
    add_item(source, file_name="2.jpg", item_id="1")
    imported = run_import("imagefolder", source, out)
    check(imported, out)
    assert "'1' is already used" in imported.report["found"][UNUSABLE_ITEM]["first"][0]

    movies = "movieId,title,genres\n1,A (2000),Drama\n1 ,B (2000),Drama\n"
    films = write_files(
        tmp_path / "ml", movies_csv=movies, ratings_csv="userId,movieId,rating,timestamp\n1,1,5,1\n1,1,5,2\n1,1,5,3\n"
    )
    imported = run_import("movielens", films, tmp_path / "ml_out", "--posters", source)
    check(imported, tmp_path / "ml_out", ids=["1"])
    assert imported.report["found"][REPEATED_ITEM] == {"count": 1, "first": ["movies.csv, line 3: 1"]}


def test_byte_order_marks_mixed_newlines_and_nul_characters(source, out):
    for name in ("metadata.jsonl", "interactions.csv"):
        lines = (source / name).read_text().splitlines()
        text = "".join(line + end for line, end in zip(lines, ("\r\n", "\n", "\r", "\r\n"), strict=False))
        (source / name).write_text("\ufeff" + text.replace(",1,5", ",1\0,5"), newline="")
    add_item(source, file_name="2.jpg", item_id="3\0", title="two\r\nlines\u2028and\ta tab\0")
    imported = run_import("imagefolder", source, out)
    check(imported, out, ids=("0", "1", "2", "3"))
    assert imported.items[3]["title"] == "two lines and a tab" and imported.report["found"] == {}


def test_ids_that_a_spreadsheet_would_run(source, out):
    formulas = ["=cmd|' /C calc'!A0", "+1+1", "-1", "@SUM(1)", "＝1"]
    for item_id in (*formulas, "'-1"):  # the last one is what -1 becomes
        add_item(source, file_name="0.jpg", item_id=item_id)
    add_interactions(source, "".join(f'"@{user}","{item_id}",5,9\n' for user, item_id in enumerate(formulas)))
    imported = run_import("imagefolder", source, out)
    written = [f"'{item_id}" for item_id in formulas]
    check(imported, out, ids=["0", "1", "2", *written], interactions=8)
    assert imported.count(FORMULA_ID) == 10 and imported.count(REPEATED_ITEM) == 1
    cells = [cell for row in imported.interactions for cell in row.values()]
    assert not any(cell.startswith(tuple("=+-@＝")) for cell in cells)
    users, _ = read_interactions(out / "interactions.csv")
    assert [users[f"'@{number}"][0].item_id for number in range(5)] == written


def test_ids_with_slashes_and_ids_that_only_differ_in_case(source, out):
    ids = ["../../escape", "a/b", "a\\b", "con", ".", "A", "a", "ä" * 200]
    for item_id in ids:
        add_item(source, file_name="0.jpg", item_id=item_id)
    imported = run_import("imagefolder", source, out)
    check(imported, out, ids=["0", "1", "2", *ids])
    names = [item["file_name"] for item in imported.items]
    assert len({name.casefold() for name in names}) == len(names)
    assert all(name.count("/") == 1 and len(name) < 150 for name in names)


def test_ids_of_10000_characters_or_several_lines(source, out):
    for item_id in ("x" * 10_000, "two\nlines", "\x1b[2Jcleared", ""):
        add_item(source, file_name="0.jpg" if item_id else "2.jpg", item_id=item_id)
    add_interactions(source, f'u,{"x" * 10_000},5,9\n{"y" * 10_000},2,5,9\n"u\x1b[2J",2,5,9\n')
    imported = run_import("imagefolder", source, out)
    check(imported, out)
    assert imported.count(UNUSABLE_ITEM) == 4  # the last one takes its file's name, which is an id already
    assert imported.count(OTHER_ITEM) == 1 and imported.count(BAD_INTERACTION) == 2
    examples = [example for kind in imported.report["found"].values() for example in kind["first"]]
    assert all(example.isprintable() and len(example) < 250 for example in examples)


def test_rows_that_are_too_long_too_short_or_not_utf_8(tmp_path, out):
    movies = (
        b"movieId,title,genres\n1,A (2000),Drama\n2,B\n3,Caf\xe9 (2000),Drama\n4," + b"x" * 2_000_000 + b",Drama\n"
        b'5,"' + b"y" * 200_000 + b'",Drama\n6,F (2000),Drama\n'
    )
    source = write_files(
        tmp_path / "ml", ratings_csv="userId,movieId,rating,timestamp\n1,1,5,1\n1,6,5,2\n1,6,5\n2,6,5,3\n2,6,5,4,5\n"
    )
    (source / "movies.csv").write_bytes(movies)
    posters = write_pictures(tmp_path / "posters", *(f"{number}.jpg" for number in range(1, 7)))
    imported = run_import("movielens", source, out, "--posters", posters)
    check(imported, out, ids=["1", "6"])
    assert [example.split(":")[0] for example in imported.report["found"][UNREADABLE_ROW]["first"]] == [
        "movies.csv, line 3",
        "movies.csv, line 5",
        "movies.csv, line 6",
        "ratings.csv, line 4",
        "ratings.csv, line 6",
    ]
    assert "UTF-8" in imported.report["found"][UNUSABLE_ITEM]["first"][0]
