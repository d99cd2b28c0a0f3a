"""Preparing a small catalogue: what the samples hold, what is skipped, and what a second run does again."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image
from small_models import write_family

from iamg.interests import rewrite
from iamg.items import read_items
from iamg.pool import EmbeddingPool
from iamg.pool_builder import build_pool
from iamg.scenarios import load_scenarios
from iamg.tagging import make_tagger
from iamg_train import foregrounds
from iamg_train.config import Data
from iamg_train.encoders import ClipEncoders, ClipTokenizer, TextEncoder
from iamg_train.histories import Split
from iamg_train.prepare import plan_counts
from iamg_train.prepare import prepare as prepare_data

MOVIES = Path(__file__).parents[3] / "shared" / "data" / "movielens_mini"
WORDS = "fox moon ship rain robot desert train ghost piano winter garden pirate".split()
ITEMS, USERS, K = 60, 60, 3
SCENARIO = load_scenarios()["movie poster"]


def write_catalogue(folder):
    random = Random(0)
    folder.mkdir()
    items = []
    for number in range(ITEMS):
        colour = tuple(random.randrange(256) for _ in range(3))
        Image.new("RGB", (24, 36), colour).save(folder / f"{number}.png")
        tags = random.sample(WORDS, 3)
        text = f"A {tags[0]} and a {tags[1]} meet. " * (30 if number % 7 == 0 else 1)
        items.append({"file_name": f"{number}.png", "item_id": f"m{number}", "text": text, "tags": tags})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, items)))
    rows = ["user_id,item_id,rating,timestamp"]
    for user in range(USERS):
        for time, item in enumerate(random.sample(range(ITEMS + 5), random.randrange(2, 25))):  # 5 are unknown
            rows.append(f"u{user},m{item},{random.choice([2, 4, 5])},{time}")
    (folder / "interactions.csv").write_text("\n".join(rows))


def build(items, files, pool):
    encoders = ClipEncoders(files["checkpoint"], files["clip_vision"], "pad")
    build_pool(pool, read_items(items, lambda *_: None), items, encoders, make_tagger("keywords"), SCENARIO)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_family(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def built(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("catalogue")
    write_catalogue(folder / "items")
    build(folder / "items", files, folder / "pool")
    return folder


@pytest.fixture
def options(built, tmp_path):
    return Data(
        items=built / "items",
        interactions=built / "items" / "interactions.csv",
        pool=built / "pool",
        prepared=tmp_path / "prepared",
        cache=tmp_path / "cache",
        history_length=K,
        top_k=4,
        test_fraction=0.2,
        cache_dtype="float32",
    )


@pytest.fixture
def prepare(files):
    return lambda data, checkpoint=files["checkpoint"]: prepare_data(data, checkpoint, "cpu")


def replace(data, **changes):
    return data.model_copy(update=changes)


@pytest.fixture
def catalogue(options, tmp_path):
    """The items' folder as a copy to be damaged."""
    items = tmp_path / "items"
    shutil.copytree(options.items, items)
    return replace(options, items=items, interactions=items / "interactions.csv")


def all_samples(prepared):
    return [sample for split in ("train", "test", "control") for sample in prepared.samples(split)]


