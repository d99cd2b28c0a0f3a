"""Builds of tiny pools, interrupted and killed. Run as a script it builds one, and kills itself where it is told."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xxhash
from PIL import Image

from iamg import pool_files
from iamg.item_table import ItemTableWriter
from iamg.items import read_items
from iamg.pool import EmbeddingPool
from iamg.pool_builder import add_items, build_pool, remove_items
from iamg.scenarios import Scenario
from iamg.tagging import ItemTags
from iamg.vector_file import VectorWriter

COUNT, BATCH = 11, 3
SCENARIO = Scenario("test", "test poster", "", "", 8)


def vector_of(data, width, seed):
    return np.random.default_rng(xxhash.xxh3_64_intdigest(data) + seed).standard_normal(width)


class HashEncoders:
    """Embeddings that depend on every byte of the text or picture, and on the seed of the weights."""

    crop = "center_crop"

    def __init__(self, seed=0, text_width=6, image_width=8):
        self.seed, self.text_width, self.image_width = seed, text_width, image_width
        self.pictures = []

    def encode_texts(self, texts):
        return np.stack([vector_of(text.encode(), self.text_width, self.seed) for text in texts])

    def encode_images(self, images):
        self.pictures += images
        return np.stack([vector_of(image.tobytes(), self.image_width, self.seed) for image in images])

    def fit_text(self, text):
        return text[:40]


class FirstWordTagger:
    name = "first word"
    parameters = {"words": 1}

    def tag(self, images, texts, scenario):
        return [ItemTags(("picture",), (text.split()[0],) if text else ()) for text in texts]


class Stop(Exception):
    pass


def after(calls):
    """A progress callback that interrupts."""
    left = iter(range(calls - 1))

    def progress(done, total):
        if next(left, None) is None:
            raise Stop

    return progress


def build(folder, pool, encoders=None, **options):
    items = list(read_items(folder, lambda *_: None))
    return build_pool(
        pool, items, folder, encoders or HashEncoders(), FirstWordTagger(), SCENARIO, batch_size=BATCH, **options
    )


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "items"
    folder.mkdir()
    for number in range(COUNT):
        Image.new("RGB", (300, 200 + number), (number * 20, 0, 0)).save(folder / f"{number:02}.png")
    rows = [
        {"file_name": f"{number:02}.png", "item_id": f"i{number}", "title": f"Title {number}", "tags": ["own", "Title"]}
        for number in range(COUNT)
    ]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture
def pool(tmp_path):
    return tmp_path / "pools" / "tiny"


def contents(path):
    """What a pool holds, by item id."""
    with EmbeddingPool.open(path) as pool:
        assert pool.verify() == []
        found = {}
        for record in pool.records(range(len(pool))):
            row = record.item.row
            vectors = pool.text_vectors[row].tobytes() + pool.image_vectors[row].tobytes()
            said = (record.item.title, record.item.text, record.item.picture, record.item.tags)
            found[record.item.item_id] = (said, vectors, record.thumbnail, record.content)
            assert pool.search_image(pool.image_vectors[row].astype(np.float32), 1)[0].item == record.item
            assert pool.search_text(pool.text_vectors[row].astype(np.float32), 1)[0].item == record.item
        assert len(found) == len(pool)
    assert sorted(path.rglob("*.jpg")) == sorted(path / pool_files.thumbnail_path(row) for row in range(len(found)))
    assert sorted(entry.name for entry in path.parent.iterdir()) == [path.name]  # nothing half-written beside it
    return found


def rows_committed(pool):
    with sqlite3.connect(pool_files.building_folder(pool) / pool_files.ITEMS) as database:
        return database.execute("SELECT count(*) FROM items").fetchone()[0]


def test_a_pool_holds_the_encoders_embeddings_and_all_tags(folder, pool):
    report = build(folder, pool)
    assert (report.count, report.skipped) == (COUNT, [])
    with EmbeddingPool.open(pool) as opened:
        item = opened.item("i7")
        assert (item.row, item.title, item.picture) == (7, "Title 7", "07.png")
        assert item.tags == ItemTags(("picture",), ("own", "Title"))
        text = vector_of(b"Title 7", 6, 0)
        image = vector_of(Image.open(folder / "07.png").tobytes(), 8, 0)
        assert np.allclose(opened.text_vectors[7], text / np.linalg.norm(text), atol=1e-3)
        assert np.allclose(opened.image_embeds([7])[0], image, rtol=1e-3, atol=1e-3 * np.linalg.norm(image))
        assert opened.thumbnail(7).size == (256, round(256 * 207 / 300))
        assert (opened.crop, opened.tagger, opened.scenario) == ("center_crop", "first word", "test")
    contents(pool)


def test_progress_counts_items(folder, pool):
    calls = []
    build(folder, pool, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, COUNT) for done in (3, 6, 9, 11)]


def test_one_bad_picture_is_skipped_and_recorded(folder, pool):
    (folder / "05.png").write_bytes((folder / "05.png").read_bytes()[:50])
    report = build(folder, pool)
    assert report.count == COUNT - 1
    assert [name for name, _ in report.skipped] == ["05.png"]
    assert "i5" not in contents(pool)
    manifest = json.loads((pool / "pool.json").read_text())
    assert manifest["skipped"] == [list(entry) for entry in report.skipped]


def test_an_embedding_that_is_not_finite_is_skipped(folder, pool):
    class Overflowing(HashEncoders):
        def encode_texts(self, texts):
            vectors = super().encode_texts(texts)
            vectors[[text == "Title 3" for text in texts]] = np.inf
            return vectors

    report = build(folder, pool, Overflowing())
    assert [name for name, _ in report.skipped] == ["03.png"]
    assert len(contents(pool)) == COUNT - 1


def test_no_usable_item_is_an_error_that_leaves_nothing(folder, pool):
    for path in folder.glob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="'tiny' has no item: 11 skipped, the first 00.png"):
        build(folder, pool)
    assert list(pool.parent.iterdir()) == []


def test_ids_used_twice_are_skipped(folder, pool):
    items = list(read_items(folder, lambda *_: None))
    for twice in ([items[0], items[0], items[1]], [*items[:5], items[0]]):
        report = build_pool(pool, twice, folder, HashEncoders(), FirstWordTagger(), SCENARIO, batch_size=BATCH)
        assert (report.count, len(report.skipped)) == (len(twice) - 1, 1)


@pytest.mark.parametrize(
    ("limit", "expected"), [(2, ("own", "Title")), (3, ("own", "Title")), (4, ("own", "Title", "found"))]
)
def test_own_tags_are_kept_and_found_ones_fill_the_limit(folder, pool, limit, expected):
    class Finder(FirstWordTagger):
        def tag(self, images, texts, scenario):
            return [ItemTags((), ("Title", "found", "more")) for _ in images]

    scenario = Scenario("test", "test poster", "", "", limit)
    items = list(read_items(folder, print))
    build_pool(pool, items, folder, HashEncoders(), Finder(), scenario)
    with EmbeddingPool.open(pool) as opened:
        assert opened.item("i7").tags.text == expected


@pytest.mark.parametrize("calls", [1, 2, 4])
def test_an_interrupted_build_goes_on_where_it_stopped(folder, pool, tmp_path, calls):
    with pytest.raises(Stop):
        build(folder, pool, progress=after(calls))
    assert not pool.exists()
    encoders = HashEncoders()
    build(folder, pool, encoders)
    assert len(encoders.pictures) == 1 + max(COUNT - BATCH * calls, 0)  # the probe, and what was left
    resumed = contents(pool)
    build(folder, tmp_path / "whole" / "tiny")
    assert resumed == contents(tmp_path / "whole" / "tiny")


def test_a_resumed_build_follows_the_folder_as_it_is_now(folder, pool, tmp_path):
    with pytest.raises(Stop):
        build(folder, pool, progress=after(3))
    Image.new("RGB", (9, 9), "blue").save(folder / "02.png")
    rows = (folder / "metadata.jsonl").read_text().splitlines()
    added = json.dumps({"file_name": "06.png", "item_id": "new"})
    (folder / "metadata.jsonl").write_text("\n".join([added, *rows[1:5], rows[8], *rows[10:]]))
    encoders = HashEncoders()
    build(folder, pool, encoders)
    assert len(encoders.pictures) == 1 + 2 + 1  # the probe, the new and the changed one, the last
    resumed = contents(pool)
    build(folder, tmp_path / "whole" / "tiny")
    assert resumed == contents(tmp_path / "whole" / "tiny")


@pytest.mark.parametrize("other", ["weights", "width", "crop", "scenario"])
def test_a_build_with_other_encoders_or_parameters_starts_anew(folder, pool, other):
    with pytest.raises(Stop):
        build(folder, pool, progress=after(3))
    encoders = HashEncoders(seed=int(other == "weights"), text_width=5 if other == "width" else 6)
    encoders.crop = "pad" if other == "crop" else "center_crop"
    scenario = Scenario("test", "other", "", "", 8) if other == "scenario" else SCENARIO
    build_pool(pool, list(read_items(folder, print)), folder, encoders, FirstWordTagger(), scenario)
    assert len(encoders.pictures) == 1 + COUNT
    contents(pool)


def test_a_rebuild_replaces_the_pool_and_a_failure_keeps_it(folder, pool):
    build(folder, pool)
    before = contents(pool)
    with pytest.raises(Stop):
        build(folder, pool, HashEncoders(seed=1), progress=after(2))
    with EmbeddingPool.open(pool) as opened:
        assert len(opened) == COUNT
    build(folder, pool, HashEncoders(seed=1))
    after_rebuild = contents(pool)
    assert set(after_rebuild) == set(before) and after_rebuild != before


def test_folders_that_are_no_pool_are_never_touched(folder, pool):
    for path in (pool, pool_files.building_folder(pool)):
        path.mkdir(parents=True)
        (path / "holiday.jpg").write_bytes(b"x")
        with pytest.raises(ValueError, match=path.name):
            build(folder, pool)
        assert [entry.name for entry in path.iterdir()] == ["holiday.jpg"]
        shutil.rmtree(path)


def test_a_folder_where_the_old_pool_goes_is_never_touched(folder, pool):
    build(folder, pool)
    before = contents(pool)
    aside = pool.with_name("tiny.replaced")
    aside.mkdir()
    (aside / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match="tiny.replaced is in the way"):
        build(folder, pool, HashEncoders(seed=1))
    assert [entry.name for entry in aside.iterdir()] == ["holiday.jpg"]
    shutil.rmtree(aside)
    shutil.rmtree(pool_files.building_folder(pool))
    assert contents(pool) == before


@pytest.mark.parametrize("name", ["tiny.building", "tiny.replaced"])
def test_names_kept_for_building_are_refused(folder, pool, name):
    with pytest.raises(ValueError, match="cannot end in"):
        build(folder, pool.with_name(name))


def test_a_damaged_draft_is_begun_anew(folder, pool):
    for name in (pool_files.ITEMS, pool_files.TEXT_VECTORS):
        with pytest.raises(Stop):
            build(folder, pool, progress=after(3))
        (pool_files.building_folder(pool) / name).write_bytes(b"no such thing" * 100)
        build(folder, pool)
        contents(pool)
        shutil.rmtree(pool)


def test_a_draft_of_another_version_is_begun_anew(folder, pool):
    with pytest.raises(Stop):
        build(folder, pool, progress=after(3))
    with sqlite3.connect(pool_files.building_folder(pool) / pool_files.ITEMS) as database:
        database.execute("ALTER TABLE items DROP COLUMN image_length")
    build(folder, pool)
    contents(pool)


def test_two_builds_of_one_pool_do_not_meet(folder, pool):
    def progress(done, total):
        with pytest.raises(ValueError, match="another process"):
            build(folder, pool)

    build(folder, pool, progress=progress)
    assert len(contents(pool)) == COUNT


def test_paths_out_of_the_folder_are_skipped(folder, pool):
    items = [item for item in read_items(folder, print)][:2]
    outside = type(items[0])("evil", "", "", (), "../outside.png")
    Image.new("RGB", (4, 4)).save(folder.parent / "outside.png")
    report = build_pool(pool, [*items, outside], folder, HashEncoders(), FirstWordTagger(), SCENARIO)
    assert [name for name, _ in report.skipped] == ["../outside.png"]


KILLS = {  # where the process dies: rows that must be committed by then
    "encoding": 6,
    "before the commit": 6,
    "inside the commit": 6,
    "after the commit": 9,
    "writing an index": COUNT,
    "writing the manifest": COUNT,
    "before the first rename": COUNT,
}


@pytest.mark.parametrize("where", KILLS)
def test_a_killed_build_is_resumed(folder, pool, tmp_path, where):
    assert run_and_kill(where, folder, pool) == -signal.SIGKILL
    assert not pool.exists()
    assert rows_committed(pool) == KILLS[where]
    encoders = HashEncoders()
    build(folder, pool, encoders)
    assert len(encoders.pictures) == 1 + COUNT - KILLS[where]
    resumed = contents(pool)
    build(folder, tmp_path / "whole" / "tiny")
    assert resumed == contents(tmp_path / "whole" / "tiny")


@pytest.mark.parametrize("where", ["between the renames", "before the old pool is deleted"])
def test_a_kill_while_pools_change_places_loses_neither(folder, pool, where):
    build(folder, pool)
    before = contents(pool)
    Image.new("RGB", (9, 9), "blue").save(folder / "02.png")
    assert run_and_kill(where, folder, pool) == -signal.SIGKILL
    with EmbeddingPool.open(pool) as opened:  # recovers the old pool, or finds the new one in place
        assert len(opened) == COUNT
    build(folder, pool)
    changed = {item_id for item_id, held in contents(pool).items() if held != before[item_id]}
    assert changed == {"i2"}


def run_and_kill(where, folder, pool):
    command = [sys.executable, __file__, where, str(folder), str(pool)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(command, env=environment, timeout=60, check=False).returncode


def some_items(folder, *numbers):
    return [item for item in read_items(folder, print) if int(item.item_id[1:]) in numbers]


def test_items_are_added_and_replaced(folder, pool, tmp_path):
    build(folder, tmp_path / "whole" / "tiny")
    whole = contents(tmp_path / "whole" / "tiny")
    items = some_items(folder, *range(8))
    build_pool(pool, items, folder, HashEncoders(), FirstWordTagger(), SCENARIO)
    Image.new("RGB", (9, 9), "blue").save(folder / "05.png")
    (folder / "10.png").write_bytes(b"broken")
    (folder / "03.png").write_bytes(b"broken too: the pool keeps what it has")
    encoders = HashEncoders()
    more = some_items(folder, 3, 5, 9, 10)
    report = add_items(pool, more, folder, encoders, FirstWordTagger(), SCENARIO)
    assert (report.count, [name for name, _ in report.skipped]) == (9, ["03.png", "10.png"])
    assert len(encoders.pictures) == 1 + 2
    held = contents(pool)
    assert set(held) == {f"i{number}" for number in (*range(8), 9)}
    assert {item_id for item_id in held if held[item_id] != whole[item_id]} == {"i5"}
    with EmbeddingPool.open(pool) as opened:
        assert opened.thumbnail(opened.item("i5").row).size == (9, 9)


def test_an_interrupted_addition_leaves_the_pool_and_no_trace_in_the_next(folder, pool):
    build_pool(pool, some_items(folder, *range(8)), folder, HashEncoders(), FirstWordTagger(), SCENARIO)
    before = contents(pool)
    Image.new("RGB", (9, 9), "blue").save(folder / "05.png")
    with pytest.raises(Stop):
        first = some_items(folder, 5, 8, 9, 10)
        add_items(pool, first, folder, HashEncoders(), FirstWordTagger(), SCENARIO, batch_size=2, progress=after(2))
    add_items(pool, some_items(folder, 10), folder, HashEncoders(), FirstWordTagger(), SCENARIO)
    held = contents(pool)
    assert set(held) == {*before, "i10"}
    assert all(held[item_id] == before[item_id] for item_id in before)


def test_items_made_otherwise_are_not_added(folder, pool):
    build(folder, pool)
    before = contents(pool)
    other_crop, other_scenario = HashEncoders(), Scenario("other", "x", "", "", 8)
    other_crop.crop = "pad"
    cases = [
        (HashEncoders(seed=1), SCENARIO, "text encoder"),
        (HashEncoders(image_width=9), SCENARIO, r"image encoder \(8-d\).*\(9-d\)"),
        (other_crop, SCENARIO, "crop 'center_crop', not 'pad'"),
        (HashEncoders(), other_scenario, "scenario 'test', not 'other'"),
    ]
    for encoders, scenario, message in cases:
        with pytest.raises(ValueError, match=f"'tiny'.*{message}"):
            add_items(pool, some_items(folder, 1), folder, encoders, FirstWordTagger(), scenario)
    assert contents(pool) == before


def test_items_are_removed(folder, pool):
    build(folder, pool)
    before = contents(pool)
    assert remove_items(pool, ["i0", "i10", "i7"]).count == COUNT - 3
    held = contents(pool)
    assert held == {item_id: before[item_id] for item_id in before if item_id not in ("i0", "i10", "i7")}
    with pytest.raises(ValueError, match="'tiny' has no item 'i7'"):
        remove_items(pool, ["i1", "i7"])
    with pytest.raises(ValueError, match="no item left"):
        remove_items(pool, list(held))
    assert contents(pool) == held


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def patch(where):
    """Makes the build of this process die there."""
    write_vectors, write_rows, rename = VectorWriter.write, ItemTableWriter.put, os.rename
    calls = iter(range(1000))

    def dying_rename(source, target):
        number = next(calls)
        if number == {"before the first rename": 0, "between the renames": 1}.get(where):
            die()
        rename(source, target)

    def dying_put(table, records):
        third = table.count() == 6
        if third and where == "inside the commit":
            table._database.execute("PRAGMA cache_size = 1")
            table._database.execute("BEGIN IMMEDIATE")
            table._database.execute("UPDATE items SET text = hex(zeroblob(100000))")  # spills into the file
            die()
        if third and where == "before the commit":
            die()
        write_rows(table, records)
        if third and where == "after the commit":
            die()

    def dying_write(writer, rows, vectors):
        if where == "encoding" and rows[0] == 6:
            write_vectors(writer, rows, vectors)  # of one side only
            die()
        write_vectors(writer, rows, vectors)

    VectorWriter.write, ItemTableWriter.put, os.rename = dying_write, dying_put, dying_rename
    if where == "writing an index":
        import faiss

        faiss.write_index = lambda index, path: (Path(path).write_bytes(b"IxSQ"), die())
    if where == "writing the manifest":
        os.replace = die
    if where == "before the old pool is deleted":
        shutil.rmtree = die


if __name__ == "__main__":
    patch(sys.argv[1])
    build(Path(sys.argv[2]), Path(sys.argv[3]))
