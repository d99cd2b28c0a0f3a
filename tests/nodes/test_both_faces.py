"""A pool built on the command line opens in the nodes and gives the same neighbours, from the same weight files."""

import numpy as np
import pytest
import rig
import torch
from pack.iamg.pool import EmbeddingPool
from pack.nodes.encoders import ComfyEncoders
from PIL import Image
from safetensors.torch import save_file

from iamg.items import Item as CliItem
from iamg.pool_builder import build_pool as cli_build_pool
from iamg.scenarios import load_scenarios
from iamg.tagging import make_tagger
from iamg_train.encoders import ClipEncoders

COUNT = 10
TEXTS = [
    "Toy Story (1995). Genres: Adventure, Animation.",
    "embedding:foo and {a|b} with a \\ backslash",
    "Amélie – le fabuleux destin, 2001",
    "東京物語",
    "word " * 300,
    "",
]


@pytest.fixture(scope="module", autouse=True)
def as_comfyui_runs_nodes():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    """ComfyUI's CLIP and CLIP Vision, and the same weights as the files that ComfyUI reads."""
    folder = tmp_path_factory.mktemp("weights")
    clip, vision = rig.small_clip(), rig.small_clip_vision()
    text = clip.cond_stage_model.clip_l.transformer.state_dict()
    save_file(
        {f"cond_stage_model.transformer.{key}": x.contiguous() for key, x in text.items() if "projection" not in key},
        folder / "checkpoint.safetensors",
    )
    save_file({key: x.contiguous() for key, x in vision.model.state_dict().items()}, folder / "vision.safetensors")
    return clip, vision, folder / "checkpoint.safetensors", folder / "vision.safetensors"


def pictures():
    rng = np.random.default_rng(0)
    sizes = [(64, 96), (300, 200), (224, 224), (97, 331), (50, 50)] * 2
    return [
        Image.fromarray(rng.integers(0, 255, (h // 8 + 1, w // 8 + 1, 3), dtype=np.uint8)).resize((w, h))
        for w, h in sizes
    ]


@pytest.mark.parametrize("crop", ["center_crop", "pad", "squash"])
def test_both_faces_see_the_same_pictures(towers, crop):
    clip, vision, checkpoint, vision_file = towers
    ours = ComfyEncoders(clip, vision, crop).encode_images(pictures())
    theirs = ClipEncoders(checkpoint, vision_file, crop).encode_images(pictures())
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


def test_both_faces_read_the_same_texts(towers):
    clip, vision, checkpoint, vision_file = towers
    nodes, cli = ComfyEncoders(clip, vision, "center_crop"), ClipEncoders(checkpoint, vision_file)
    fitted = [nodes.fit_text(text) for text in TEXTS]
    assert fitted == [cli.fit_text(text) for text in TEXTS]
    ours, theirs = nodes.encode_texts(fitted), cli.encode_texts(fitted)
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


def test_a_pool_of_the_command_line_opens_in_the_node(towers, tmp_path):
    clip, vision, checkpoint, vision_file = towers
    items = []
    for number, picture in enumerate(pictures()):
        picture.save(tmp_path / f"{number}.png")
        items.append(CliItem(f"m{number}", f"Film {number}", f"A story of {number} friends", (), f"{number}.png"))
    cli = ClipEncoders(checkpoint, vision_file)
    scenario = load_scenarios()["movie poster"]
    cli_build_pool(tmp_path / "pool", items, tmp_path, cli, make_tagger("visual + keywords"), scenario)

    nodes = ComfyEncoders(clip, vision, "center_crop")
    with EmbeddingPool.open(tmp_path / "pool") as pool:
        nodes.check(pool)
        assert len(pool) == COUNT
        for text, picture in zip(["Film 3. A story of 3 friends", "friends", "a film"], pictures(), strict=False):
            for ours, theirs, search in (
                (nodes.encode_texts([text]), cli.encode_texts([text]), pool.search_text),
                (nodes.encode_images([picture]), cli.encode_images([picture]), pool.search_image),
            ):
                ours, theirs = search(ours[0], 4), search(theirs[0], 4)
                np.testing.assert_allclose([x.similarity for x in ours], [x.similarity for x in theirs], atol=1e-4)
                assert [x.item.item_id for x in ours] == [x.item.item_id for x in theirs]
