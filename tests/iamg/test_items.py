import json
from pathlib import Path

import pytest
from PIL import Image

from iamg.items import Item, read_items

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    return tmp_path


def read(folder):
    problems = []
    return list(read_items(folder, lambda name, reason: problems.append((name, reason)))), problems


def jsonl(folder, *rows, name="metadata.jsonl"):
    (folder / name).write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")


@pytest.mark.parametrize(
    ("title", "text", "description"),
    [
        ("Toy Story", "Genres: Comedy.", "Toy Story. Genres: Comedy."),
        ("Theron (1)", "Theron (1). Hoodie.", "Theron (1). Hoodie."),
        ("JAWS", "Jaws: a shark film", "Jaws: a shark film"),
        ("It", "Italian for beginners", "It. Italian for beginners"),
        ("Airplane!", "A comedy", "Airplane! A comedy"),
        ("Jaws", "", "Jaws"),
        ("", "A shark film", "A shark film"),
        ("", "", ""),
    ],
)
def test_description_says_the_title_once(title, text, description):
    assert Item("1", title, text, (), "a.png").description == description


def test_jsonl_rows_become_items(folder):
    jsonl(
        folder,
        {"file_name": "a.png", "item_id": 7, "title": " Jaws ", "text": "Shark", "tags": ["sea", " ", "fish "]},
        {"image": "./b.png", "tags": "sea,  fish,"},
        {"file_name": "c.png", "item_id": None, "title": float("nan"), "tags": float("nan"), "width": 3},
    )
    items, problems = read(folder)
    assert items == [
        Item("7", "Jaws", "Shark", ("sea", "fish"), "a.png"),
        Item("b", "", "", ("sea", "fish"), "b.png"),
        Item("c", "", "", (), "c.png"),
    ]
    assert problems == []


def test_csv_with_byte_order_mark_and_mixed_newlines(folder):
    csv = '\ufefffile_name,item_id,title,text,tags\r\na.png,001,Jaws,"two\nlines","sea, fish"\nb.png,2,Été\r'
    (folder / "metadata.csv").write_bytes(csv.encode())
    items, problems = read(folder)
    assert items == [
        Item("001", "Jaws", "two\nlines", ("sea", "fish"), "a.png"),
        Item("2", "Été", "", (), "b.png"),
    ]
    assert problems == []


def test_parquet_gives_the_same_items_as_jsonl(folder):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow reads parquet; pip install pyarrow")
    from pyarrow import parquet

    rows = [
        {"file_name": "a.png", "item_id": "1", "title": "Jaws", "text": "Shark", "tags": ["sea"]},
        {"file_name": "b.png", "item_id": "2", "title": None, "text": "Duck", "tags": None},
    ]
    jsonl(folder, *rows)
    expected, _ = read(folder)
    (folder / "metadata.jsonl").unlink()
    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "metadata.parquet")
    assert read(folder) == (expected, [])


