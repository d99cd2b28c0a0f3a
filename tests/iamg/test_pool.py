import json
import os
import shutil
import sqlite3

import numpy as np
import pytest
from PIL import Image

from iamg import pool_files
from iamg.items import Item
from iamg.pool import EmbeddingPool, LeaveOut
from iamg.pool_builder import build_pool
from iamg.scenarios import Scenario
from iamg.tagging import ItemTags

COUNT = 60
RNG = np.random.default_rng(0)
TEXTS = RNG.standard_normal((COUNT, 12))
PICTURES = RNG.standard_normal((COUNT, 16))
PICTURES[20:23] = PICTURES[10]  # three copies of item 10's picture
PICTURES[30] = PICTURES[10] + 0.05 * RNG.standard_normal(16)  # and one that is nearly it


class TableEncoders:
    """Item n's text says n, its picture has the colour n: the embeddings are rows of the tables above."""

    crop = "pad"

    def encode_texts(self, texts):
        return np.stack([TEXTS[int(text)] if text.isdigit() else np.ones(12) for text in texts])

    def encode_images(self, images):
        return np.stack([PICTURES[image.getpixel((0, 0))[0]] for image in images])

    def fit_text(self, text):
        return text


class NoTags:
    name, parameters = "none", {}

    def tag(self, images, texts, scenario):
        return [ItemTags()] * len(images)


def make_pool(folder, path, **options):
    items = []
    for number in range(COUNT):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / f"{number}.png")
        items.append(Item(f"i{number}", "", str(number), ("tag, ünï",), f"{number}.png"))
    scenario = Scenario("test", "test poster", "", "", 8)
    build_pool(path, items, folder, TableEncoders(), NoTags(), scenario, **options)


@pytest.fixture(scope="module", params=["exact", "ivf"])
def built(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("items")
    make_pool(folder, folder / "pool" / "tiny", exact_limit=1000 if request.param == "exact" else 10)
    return folder / "pool" / "tiny"


@pytest.fixture
def pool(built):
    with EmbeddingPool.open(built) as pool:
        yield pool


@pytest.fixture
def copy(tmp_path, built):
    return shutil.copytree(built, tmp_path / "copied")


def brute_force(vectors, query, k, left_out=()):
    """Rows by cosine with the stored float16 rows."""
    rows = [vector.astype(np.float64) for vector in vectors]
    cosine = {row: float((rows[row] * query).sum() / np.linalg.norm(query)) for row in range(len(rows))}
    return sorted((row for row in cosine if row not in left_out), key=lambda row: (-round(cosine[row], 9), row))[:k]


def found_rows(neighbours):
    return [neighbour.item.row for neighbour in neighbours]


def test_searches_agree_with_brute_force(pool):
    for query in 7 * np.random.default_rng(1).standard_normal((20, 12)):
        assert found_rows(pool.search_text(query, 5)) == brute_force(pool.text_vectors, query, 5)
    for query in (*np.random.default_rng(1).standard_normal((20, 16)), PICTURES[10]):
        neighbours = pool.search_image(query.astype(np.float32), 5)
        assert found_rows(neighbours) == brute_force(pool.image_vectors, query, 5)
        cosines = [
            np.dot(PICTURES[n.item.row], query) / np.linalg.norm(PICTURES[n.item.row]) / np.linalg.norm(query)
            for n in neighbours
        ]
        assert [n.similarity for n in neighbours] == pytest.approx(cosines, abs=1e-3)


def test_the_objective_and_its_near_duplicates_are_left_out_of_both_searches(pool):
    embeds = 3 * PICTURES[10]
    by_id = LeaveOut("i10")
    by_both = LeaveOut("i10", embeds)
    copies = LeaveOut("i10", embeds, near_duplicate=0.9999)
    for search, vectors, query in (
        (pool.search_image, pool.image_vectors, PICTURES[10]),
        (pool.search_text, pool.text_vectors, TEXTS[21]),
    ):
        assert found_rows(search(query, 6)) == brute_force(vectors, query, 6)
        assert found_rows(search(query, 6, by_id)) == brute_force(vectors, query, 6, {10})
        assert found_rows(search(query, 6, by_both)) == brute_force(vectors, query, 6, {10, 20, 21, 22, 30})
        assert found_rows(search(query, 6, copies)) == brute_force(vectors, query, 6, {10, 20, 21, 22})
    assert found_rows(pool.search_image(PICTURES[10], 1, LeaveOut("not in the pool"))) == [10]


def test_as_many_as_are_left_can_be_had_and_no_more(pool):
    leave_out = LeaveOut("i10", PICTURES[10])
    assert len(pool.search_text(TEXTS[0], COUNT - 5, leave_out)) == COUNT - 5
    with pytest.raises(ValueError, match="has 55 of its 60 items left.*56 are needed; lower k to 55"):
        pool.search_text(TEXTS[0], COUNT - 4, leave_out)
    with pytest.raises(ValueError, match="'tiny' has 60 of its 60 items left"):
        pool.search_image(PICTURES[0], 1000)


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(pool, k):
    with pytest.raises(ValueError, match=f"k is {k}"):
        pool.search_text(TEXTS[0], k)


@pytest.mark.parametrize("query", [np.ones(11), np.ones((1, 12)), np.zeros(12), np.full(12, np.nan)])
def test_useless_queries_are_refused(pool, query):
    with pytest.raises(ValueError, match="text query"):
        pool.search_text(query, 1)


def test_items_are_found_by_id(pool):
    assert len(pool) == COUNT
    assert pool.contains("i3") and not pool.contains("3")
    item = pool.item("i3")
    assert (item.row, item.text, item.picture, item.tags) == (3, "3", "3.png", ItemTags((), ("tag, ünï",)))
    with pytest.raises(ValueError, match="'tiny' has no item 'x'"):
        pool.item("x")
    assert pool.image_embeds([3, 0]) == pytest.approx(PICTURES[[3, 0]], rel=2e-3, abs=2e-3)  # not of length 1
    assert pool.image_embeds([3, 0]).dtype == np.float32
    assert pool.thumbnail(3).size == (4, 4)


def test_other_encoders_are_refused_with_both_widths(pool):
    text, image = np.ones(12), PICTURES[0]
    assert pool.image_probe == pytest.approx(image)  # the probe's first pixel is black
    pool.check_encoders(2 * text.astype(np.float16), image)
    with pytest.raises(ValueError, match=r"'tiny' was built with another image encoder \(16-d\).*\(17-d\)"):
        pool.check_encoders(text, np.ones(17))
    with pytest.raises(ValueError, match=r"'tiny' was built with another text encoder \(12-d\).*\(12-d\)"):
        pool.check_encoders(-text, image)


def refused(path, file):
    with pytest.raises(ValueError, match=f"pool 'copied' is damaged: {file}"):
        EmbeddingPool.open(path)


@pytest.mark.parametrize("file", pool_files.CHECKED_FILES)
def test_a_damaged_file_is_refused_by_name(copy, file):
    path = copy / file
    data = path.read_bytes()
    for position in {0, 5, len(data) // 2, len(data) - 1}:
        path.write_bytes(data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :])
        refused(copy, file)
    for damaged in (data[: len(data) // 2], data[:-1], data + b"\0", b""):
        path.write_bytes(damaged)
        refused(copy, file)
    path.unlink()
    refused(copy, file)
    path.write_bytes(data)
    EmbeddingPool.open(copy).close()


def test_a_manifest_with_any_byte_flipped_is_refused(copy):
    path = copy / "pool.json"
    data = path.read_bytes()
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(ValueError, match="pool 'copied' (is damaged: pool.json|has format version)"):
            pool_files.read_manifest(copy)
    for length in range(0, len(data) - 1, 7):
        path.write_bytes(data[:length])
        refused(copy, "pool.json")


def rewrite_manifest(path, **changes):
    """As a stranger could: with fitting checksums."""
    manifest = json.loads((path / "pool.json").read_text())
    fields = {key: value for key, value in manifest.items() if key not in ("files", "xxh3_64")}
    pool_files.write_manifest(path, fields | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"count": 59},
        {"count": True},
        {"count": 0},
        {"count": 10**30},
        {"text_width": 11},
        {"image_width": "16"},
        {"crop": None},
        {"index": {"text": {"kind": "exact"}}},
        {"index": {"text": {"kind": "other"}, "image": {"kind": "exact"}}},
        {"index": {"text": {"kind": "ivf", "lists": 0, "probes": 1}, "image": {"kind": "exact"}}},
        {"version": "1"},
    ],
)
def test_a_manifest_that_does_not_fit_the_files_is_refused(copy, changes):
    rewrite_manifest(copy, **changes)
    refused(copy, "")


@pytest.mark.parametrize("version", [1, 3])
def test_another_format_is_refused(copy, version):
    rewrite_manifest(copy, version=version)
    with pytest.raises(ValueError, match=f"'copied' has format version {version}, this I-AM-G reads 2; update"):
        EmbeddingPool.open(copy)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM items WHERE row = 5",
        "UPDATE items SET row = 1000 WHERE row = 5",
        "ALTER TABLE items RENAME TO others",
        "ALTER TABLE items ADD COLUMN more TEXT",
    ],
)
def test_a_table_of_other_items_is_refused(copy, statement):
    with sqlite3.connect(copy / "items.sqlite") as database:
        database.execute(statement)
    rewrite_manifest(copy)
    refused(copy, "items.sqlite")


