"""Neighbours of samples, against brute force over the pool's own rows."""

import numpy as np
import pytest
from PIL import Image

from iamg.items import Item
from iamg.pool import EmbeddingPool
from iamg.pool_builder import build_pool
from iamg.scenarios import Scenario
from iamg.tagging import ItemTags
from iamg_train.histories import Split
from iamg_train.neighbours import Neighbours

COUNT, K = 80, 4
SPLIT = Split(0.3)
RANDOM = np.random.default_rng(0)
TEXTS, PICTURES = RANDOM.standard_normal((COUNT, 6)), RANDOM.standard_normal((COUNT, 8))
PICTURES[7] = PICTURES[3]  # the same picture twice


class TableEncoders:
    """Item n's text says n, and its picture has the colour n."""

    crop = "pad"

    def encode_texts(self, texts):
        return np.stack([TEXTS[int(text)] if text.isdigit() else np.ones(6) for text in texts])

    def encode_images(self, images):
        return np.stack([PICTURES[image.getpixel((0, 0))[0] % COUNT] for image in images])

    def fit_text(self, text):
        return text


class NoTags:
    name, parameters = "none", {}

    def tag(self, images, texts, scenario):
        return [ItemTags()] * len(images)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    folder = tmp_path_factory.mktemp("items")
    items = []
    for number in range(COUNT):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / f"{number}.png")
        items.append(Item(f"i{number}", "", str(number), (), f"{number}.png"))
    build_pool(folder / "pool", items, folder, TableEncoders(), NoTags(), Scenario("test", "poster", "", "", 8))
    with EmbeddingPool.open(folder / "pool") as pool:
        yield pool


def nearest(rows, query, left_out):
    """Item ids by cosine, those left out and test items not among them."""
    cosines = [float((row.astype(np.float64) * query).sum()) for row in rows]  # stored with length 1
    names = [f"i{row}" for row in np.argsort(-np.round(cosines, 9), kind="stable")]
    return [name for name in names if name not in left_out and not SPLIT.is_test_item(name)][:K]


@pytest.mark.parametrize("near_duplicate", [0.985, None])
def test_neighbours_are_the_nearest_training_items(pool, near_duplicate):
    neighbours = Neighbours(pool, SPLIT, K, near_duplicate)
    queries = np.random.default_rng(1).standard_normal((COUNT, 6)).astype(np.float32)
    for number, query in enumerate(queries):
        left_out = {f"i{number}", *(["i3", "i7"] if number in (3, 7) else [])} if near_duplicate else {}
        objective = pool.item(f"i{number}")
        texts = [item.item_id for item in neighbours.texts(objective, query)]
        pictures = [item.item_id for item in neighbours.pictures(objective)]
        assert texts == nearest(pool.text_vectors, query, left_out)
        assert pictures == nearest(pool.image_vectors, pool.image_embeds([objective.row])[0], left_out)


def test_as_many_as_there_are_are_found_and_one_more_is_refused_by_name(pool):
    objective = pool.item("i0")
    training = sum(not SPLIT.is_test_item(f"i{n}") for n in range(COUNT) if n != 0)
    found = Neighbours(pool, SPLIT, training, 0.985).pictures(objective)
    assert len({item.item_id for item in found}) == training
    with pytest.raises(ValueError, match=f"'i0' has fewer than {training + 1} neighbours.*lower top_k"):
        Neighbours(pool, SPLIT, training + 1, 0.985).pictures(objective)
