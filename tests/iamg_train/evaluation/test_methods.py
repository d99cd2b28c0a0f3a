"""Folders of pictures as methods: what a manifest may say, and what is compared with what."""

import json

import pytest
from PIL import Image

from iamg_train.evaluation.methods import in_common, original_item, read_method
from iamg_train.gallery import Gallery, picture_name
from iamg_train.whole_files import file_hash


@pytest.fixture
def folder(tmp_path):
    """Two pictures of one user, and one of another; a picture that no manifest may name lies beside."""
    for name in ("method/a/1.png", "method/a/2.png", "method/b.png", "secret.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    write(tmp_path / "method", *ROWS)
    return tmp_path / "method"


ROWS = (
    {"file": "a/1.png", "user_id": "a", "objective": 7, "history": ["x", 3], "steps": 5, "seed": 0},
    {"file": "a/2.png", "user_id": "a", "objective": "7", "history": ["x", "3"], "steps": 5, "seed": 1},
    {"file": "b.png", "user_id": 12, "objective": "7", "steps": 5, "cfg": 2},
)


def write(folder, *rows):
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    (folder / "manifest.jsonl").write_text("\n".join(lines))


def test_a_manifest_says_whose_pictures_they_are(folder):
    method = read_method("mine", folder)
    assert [(x.file, x.user_id, x.objective, x.history, x.number) for x in method.shots] == [
        (folder / "a/1.png", "a", "7", ("x", "3"), 0),
        (folder / "a/2.png", "a", "7", ("x", "3"), 1),
        (folder / "b.png", "12", "7", (), 0),
    ]
    assert method.settings == {"steps": 5}
    assert method.manifest_hash == file_hash(folder / "manifest.jsonl")
    assert method.pairs() == [("a", "7"), ("12", "7")]
    assert [x.file.name for x in method.only([("12", "7")]).shots] == ["b.png"]
    assert [read_method(name, folder).group for name in ("ours@2", "ours")] == ["ours", "ours"]


def test_what_generate_keeps_is_a_method(tmp_path):
    gallery = Gallery(tmp_path)
    for user in ("../a", "b"):
        settings = {"user_id": user, "objective": "i", "history": ["h"], "variant": "full", "text": user, "seed": 0}
        gallery.add(picture_name(user, "i", 0), Image.new("RGB", (8, 8)), settings)
    gallery.write_manifest()
    method = read_method("ours", tmp_path)
    assert {x.user_id for x in method.shots} == {"../a", "b"} and all(x.file.is_file() for x in method.shots)
    assert method.settings == {"variant": "full"}


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("{", "line 2 is not as expected"),
        ('["a/1.png"]', "line 2 is not as expected"),
        ({"file": "a/2.png", "objective": "7"}, "line 2 is not as expected"),
        ({"file": "a/2.png", "user_id": " ", "objective": "7"}, "line 2 is not as expected"),
        ({"file": "a/2.png", "user_id": True, "objective": "7"}, "line 2 is not as expected"),
        ({"file": 5, "user_id": "a", "objective": "7"}, "line 2 is not as expected"),
        ({"file": "a/2.png", "user_id": "a", "objective": "7", "history": [None]}, "line 2 is not as expected"),
        ({"file": "a/3.png", "user_id": "a", "objective": "7"}, "line 2: there is no picture 'a/3.png'"),
        ({"file": "a", "user_id": "a", "objective": "7"}, "line 2: there is no picture 'a'"),
        ({"file": "x" * 5000, "user_id": "a", "objective": "7"}, "line 2: "),
        ({"file": "../secret.png", "user_id": "a", "objective": "7"}, "line 2: path '../secret.png' leads out of"),
        ({"file": "link.png", "user_id": "a", "objective": "7"}, "line 2: path 'link.png' leads out of"),
        ({"file": "/etc/hostname", "user_id": "a", "objective": "7"}, "line 2: path '/etc/hostname' leads out of"),
        ({"file": "a/1.png", "user_id": "b", "objective": "7"}, "line 2: 'a/1.png' is listed before"),
        ({"file": "a/./1.png", "user_id": "b", "objective": "7"}, "line 2: 'a/./1.png' is listed before"),
        ({"file": "twin.png", "user_id": "b", "objective": "7"}, "line 2: 'twin.png' is listed before"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(folder, row, told):
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    (folder / "twin.png").symlink_to(folder / "a/1.png")
    write(folder, ROWS[0], row)
    with pytest.raises(ValueError) as problem:
        read_method("mine", folder)
    assert told in str(problem.value) and "manifest.jsonl" in str(problem.value)


def test_a_folder_without_a_manifest_is_told_what_one_is(folder):
    write(folder, "", " ")
    with pytest.raises(ValueError, match="lists no picture"):
        read_method("mine", folder)
    (folder / "manifest.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match="method 'mine': .* has no manifest.jsonl; .*user_id"):
        read_method("mine", folder)


def test_the_original_item_has_a_picture_for_each_user_and_objective(folder, tmp_path):
    items = tmp_path / "items"
    items.mkdir()
    Image.new("RGB", (8, 8), "red").save(items / "seven.png")
    (items / "metadata.jsonl").write_text(json.dumps({"file_name": "seven.png", "item_id": "7", "text": "a thing"}))
    like = read_method("mine", folder)
    original = original_item(items, like)
    assert original.name == "original item" and original.pairs() == like.pairs()
    assert [(x.file, x.history, x.number) for x in original.shots] == [
        (items / "seven.png", ("x", "3"), 0),
        (items / "seven.png", (), 0),
    ]
    Image.new("RGB", (8, 8), "blue").save(items / "seven.png")
    assert original_item(items, like).manifest_hash != original.manifest_hash
    (items / "metadata.jsonl").write_text(json.dumps({"file_name": "seven.png", "item_id": "8"}))
    with pytest.raises(ValueError, match="has no item '7' with a picture"):
        original_item(items, like)


def test_compared_is_what_all_have(folder, tmp_path):
    one = read_method("one", folder)
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGB", (8, 8)).save(other / "x.png")
    write(other, {"file": "x.png", "user_id": "12", "objective": "7"})
    assert in_common([one]) == [("a", "7"), ("12", "7")]
    assert in_common([one, read_method("two", other)]) == [("12", "7")]
    write(other, {"file": "x.png", "user_id": "7", "objective": "12"})
    with pytest.raises(ValueError, match="'one', 'two' have no user and objective in common"):
        in_common([one, read_method("two", other)])