def test_damaged_parquet_is_refused_by_name(folder):
    pytest.importorskip("pyarrow", reason="pyarrow reads parquet; pip install pyarrow")
    (folder / "metadata.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(ValueError, match="metadata.parquet"):
        read(folder)


def test_bare_pictures_take_the_captions_beside_them(folder):
    (folder / "a.txt").write_bytes("\ufeffA red bus\r\n".encode())
    (folder / "sub").mkdir()
    Image.new("RGB", (2, 2)).save(folder / "sub" / "d.JPG", "JPEG")
    (folder / "._a.png").write_bytes(b"left by another system")
    (folder / "notes.md").write_text("no picture")
    items, problems = read(folder)
    assert [(item.item_id, item.text, item.picture) for item in items] == [
        ("a", "A red bus", "a.png"),
        ("b", "", "b.png"),
        ("c", "", "c.png"),
        ("d", "", "sub/d.JPG"),
    ]
    assert problems == []


def test_unusable_rows_are_reported_and_skipped(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "x.png"
    Image.new("RGB", (2, 2)).save(outside)
    (folder / "link.png").symlink_to(outside)
    lines = [
        json.dumps({"file_name": "a.png", "item_id": "1"}),
        "{broken",
        "[" * 100_000,
        json.dumps(["no", "object"]),
        json.dumps({"title": "no picture"}),
        json.dumps({"file_name": "missing.png"}),
        json.dumps({"file_name": "../a.png"}),
        json.dumps({"file_name": str(outside)}),
        json.dumps({"file_name": "link.png"}),
        json.dumps({"file_name": "b.png", "item_id": "1"}),
        json.dumps({"file_name": "b.png", "text": ["a list"]}),
        json.dumps({"file_name": "b.png", "tags": [1, 2]}),
        json.dumps({"file_name": "b.png", "title": "\ud83d half an emoji"}),
        json.dumps({"file_name": "b.png", "item_id": "2"}),
    ]
    data = "\n".join(lines).encode() + b'\n{"file_name": "c.png", "title": "\xe9t\xe9"}\n'
    (folder / "metadata.jsonl").write_bytes(data)
    items, problems = read(folder)
    assert [item.item_id for item in items] == ["1", "2"]
    assert [name for name, _ in problems] == [f"metadata.jsonl, row {number}" for number in (*range(2, 14), 15)]
    reasons = "\n".join(reason for _, reason in problems)
    for part in ("file_name", "missing.png", "leads out", "'1' is already used", "UTF-8", "tags"):
        assert part in reasons


@pytest.mark.parametrize("content", [None, "", "{}\n", "\ufeff\n\n"])
def test_a_folder_without_items_says_what_was_expected(tmp_path, content):
    if content is not None:
        (tmp_path / "metadata.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="metadata.csv or metadata.parquet with file_name"):
        read(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read(tmp_path / "nowhere")


def test_an_empty_text_is_taken_from_the_descriptions(folder):
    jsonl(
        folder,
        {"file_name": "a.png", "item_id": "1", "title": "Jaws"},
        {"file_name": "b.png", "item_id": "2", "text": "Duck"},
        {"file_name": "c.png", "item_id": "3", "text": " "},
    )
    described = [{"item_id": "1", "text": "old"}, {"item_id": "2", "text": "unused"}, {"item_id": "1", "text": "Shark"}]
    lines = [json.dumps(row) for row in described]
    (folder / "descriptions.jsonl").write_text("\n".join([*lines, '{"item_id": "3", "te']), encoding="utf-8")
    items, problems = read(folder)
    assert [(item.item_id, item.text) for item in items] == [("1", "Shark"), ("2", "Duck"), ("3", "")]
    assert [place for place, _ in problems] == ["descriptions.jsonl, row 4"]


def test_captioned_pictures_take_descriptions_too(folder):
    (folder / "a.txt").write_text("A red bus")
    jsonl(folder, {"item_id": "a", "text": "unused"}, {"item_id": "b", "text": "A duck"}, name="descriptions.jsonl")
    assert [item.text for item in read(folder)[0]] == ["A red bus", "A duck", ""]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"file_name": "x" * 10_000 + ".png"}, "its file_name has 10004 characters, more than the 1000"),
        ({"file_name": "x" * 999}, "does not exist"),
        ({"file_name": "loop.png"}, "leads out"),
        ({"file_name": "b.png", "item_id": "x" * 10_000}, "its item_id has 10000 characters"),
        ({"file_name": "b.png", "item_id": "two\nlines"}, "control characters"),
        ({"file_name": "b.png", "text": "x" * 10_000_000}, "its text has 10000000 characters"),
    ],
)
def test_what_is_far_too_long_or_leads_in_a_circle_is_skipped(folder, row, reason):
    (folder / "loop.png").symlink_to("loop.png")
    jsonl(folder, {"file_name": "a.png", "item_id": "a/b"}, row)
    items, problems = read(folder)
    assert [item.item_id for item in items] == ["a/b"]
    ((place, found),) = problems
    assert place == "metadata.jsonl, row 2" and reason in found and len(found) < 1200


def test_a_caption_that_is_huge_or_lies_elsewhere_is_not_read(folder, tmp_path_factory):
    secret = tmp_path_factory.mktemp("outside") / "secret.txt"
    secret.write_text("a password")
    (folder / "a.txt").symlink_to(secret)
    (folder / "b.txt").write_text("x" * 10_000_000)
    items, problems = read(folder)
    assert [item.item_id for item in items] == ["c"]
    assert [place for place, _ in problems] == ["a.png", "b.png"]
    assert "leads out" in problems[0][1] and "100000 characters" in problems[1][1]


@pytest.mark.parametrize("name", ["metadata.jsonl", "descriptions.jsonl"])
def test_tables_that_lie_elsewhere_are_refused(folder, tmp_path_factory, name):
    outside = tmp_path_factory.mktemp("outside") / "rows.jsonl"
    outside.write_text(json.dumps({"file_name": "a.png", "item_id": "a", "text": "a password"}))
    (folder / name).symlink_to(outside)
    with pytest.raises(ValueError, match=f"{name}.*leads out"):
        read(folder)


@pytest.mark.parametrize(("name", "count"), [("movielens_mini", 488), ("fashion_mini", 330)])
def test_real_catalogues_are_read_whole(name, count):
    if not (DATA / name).is_dir():
        pytest.skip(f"{DATA / name} is not on this machine")
    items, problems = read(DATA / name)
    assert (len(items), problems) == (count, [])
    listed = [json.loads(line) for line in (DATA / name / "items.jsonl").read_text("utf-8").splitlines()]
    assert [(item.item_id, item.title, item.picture) for item in items] == [
        (row["item_id"], row["title"], row["image"]) for row in listed
    ]
    for item in items:
        rest = item.description.removeprefix(item.title)
        assert rest != item.description and not rest.lstrip(" .").startswith(item.title)