def test_files_exchanged_for_another_pools_are_refused(copy):
    for one, other in (("text.faiss", "image.faiss"), ("text.safetensors", "image.safetensors")):
        os.replace(copy / one, copy / "aside")
        os.replace(copy / other, copy / one)
        os.replace(copy / "aside", copy / other)
        rewrite_manifest(copy)
        refused(copy, one)


def test_a_folder_that_is_no_pool_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=f"{path.name} is no pool"):
            EmbeddingPool.open(path)


def test_thumbnails_are_checked_when_read_and_by_verify(copy):
    (copy / "thumbs/0/7.jpg").write_bytes((copy / "thumbs/0/8.jpg").read_bytes())
    (copy / "thumbs/0/9.jpg").unlink()
    with EmbeddingPool.open(copy) as pool:
        for row in (7, 9):
            with pytest.raises(ValueError, match=f"'copied' is damaged: thumbs/0/{row}.jpg"):
                pool.thumbnail(row)
        assert pool.thumbnail(8).getpixel((0, 0))[0] == pytest.approx(8, abs=2)
        problems = pool.verify()
    assert len(problems) == 2 and "7.jpg" in problems[0] and "9.jpg" in problems[1]


def test_verify_finds_what_changed_since_the_pool_was_opened(copy):
    with EmbeddingPool.open(copy) as pool:
        assert pool.verify() == []
        with (copy / "text.safetensors").open("r+b") as file:
            file.seek(-24 * 3, os.SEEK_END)  # the third row from the end
            file.write(bytes(24))
        assert pool.verify() == [
            "text.safetensors does not hold what was written",
            "text.safetensors row 57 has not length 1",
        ]


def test_an_open_pool_is_not_disturbed_by_a_read_only_folder(copy):
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = sorted(copy.rglob("*"))
    with EmbeddingPool.open(copy) as pool:
        assert pool.item("i5").row == 5
        assert sorted(copy.rglob("*")) == before
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o755)