def test_samples_hold_what_the_paper_says(options, files, prepare):
    prepared, split = prepare(options), Split(options.test_fraction)
    train, test, control = (prepared.samples(split) for split in ("train", "test", "control"))
    assert len(train) > 15 and len(test) > 2
    encode, count = TextEncoder(files["checkpoint"]).encode_texts, ClipTokenizer().count
    times = {(row["user_id"], row["item_id"]): row for row in csv.DictReader(options.interactions.open())}
    with EmbeddingPool.open(options.pool) as pool:
        for sample in [*train, *test, *control]:
            item, history = pool.item(sample.objective), [pool.item(x) for x in sample.history]
            written = rewrite(item.description, item.tags, [x.tags for x in history], SCENARIO, count, 8)
            assert sample.text == written.text and count(sample.text) <= 75
            assert item.description.startswith(sample.item_text) and 0 < count(sample.item_text) <= 75
            assert sample.picture == item.picture and sample.foreground is None
            picture = pool.image_embeds([item.row])[0]
            left = [x for x in range(len(pool)) if cosine(pool.image_vectors[x], picture) < 0.985]
            left = [x for x in left if x != item.row and not split.is_test_item(f"m{x}")]
            assert sample.retrieved_text_ids == nearest(pool.text_vectors, left, encode([sample.text])[0])
            assert sample.retrieved_ids == nearest(pool.image_vectors, left, picture)
            texts = [pool.item(x).description for x in sample.retrieved_text_ids]
            assert all(text.startswith(fit) for text, fit in zip(texts, sample.retrieved_texts, strict=True))
            assert all(0 < count(text) <= 75 for text in sample.retrieved_texts)
            embeds = pool.image_embeds([pool.item(x).row for x in sample.retrieved_ids])
            assert np.array_equal(prepared.image_embeds(sample.retrieved_ids), embeds)
            if sample.split != "control":
                rows = [times[sample.user_id, x] for x in (sample.objective, *sample.history)]
                assert all(float(row["rating"]) >= 4 for row in rows) and len(rows) == K + 1
                moments = [int(row["timestamp"]) for row in rows]
                assert moments == sorted(set(moments), reverse=True)
        assert prepared.image_width == pool.image_width
    items = {x for sample in train for x in (sample.objective, *sample.history)}
    assert not any(map(split.is_test_item, items)) and all(split.is_test_item(sample.objective) for sample in test)
    assert not {sample.user_id for sample in train} & {sample.user_id for sample in test}
    for own, other in zip(test, control, strict=True):
        assert (own.objective, own.retrieved_ids) == (other.objective, other.retrieved_ids)
        assert own.user_id != other.user_id and own.objective not in other.history


def cosine(row, query):
    row, query = row.astype(np.float64), query.astype(np.float64)
    return row @ query / np.linalg.norm(query)  # rows are stored with length 1


def nearest(rows, among, query):
    return tuple(f"m{row}" for row in sorted(among, key=lambda row: (-cosine(rows[row], query), row))[:4])


def test_a_second_run_encodes_and_writes_nothing(options, monkeypatch, capsys, prepare):
    prepared = prepare(options)
    told = " ".join(capsys.readouterr().out.split())
    assert f"{len(prepared.samples('train'))} samples to train on" in told and "5 items that the pool lacks" in told
    before = {path: path.stat().st_mtime_ns for path in options.prepared.rglob("*")}
    monkeypatch.setattr(TextEncoder, "__init__", lambda *_: pytest.fail("the text tower was loaded again"))
    again = prepare(options)
    assert {path: path.stat().st_mtime_ns for path in options.prepared.rglob("*")} == before
    assert again.data_hash == prepared.data_hash and all_samples(again) == all_samples(prepared)
    other = prepare(replace(options, prepared=options.prepared.with_name("other"), top_k=2))
    assert [s.text for s in all_samples(other)] == [s.text for s in all_samples(prepared)]
    assert other.data_hash != prepared.data_hash


def test_the_plan_counts_what_is_then_prepared(options, prepare):
    prepared = prepare(options)
    planned = plan_counts(options)
    assert planned == {key: prepared.counts[key] for key in planned}
    assert planned["train"] == len(prepared.samples("train")) and planned["test"] == len(prepared.samples("test"))
    assert plan_counts(replace(options, max_entries=7))["users_beyond_limit"] > 20
    assert len(all_samples(prepare(replace(options, max_entries=7)))) - len(prepare(options).samples("control")) <= 7


