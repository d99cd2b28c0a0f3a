"""The prepared folder: read back as written, refused when it is anything else, and its pictures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from iamg_train import prepared
from iamg_train.prepared import Prepared, Sample, write_prepared

SAMPLE = Sample(
    split="train",
    user_id="ü1",
    objective="m1",
    history=("m2", "m3"),
    text='A "film"\nwith lines. This movie poster is about night.',
    item_text="A film.",
    retrieved_texts=("one", "two"),
    retrieved_ids=("m4", "m5"),
    retrieved_text_ids=("m5", "m6"),
    picture="pictures/m1.png",
    picture_hash="0" * 32,
    foreground=None,
)
SAMPLES = [SAMPLE, replace(SAMPLE, split="test", history=()), replace(SAMPLE, split="control", user_id="v")]
PARAMETERS = {"history_length": 2, "interest_tags": 8, "top_k": 2, "crop": "pad"}
EMBEDS = {"m4": np.array([1.5, -2, 1e-9], np.float32), "m5": np.array([0, 3, 1e9], np.float32)}


@pytest.fixture
def folder(tmp_path):
    write_prepared(tmp_path / "prepared", SAMPLES, PARAMETERS, {"train": 1, "test": 1}, EMBEDS)
    return tmp_path / "prepared"


def test_what_was_written_is_read_back(folder, tmp_path):
    opened = Prepared.open(folder, tmp_path)
    assert [opened.samples(split) for split in ("train", "test", "control")] == [[sample] for sample in SAMPLES]
    assert opened.parameters == PARAMETERS and opened.counts == {"train": 1, "test": 1}
    assert (opened.history_length, opened.interest_tags, opened.top_k, opened.image_width) == (2, 8, 2, 3)
    embeds = opened.image_embeds(["m5", "m4", "m5"])
    assert embeds.dtype == torch.float32 and np.array_equal(embeds, np.stack([EMBEDS[x] for x in ("m5", "m4", "m5")]))


def test_the_data_hash_follows_samples_and_parameters_and_not_the_place(folder, tmp_path):
    def data_hash(samples=SAMPLES, parameters=PARAMETERS):
        write_prepared(tmp_path / "other", samples, parameters, {}, EMBEDS)
        return Prepared.open(tmp_path / "other", tmp_path).data_hash

    own = Prepared.open(folder, tmp_path).data_hash
    assert data_hash() == own
    assert len({own, data_hash(SAMPLES[:2]), data_hash(parameters=PARAMETERS | {"top_k": 1})}) == 3


def test_the_same_again_leaves_the_files_alone(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    write_prepared(folder, SAMPLES, PARAMETERS, {"train": 1, "test": 1}, EMBEDS)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize("name", ["samples.jsonl", "retrieved.safetensors"])
@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data.replace(b"m4", b"m5"), None])
def test_changed_files_are_refused_by_name(folder, tmp_path, name, change):
    path = folder / name
    path.write_bytes(change(path.read_bytes())) if change else path.unlink()
    with pytest.raises(ValueError, match=rf"prepared folder {folder} cannot be used: .*{name}.*data prepare"):
        Prepared.open(folder, tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format_version": 1}', "null", '{"format_version": 99}'])
def test_other_manifests_are_refused(folder, tmp_path, content):
    (folder / "prepared.json").write_text(content)
    with pytest.raises(ValueError, match=f"{folder} cannot be used"):
        Prepared.open(folder, tmp_path)


def test_a_folder_that_was_never_prepared_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{tmp_path} holds no prepared data.*data prepare"):
        Prepared.open(tmp_path, tmp_path)


def test_the_condition_is_the_foreground_on_white(tmp_path):
    random = np.random.default_rng(0)
    pixels, mask = random.integers(0, 256, (6, 5, 3), np.uint8), random.integers(0, 256, (6, 5), np.uint8)
    (tmp_path / "items" / "pictures").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "items" / "pictures" / "m1.png")
    masked = replace(SAMPLE, foreground="foregrounds/m1.png")
    write_prepared(tmp_path / "prepared", [masked], PARAMETERS, {}, EMBEDS)
    (tmp_path / "prepared" / "foregrounds").mkdir()
    Image.fromarray(mask).save(tmp_path / "prepared" / "foregrounds" / "m1.png")
    opened = Prepared.open(tmp_path / "prepared", tmp_path / "items")
    share = mask[..., None].astype(np.float64) / 255
    expected = np.round(pixels * share + 255 * (1 - share))
    made = np.asarray(opened.condition_picture(masked)).astype(int)
    assert np.abs(made - expected).max() <= 1 and (made == expected).mean() > 0.95
    assert np.array_equal(opened.condition_picture(SAMPLE), pixels)
    assert np.array_equal(opened.open_picture(masked), pixels)


@pytest.mark.parametrize("field", ["picture", "foreground"])
def test_paths_that_lead_out_are_refused(tmp_path, field):
    folder = tmp_path / "prepared"
    sample = replace(SAMPLE, **{"picture": "m1.png", field: "../secret.png"})
    write_prepared(folder, [sample], PARAMETERS, {}, EMBEDS)
    (folder / "items").mkdir()
    for name in ("secret.png", "prepared/secret.png", "prepared/items/m1.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    with pytest.raises(ValueError, match="'../secret.png' leads out of"):
        Prepared.open(folder, folder / "items").condition_picture(sample)


def test_a_kill_between_two_files_is_noticed_and_mended_by_the_next_run(folder, tmp_path, monkeypatch):
    whole = prepared.write_whole

    def killed_before_the_manifest(path, content):
        if path.name == "prepared.json":
            raise KeyboardInterrupt
        whole(path, content)

    monkeypatch.setattr(prepared, "write_whole", killed_before_the_manifest)
    with pytest.raises(KeyboardInterrupt):
        write_prepared(folder, SAMPLES[:1], PARAMETERS, {"train": 1}, EMBEDS)
    with pytest.raises(ValueError, match="samples.jsonl does not hold what was written; run .*data prepare. again"):
        Prepared.open(folder, tmp_path)
    monkeypatch.undo()
    write_prepared(folder, SAMPLES[:1], PARAMETERS, {"train": 1}, EMBEDS)
    assert Prepared.open(folder, tmp_path).samples("train") == [SAMPLE]
