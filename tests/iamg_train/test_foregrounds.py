"""Masks from rembg, with a tiny network in its model's format, and from a folder of the user's own."""

import sys

import numpy as np
import pytest
from PIL import Image

from iamg_train.foregrounds import MODEL, FolderMasks, RembgMasks, find_foregrounds
from iamg_train.objectives import Objective
from iamg_train.whole_files import file_hash


@pytest.fixture
def items(tmp_path):
    """Two pictures, the left half of each white."""
    folder = tmp_path / "items"
    folder.mkdir()
    for name, size in (("tall", (40, 60)), ("wide", (80, 30))):
        picture = Image.new("RGB", size, "black")
        picture.paste("white", (0, 0, size[0] // 2, size[1]))
        picture.save(folder / f"{name}.png")
    return folder


@pytest.fixture
def objectives(items):
    return [Objective(f"{path.stem} id", path.name, file_hash(path)) for path in sorted(items.iterdir())]


@pytest.fixture
def brightness_network(tmp_path, monkeypatch):
    """ISNet's inputs and outputs; the mask is the mean of the colours."""
    pytest.importorskip("rembg", reason='rembg is not installed: pip install "rembg[cpu]"')
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    from onnx import TensorProto, helper

    outputs = [
        helper.make_tensor_value_info(f"output{number}", TensorProto.FLOAT, [1, 1, 1024, 1024]) for number in range(2)
    ]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["input", "third"], ["output0"], kernel_shape=[1, 1]),
            helper.make_node("Sigmoid", ["output0"], ["output1"]),
        ],
        "brightness",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 1024, 1024])],
        outputs,
        [helper.make_tensor("third", TensorProto.FLOAT, [1, 3, 1, 1], [1 / 3] * 3)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / f"{MODEL}.onnx")
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))


def nothing(done, total):
    """No progress is shown."""


def test_rembg_cuts_each_picture_out_once(items, objectives, brightness_network, tmp_path, monkeypatch):
    told = []
    found = find_foregrounds(tmp_path, objectives, RembgMasks(items), lambda *numbers: told.append(numbers))
    assert found.keys() == {"tall id", "wide id"} and told == [(1, 2), (2, 2)]
    for name, size in (("tall", (40, 60)), ("wide", (80, 30))):
        mask = Image.open(tmp_path / found[f"{name} id"])
        half = size[0] // 2
        assert mask.mode == "L" and mask.size == size
        assert (np.asarray(mask)[:, : half - 2] > 250).all() and (np.asarray(mask)[:, half + 2 :] < 5).all()

    def refuse(self, objective):
        raise AssertionError(f"{objective} was cut out again")

    monkeypatch.setattr(RembgMasks, "make", refuse)
    assert find_foregrounds(tmp_path, objectives, RembgMasks(items), nothing) == found


def test_a_killed_run_goes_on_where_it_stopped(items, objectives, brightness_network, tmp_path):
    def kill(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_foregrounds(tmp_path, objectives, RembgMasks(items), kill)
    (first,) = (tmp_path / "foregrounds").iterdir()
    (tmp_path / "foregrounds" / "cut short.png.part").write_bytes(b"half a mask")
    written = first.stat().st_mtime_ns
    assert len(find_foregrounds(tmp_path, objectives, RembgMasks(items), nothing)) == 2
    assert first.stat().st_mtime_ns == written


@pytest.mark.parametrize("missing", [ImportError("no rembg"), SystemExit(1)])
def test_without_rembg_it_is_said_how_to_install_it(items, objectives, tmp_path, monkeypatch, missing):
    class Finder:
        def find_spec(self, name, *_):
            if name == "rembg":
                raise missing

    monkeypatch.delitem(sys.modules, "rembg", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(ValueError, match=r'pip install "rembg\[cpu\]"'):
        find_foregrounds(tmp_path, objectives, RembgMasks(items), nothing)


def test_a_network_that_cannot_be_loaded_is_named(items, objectives, brightness_network, tmp_path):
    (tmp_path / f"{MODEL}.onnx").write_bytes(b"half a download")
    with pytest.raises(ValueError, match=f"cannot load {MODEL}.*U2NET_HOME"):
        find_foregrounds(tmp_path, objectives, RembgMasks(items), nothing)


def test_the_users_masks_are_found_by_item_or_picture(items, objectives, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.new("L", (7, 5), 200).save(masks / "tall id.png")
    Image.new("RGBA", (9, 9), (90, 255, 90, 255)).save(masks / "wide.png")
    found = find_foregrounds(tmp_path, objectives, FolderMasks(masks), nothing)
    own, named = (Image.open(tmp_path / found[name]) for name in ("tall id", "wide id"))
    assert (own.mode, own.size, own.getextrema()) == ("L", (7, 5), (200, 200))
    assert named.mode == "L" and named.getextrema()[0] > 128

    Image.new("L", (7, 5), 220).save(masks / "tall id.png")
    changed = find_foregrounds(tmp_path, objectives, FolderMasks(masks), nothing)
    assert changed["wide id"] == found["wide id"] and changed["tall id"] != found["tall id"]
    assert Image.open(tmp_path / changed["tall id"]).getextrema() == (220, 220)


def test_no_mask_and_a_black_mask_leave_the_whole_picture(items, objectives, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.new("L", (4, 4), 0).save(masks / "wide id.png")
    assert find_foregrounds(tmp_path, objectives, FolderMasks(masks), nothing) == {}


def test_a_missing_folder_and_a_broken_mask_are_named(objectives, tmp_path):
    with pytest.raises(FileNotFoundError, match="masks.*does not exist"):
        FolderMasks(tmp_path / "masks")
    (tmp_path / "tall.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="tall.png cannot be read"):
        find_foregrounds(tmp_path, objectives, FolderMasks(tmp_path), nothing)


def test_an_item_cannot_name_a_mask_outside_the_folder(tmp_path):
    (tmp_path / "masks").mkdir()
    Image.new("L", (4, 4), 255).save(tmp_path / "secret.png")
    stranger = Objective("../secret", "../secret.jpg", "0" * 32)
    assert FolderMasks(tmp_path / "masks").key(stranger) is None
