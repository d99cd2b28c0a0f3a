"""The command line: pools built, told about and verified; bad input answered with one line and status 2."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from iamg.pool import EmbeddingPool
from iamg_train import pool_commands
from iamg_train.cli import main


class MeanColour:
    """Encoders that need no weights: letters counted, and the mean colour."""

    crop = "center_crop"

    def encode_texts(self, texts):
        return np.array([[1 + text.lower().count(letter) for letter in "aeiou"] for text in texts], dtype=np.float32)

    def encode_images(self, images):
        return np.array([np.asarray(image).mean((0, 1)) + 1 for image in images], dtype=np.float32)

    def fit_text(self, text):
        return text


@pytest.fixture
def encoders(monkeypatch):
    encoders = MeanColour()
    monkeypatch.setattr(pool_commands, "load_encoders", lambda arguments: encoders)
    return encoders


@pytest.fixture
def items(tmp_path):
    folder = tmp_path / "fruit"
    folder.mkdir()
    for name, colour in (("apple", "red"), ("banana", "yellow"), ("plum", "purple")):
        Image.new("RGB", (20, 30), colour).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(f"A ripe {name} on a table.")
    return folder


def build(items, *more):
    files = ["--checkpoint", "unread.safetensors", "--clip-vision", "unread.safetensors"]
    return main(["pool", "build", str(items), *files, "--out", str(items.parent), "--name", "pool", *map(str, more)])


def test_build_info_and_verify(items, encoders, capsys):
    (items / "broken.png").write_bytes(b"no picture")
    (items / "broken.txt").write_text("A broken file.")
    assert build(items) == 0
    told = capsys.readouterr().out
    assert "3 items" in told and "1 skipped" in told and "broken.png" in told
    with EmbeddingPool.open(items.parent / "pool") as pool:
        assert len(pool) == 3 and pool.scenario == "movie poster"
        assert pool.search_image(np.array([255, 0, 0]), 1)[0].item.item_id == "apple"
    assert main(["pool", "info", str(items.parent / "pool")]) == 0
    assert "5-d, exact search" in capsys.readouterr().out
    assert main(["pool", "verify", str(items.parent / "pool")]) == 0


def test_verify_lists_what_is_damaged_and_returns_1(items, encoders, capsys):
    build(items)
    thumbnail = next((items.parent / "pool" / "thumbs").rglob("*.jpg"))
    thumbnail.write_bytes(thumbnail.read_bytes()[:-1])
    vectors = items.parent / "pool" / "text.safetensors"
    capsys.readouterr()
    assert main(["pool", "verify", str(items.parent / "pool")]) == 1
    assert thumbnail.name in capsys.readouterr().out
    vectors.write_bytes(vectors.read_bytes()[:-1])
    assert main(["pool", "verify", str(items.parent / "pool")]) == 1
    assert "text.safetensors" in capsys.readouterr().out


def test_ctrl_c_leaves_a_build_that_goes_on(items, encoders, capsys, monkeypatch):
    encoded = []

    def count(images):
        encoded.append(len(images))
        return MeanColour().encode_images(images)

    def interrupt(images):
        if sum(encoded) > 1:
            raise KeyboardInterrupt
        return count(images)

    monkeypatch.setattr(encoders, "encode_images", interrupt, raising=False)
    assert build(items, "--batch-size", 1) == 130
    assert "run the same command again to go on" in capsys.readouterr().err
    assert not (items.parent / "pool").exists()
    done = sum(encoded)
    monkeypatch.setattr(encoders, "encode_images", count, raising=False)
    assert build(items, "--batch-size", 1) == 0
    assert sum(encoded) - done < 1 + 3  # the probe, and fewer than all items
    with EmbeddingPool.open(items.parent / "pool") as pool:
        assert len(pool) == 3


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["pool", "info", "nowhere"], "nowhere is no pool"),
        (["pool", "verify", "nowhere"], "nowhere is no pool"),
        (["pool", "build", "nowhere", "--checkpoint", "a", "--clip-vision", "b"], "folder nowhere does not exist"),
        (["demo", "--checkpoint", "a.safetensors", "--server", "http://127.0.0.1:9"], "together, or none"),
        (["demo", "--ip-adapter", "a.safetensors", "--server", "http://127.0.0.1:9"], "a.safetensors does not exist"),
        (["demo", "--interactions", "a.csv", "--server", "http://127.0.0.1:9"], "--interactions needs --items"),
        (["demo", "--items", "nowhere", "--server", "http://127.0.0.1:9"], "interactions.csv does not exist"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_status_2(argv, reason, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("iamg_train.demo_task.draw_catalogue", lambda folder: folder.mkdir())
    assert main(argv) == 2
    line = capsys.readouterr().err
    assert line.startswith("iamg-train: error: ") and reason in line and line.count("\n") == 1


def test_weights_that_are_missing_are_named(items, tmp_path, capsys):
    assert build(items, "--device", "cpu") == 2
    assert "unread.safetensors does not exist" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_named(items, capsys):
    assert build(items, "--device", "warp9") == 2
    assert "device 'warp9' cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv", [[], ["pool"], ["pool", "build"], ["demo", "--steps", "0"], ["demo", "--crop", "round"]]
)
def test_wrong_arguments_are_answered_with_the_usage(argv, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(argv)
    assert "usage: iamg-train" in capsys.readouterr().err


def test_help_needs_no_torch():
    code = (
        "import sys; from iamg_train.cli import main\ntry: main(['demo', '--help'])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'transformers', 'faiss'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
