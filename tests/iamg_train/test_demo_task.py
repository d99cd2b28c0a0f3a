"""What the demo draws with: its own where nothing is given, and what fits what is given."""

import pytest

from iamg.mini.places import ADAPTER, IP_ADAPTER
from iamg.pool import EmbeddingPool
from iamg_train import demo_world
from iamg_train.cli import _parser
from iamg_train.demo_task import prepare


@pytest.fixture(autouse=True)
def small_world(monkeypatch):
    monkeypatch.setattr(demo_world, "ITEMS", 12)
    monkeypatch.setattr(demo_world, "USERS", 3)


def prepared(*argv):
    return prepare(_parser().parse_args(["demo", *map(str, argv)]))


@pytest.mark.slow
def test_with_nothing_given_all_comes_from_the_pack(tmp_path, monkeypatch):
    task = prepared("--out", tmp_path)
    assert task.drawn and task.weights.mini and task.weights.ip_adapter == ADAPTER
    assert task.weights.workflow.name == "mini_poster.json" and task.pool.name == "iamg_mini"
    with EmbeddingPool.open(task.pool) as pool:
        assert len(pool) == 12
        assert (pool.scenario, pool.tagger) == ("mini poster", "clip + keywords")

    monkeypatch.setattr(
        "iamg_train.pool_commands.build_from_folder", lambda *_: pytest.fail("the pool was built again")
    )
    assert prepared("--out", tmp_path) == task


@pytest.mark.slow
def test_own_items_are_tagged_as_film_posters_and_an_adapter_alone_is_for_the_packs_model(tmp_path):
    items = prepared("--out", tmp_path).items
    task = prepared("--out", tmp_path, "--items", items, "--ip-adapter", IP_ADAPTER)
    assert not task.drawn and task.weights.mini and task.weights.ip_adapter == IP_ADAPTER
    assert task.pool.name == "iamg_mini_catalogue"
    with EmbeddingPool.open(task.pool) as pool:
        assert (pool.scenario, pool.tagger) == ("movie poster", "visual + keywords")


def test_real_weights_have_their_own_workflow_and_pool(tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr("iamg_train.pool_commands.build_from_folder", lambda *given: built.append(given))
    files = [tmp_path / name for name in ("sd15", "vision", "adapter")]
    for file in files:
        file.touch()
    flags = zip(("--checkpoint", "--clip-vision", "--ip-adapter"), files, strict=True)
    task = prepared("--out", tmp_path, *(x for pair in flags for x in pair))
    assert not task.weights.mini and list(task.weights.__dict__.values())[:3] == files
    assert task.weights.workflow.name == "personalise_poster.json" and task.pool.name == "iamg_demo"
    assert [destination for _, _, destination in built] == [task.pool]


@pytest.mark.slow
def test_a_changed_item_makes_the_pool_stale(tmp_path, monkeypatch):
    task = prepared("--out", tmp_path)
    (task.items / "metadata.jsonl").touch()
    built = []
    monkeypatch.setattr("iamg_train.pool_commands.build_from_folder", lambda *given: built.append(given))
    prepared("--out", tmp_path)
    assert built
