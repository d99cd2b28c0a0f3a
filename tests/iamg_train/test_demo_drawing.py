"""What is queued for each picture, seen by a server that draws nothing."""

from pathlib import PurePosixPath

import pytest

from iamg.interactions import UserHistory
from iamg_train.demo_drawing import Recipe, draw, mask_of
from iamg_train.demo_graph import Graph
from iamg_train.demo_task import WORKFLOWS

ANN, BEN = (UserHistory(user, "p1", ("p2", "p3")) for user in ("ann", "ben"))


class Server:
    def __init__(self):
        self.prompts = []

    def run(self, prompt, on_progress):
        self.prompts.append(prompt)
        on_progress(Graph("", prompt).id_of("KSampler"), 1, 2)
        told = {"iamg": [{"told": len(self.prompts)}], "images": [{"filename": f"{len(self.prompts)}.png"}]}
        return dict.fromkeys(prompt, told)

    def picture(self, shown):
        return shown["filename"].encode()


@pytest.fixture
def server():
    return Server()


def drawn(server, recipes, folder, name="mini_poster"):
    return draw(server, Graph.read(WORKFLOWS / f"{name}.json"), recipes, folder, PurePosixPath("uploads"))


def test_every_picture_is_drawn_once_from_the_same_noise(server, tmp_path):
    recipes = [Recipe(ANN, 1, 0.2), Recipe(BEN, 1, 0.2), Recipe(ANN, 1, 0.2), Recipe(ANN, 0.5, 0)]
    found = drawn(server, recipes, tmp_path)
    assert [found[recipe].picture for recipe in recipes] == [b"1.png", b"2.png", b"1.png", b"3.png"]
    assert found[recipes[1]].told["IRAFuse"] == {"told": 2}
    prompts = [Graph("", prompt) for prompt in server.prompts]
    assert len({graph.value("KSampler", "seed") for graph in prompts}) == 1
    assert [graph.value("IAMGUserHistory", "user_id") for graph in prompts] == ["ann", "ben", "ann"]
    assert [graph.value("IAMGAdapterApply", "text_weight") for graph in prompts] == [1, 1, 0.5]
    assert [graph.value("IAMGAdapterApply", "interest_weight") for graph in prompts] == [0.2, 0.2, 0]
    assert {graph.value("IAMGUserHistory", "objective_id") for graph in prompts} == {"p1"}


def test_the_items_own_mask_cuts_its_foreground_out(server, tmp_path):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "p1.png").touch()
    drawn(server, [Recipe(ANN, 1, 0.2)], tmp_path)
    graph = Graph("", server.prompts[0])
    assert graph.value("LoadImageMask", "image") == "uploads_mask_p1.png"
    assert graph.value("IAMGForeground", "mask") == [graph.id_of("LoadImageMask"), 0]


@pytest.mark.parametrize("name", ["mini_poster", "personalise_poster"])
def test_without_a_mask_the_whole_picture_counts(server, tmp_path, name):
    drawn(server, [Recipe(ANN, 1, 0.2)], tmp_path, name)
    graph = Graph("", server.prompts[0])
    assert not graph.has("LoadImageMask")
    assert "mask" not in graph.prompt[graph.id_of("IAMGForeground")]["inputs"]


def test_a_mask_lies_in_the_folder_of_masks_whatever_the_id(tmp_path):
    (tmp_path / "items" / "masks").mkdir(parents=True)
    for name in ("items/masks/p1.png", "secret.png"):
        (tmp_path / name).touch()
    assert mask_of("p1", tmp_path / "items") == tmp_path / "items" / "masks" / "p1.png"
    assert mask_of("../../secret", tmp_path / "items") is None
    assert mask_of("p2", tmp_path / "items") is None
