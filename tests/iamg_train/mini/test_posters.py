"""The mini world's posters, texts and catalogue."""

import csv
import json
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from iamg.items import read_items
from iamg.tagging.keywords import keywords
from iamg_train.encoders import ClipTokenizer
from iamg_train.histories import Split
from iamg_train.mini.posters import HELD_OUT, SIDE, VALUES, draw, random_poster
from iamg_train.mini.texts import caption_of, few_tags, picture_tags, sentence_of, text_tags, title_of
from iamg_train.mini.vocabulary import known_words
from iamg_train.mini.world import MASKS, TEST_FRACTION, invent_world, read_world, write_world


@pytest.fixture(scope="module")
def posters():
    chance = random.Random(3)
    return [random_poster(chance) for _ in range(300)]


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    world = invent_world(1, items=120, users=80)
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, world, 1)
    return folder, world


def test_the_same_poster_is_drawn_to_the_same_pixels_and_every_attribute_changes_them(posters):
    poster = posters[0]
    picture, mask = draw(poster)
    assert picture.size == mask.size == (SIDE, SIDE)
    assert np.array_equal(picture, draw(poster)[0])
    for name, values in VALUES.items():
        if name == "charm":
            continue
        other = next(value for value in values if value != getattr(poster, name))
        changed = np.abs(np.asarray(picture, int) - np.asarray(draw(replace(poster, **{name: other}))[0], int))
        assert (changed.max(axis=2) > 40).mean() > 0.02, name


def test_the_mask_is_the_subject_and_the_subject_has_its_colour(posters):
    poster = replace(posters[0], colour="red", subject="house", setting="ocean")
    picture, mask = draw(poster)
    inside = np.asarray(picture, int)[np.asarray(mask) > 250]
    red = (inside[:, 0] > 150) & (inside[:, 1] < 90) & (inside[:, 2] < 90)
    assert 0.08 < (np.asarray(mask) > 128).mean() < 0.35
    assert red.mean() > 0.5


def test_attributes_are_independent_and_even(posters):
    for name, values in VALUES.items():
        if name != "charm":
            counts = Counter(getattr(poster, name) for poster in posters)
            assert set(counts) == set(values)
            assert min(counts.values()) > 0.5 * len(posters) / len(values)
    assert {len(poster.charms) for poster in posters} == {1, 2}


def test_held_out_combinations_are_on_no_poster_unless_asked_for(posters):
    assert not HELD_OUT & {(poster.subject, poster.colour) for poster in posters}
    chance = random.Random(0)
    assert all((p.subject, p.colour) in HELD_OUT for p in (random_poster(chance, held_out=True) for _ in range(20)))


def test_a_text_tells_subject_setting_and_charms_and_nothing_that_only_the_picture_shows(posters):
    for poster in posters[:60]:
        text = f"{title_of(poster)}. {sentence_of(poster)}"
        assert set(keywords(text, 10)) == set(text_tags(poster)), text
        for tag in set(picture_tags(poster)) - {poster.setting}:
            assert tag not in text.lower()


def test_captions_say_what_is_true_and_every_word_is_known(posters):
    vocabulary, tokenizer = known_words(), ClipTokenizer()
    chance, names = random.Random(1), {value for values in VALUES.values() for value in values}
    for poster in posters:
        own = {*picture_tags(poster), *text_tags(poster)}
        words = {word for tag in own for word in tag.split()}
        for caption in (caption_of(poster, chance), few_tags(poster, chance, 3)):
            said = set(caption.lower().replace(",", " ").replace(".", " ").split())
            assert said & names <= words, caption
            assert (vocabulary.rows(tokenizer([caption])) != vocabulary.unknown).all(), caption
    assert (vocabulary.rows(tokenizer(["bicycle"])) == vocabulary.unknown).any()


def test_the_catalogue_is_one_that_everything_else_reads(catalogue):
    folder, world = catalogue
    problems = []
    items = list(read_items(folder, lambda *problem: problems.append(problem)))
    assert not problems
    assert [item.item_id for item in items] == list(world.posters)
    assert {path.stem for path in (folder / MASKS).iterdir()} == set(world.posters)
    assert read_world(folder) == world


def test_users_mostly_choose_what_they_love(catalogue):
    folder, world = catalogue
    with (folder / "interactions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = np.mean([world.tastes[row["user_id"]].count(world.posters[row["item_id"]]) for row in rows])
    any_poster = np.mean([taste.count(poster) for taste in world.tastes.values() for poster in world.posters.values()])
    assert chosen > 2 * any_poster
    for row in rows:
        loved = world.tastes[row["user_id"]].count(world.posters[row["item_id"]])
        assert (float(row["rating"]) >= 4) == (loved > 0)


def test_new_combinations_are_among_test_items_alone():
    world, split = invent_world(0, items=2000, users=1), Split(TEST_FRACTION)
    new = [item_id for item_id, x in world.posters.items() if (x.subject, x.colour) in HELD_OUT]
    assert len(new) > 20
    assert all(split.is_test_item(item_id) for item_id in new)


def test_the_same_seed_gives_the_same_catalogue_and_a_whole_one_is_kept(catalogue, tmp_path):
    folder, world = catalogue
    assert invent_world(1, items=120, users=80) == world
    assert invent_world(2, items=120, users=80) != world
    write_world(tmp_path, world, 1)
    assert (tmp_path / "interactions.csv").read_bytes() == (folder / "interactions.csv").read_bytes()
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"kept": True}))
    write_world(tmp_path, world, 1)
    assert "kept" in (tmp_path / "metadata.jsonl").read_text()
