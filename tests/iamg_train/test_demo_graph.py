"""A workflow's inputs changed, each node found by its class."""

import pytest

from iamg_train.demo_graph import Graph
from iamg_train.demo_task import WORKFLOWS


def graph() -> Graph:
    prompt = {
        "1": {"class_type": "LoadImageMask", "inputs": {"image": "a.png"}},
        "2": {"class_type": "IAMGForeground", "inputs": {"image": ["3", 0], "mask": ["1", 0]}},
        "3": {"class_type": "LoadImage", "inputs": {"image": "b.png"}},
        "4": {"class_type": "LoadImage", "inputs": {"image": "c.png"}},
    }
    return Graph("small.json", prompt)


def test_what_is_none_stays_as_it_was():
    changed = graph()
    changed.put("LoadImageMask", image=None)
    assert changed.value("LoadImageMask", "image") == "a.png"
    changed.put("LoadImageMask", image="d.png")
    assert changed.value("LoadImageMask", "image") == "d.png"


def test_a_node_leaves_with_its_links_and_a_copy_keeps_both():
    whole = graph()
    without = whole.copy()
    without.remove("LoadImageMask")
    assert without.prompt["2"]["inputs"] == {"image": ["3", 0]} and not without.has("LoadImageMask")
    assert whole.prompt == graph().prompt


@pytest.mark.parametrize(("node", "count"), [("LoadImage", 2), ("KSampler", 0)])
def test_a_node_that_is_there_twice_or_never_is_told(node, count):
    with pytest.raises(ValueError, match=f"small.json has {count} {node} nodes"):
        graph().id_of(node)


@pytest.mark.parametrize("name", ["mini_poster", "personalise_poster"])
def test_the_shipped_workflows_have_every_node_that_the_demo_fills(name):
    shipped = Graph.read(WORKFLOWS / f"{name}.json")
    for node in (
        "EmbeddingPoolLoader",
        "IAMGUserHistory",
        "InterestRewrite",
        "TopKRetriever",
        "IRAFuse",
        "IAMGAdapterApply",
        "EmptyLatentImage",
        "KSampler",
        "SaveImage",
    ):
        assert shipped.id_of(node)
    loaded = {"mini_poster": {"ip_adapter"}, "personalise_poster": {"checkpoint", "clip_vision", "ip_adapter"}}
    assert set(shipped.model_places()) == loaded[name]


def test_a_missing_workflow_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="run from a clone"):
        Graph.read(tmp_path / "x.json")