def test_a_run_stopped_while_cutting_out_goes_on(options, tmp_path, monkeypatch, prepare):
    masks = tmp_path / "masks"
    masks.mkdir()
    for number in range(ITEMS):
        if number % 5:
            Image.new("L", (6, 6), 255).save(masks / f"m{number}.png")
    options = replace(options, foreground="masks", masks=masks)
    made = []
    make = foregrounds.FolderMasks.make

    def stop_at_the_fourth(self, objective):
        if len(made) == 4:
            raise KeyboardInterrupt
        made.append(objective.item_id)
        return make(self, objective)

    monkeypatch.setattr(foregrounds.FolderMasks, "make", stop_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        prepare(options)
    assert not (options.prepared / "prepared.json").exists()
    stopped_at, made[:] = made[:], ["", "", "", "", ""]
    prepared = prepare(options)
    assert not set(stopped_at) & set(made)
    samples = all_samples(prepared)
    whole = {s.objective for s in samples if s.foreground is None}
    assert whole == {s.objective for s in samples if int(s.objective[1:]) % 5 == 0} != set()
    assert prepared.counts["without_foreground"] == len(whole)
    assert all((options.prepared / s.foreground).is_file() for s in samples if s.foreground)


def test_unreadable_pictures_are_skipped_and_named(catalogue, capsys, prepare):
    gone, broken = prepare(catalogue).samples("train")[:2]
    (catalogue.items / gone.picture).unlink()
    (catalogue.items / broken.picture).write_bytes(b"no picture")
    capsys.readouterr()
    prepared = prepare(catalogue)
    told = capsys.readouterr().out.replace("\n", "")
    assert f"{gone.objective}: picture" in told and f"{broken.objective}: picture" in told
    assert prepared.counts["unreadable_pictures"] == 2
    assert not {gone.objective, broken.objective} & {sample.objective for sample in all_samples(prepared)}


def test_a_changed_picture_changes_its_samples_alone(catalogue, prepare):
    before = prepare(catalogue)
    changed = before.samples("train")[0]
    Image.new("RGB", (24, 36), "white").save(catalogue.items / changed.picture)
    after = prepare(catalogue)
    assert after.data_hash != before.data_hash
    for old, new in zip(all_samples(before), all_samples(after), strict=True):
        assert (old.picture_hash != new.picture_hash) == (old.objective == changed.objective)
        assert dataclasses.replace(old, picture_hash="") == dataclasses.replace(new, picture_hash="")


def test_paper_mode_finds_the_objective_itself(options, prepare):
    samples = prepare(replace(options, leave_one_out=False)).samples("train")
    assert all(sample.retrieved_ids[0] == sample.objective for sample in samples)


def test_without_held_out_users_it_is_said(options, capsys, prepare):
    prepared = prepare(replace(options, test_fraction=0.0))
    assert prepared.samples("test") == prepared.samples("control") == []
    assert "nothing is held out" in capsys.readouterr().out


def test_a_pool_of_another_text_encoder_is_refused(options, tmp_path, prepare):
    other = write_family(tmp_path / "models", seed=1)
    with pytest.raises(ValueError, match="pool 'pool' was built with another text encoder"):
        prepare(options, other["checkpoint"])


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("", "has interactions of 0 users; 2 or more are needed"),
        ("u,m1,5,1\nu,m2,5,2\nu,m3,5,3\nu,m4,5,4\nu,m5,5,5", "has interactions of 1 users; 2 or more are needed"),
        ("u,m1,5,1\nv,m2,5,2", "nothing to train on: 2 users .* needed are users with 4 liked items of pool 'pool'"),
        ("u,x1,5,1\nv,x2,5,2\nv,x3,5,", "nothing to train on: 1 interactions without a number.*2 items that the pool"),
    ],
)
def test_interactions_that_train_nothing_are_refused(options, tmp_path, rows, reason, prepare):
    path = tmp_path / "few.csv"
    path.write_text(f"user_id,item_id,rating,timestamp\n{rows}")
    with pytest.raises(ValueError, match=rf"few.csv (gives )?{reason}"):
        prepare(replace(options, interactions=path))
    assert not options.prepared.exists()


def test_all_pictures_broken_is_refused_with_the_first_named(catalogue, prepare):
    for path in catalogue.items.glob("*.png"):
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"nothing to train on: .*items whose picture cannot be read.*\.png cannot"):
        prepare(catalogue)


def test_too_few_training_items_for_k_neighbours_is_said(options, prepare):
    with pytest.raises(ValueError, match="fewer than 60 neighbours among the training items.*lower top_k"):
        prepare(replace(options, top_k=60))


@pytest.mark.slow
def test_real_films_are_prepared(files, tmp_path, prepare):
    if not MOVIES.is_dir():
        pytest.skip(f"{MOVIES} is not on this machine")
    torch.set_num_threads(1)
    build(MOVIES, files, tmp_path / "movies")
    interactions = MOVIES / "interactions.csv"
    folders = {"pool": tmp_path / "movies", "prepared": tmp_path / "prepared", "cache": tmp_path / "cache"}
    prepared = prepare(Data(items=MOVIES, interactions=interactions, **folders))
    assert prepared.counts["train"] > 350 and prepared.counts["test"] > 20
    with interactions.open(encoding="utf-8") as file:
        liked = {(row["user_id"], row["item_id"]): float(row["timestamp"]) for row in csv.DictReader(file)}
    for sample in [*prepared.samples("train"), *prepared.samples("test")]:
        now = liked[sample.user_id, sample.objective]
        assert len(sample.history) == 5 and all(liked[sample.user_id, item] < now for item in sample.history)
        assert len(set(sample.retrieved_ids)) == len(set(sample.retrieved_text_ids)) == 5
        assert sample.objective not in (*sample.retrieved_ids, *sample.retrieved_text_ids)
        assert "This movie poster is" in sample.text
