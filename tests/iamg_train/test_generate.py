"""Pictures without ComfyUI: against the method written out and diffusers' own IP-Adapter; resuming, names, bad input."""

import json
import os
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file
from small_catalogue import settings, write_world

from iamg.adapter import load_adapter
from iamg.interactions import read_history
from iamg.interests import rewrite
from iamg.pictures import open_picture
from iamg.pool import EmbeddingPool, LeaveOut
from iamg.prompt_text import fit_text
from iamg.scenarios import load_scenarios
from iamg_train import generate
from iamg_train.cli import main
from iamg_train.config import load_config
from iamg_train.diffusion_files import load_unet, load_vae
from iamg_train.encoders import ClipEncoders
from iamg_train.gallery import Gallery, picture_name
from iamg_train.personalised_unet import Conditions, PersonalisedUNet
from iamg_train.sampling import draw_latents
from iamg_train.wanted import Wanted, read_wanted

K, STEPS, SIZE = 3, 2, (64, 96)  # width, height
OBJECTIVE = "i2"  # blue, and met by neither user
RED, GREEN = "u0", "u1"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def config_file(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    config = load_config(None, settings(world, folder / "out", history_length=K, top_k=K))
    (folder / "config.toml").write_text(config.to_toml(), encoding="utf-8")
    return folder / "config.toml"


@pytest.fixture
def draw(config_file, tmp_path):
    """Runs the command into tmp_path / "out"; gives the exit status."""

    def draw(*flags, out=tmp_path / "out"):
        small = ["--pictures", 2, "--steps", STEPS, "--width", SIZE[0], "--height", SIZE[1]]
        return main([str(x) for x in ("generate", "--config", config_file, "--out", out, *small, *flags)])

    return draw


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def users_file(tmp_path):
    def write(*rows):
        path = tmp_path / "users.jsonl"
        path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
        return path

    return write


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def difference(a, b):
    return np.abs(pixels(a) - pixels(b)).max()


def manifest(out):
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def by_hand(world, user_id):
    """The user's T*, its conditions and the item's: the method, a function after the other."""
    encoders = ClipEncoders(world["checkpoint"], world["clip_vision"])
    with EmbeddingPool.open(world["pool"]) as pool:
        history = read_history(world["items"] / "interactions.csv", user_id, pool.contains, OBJECTIVE, K)
        item, liked = pool.item(OBJECTIVE), [pool.item(x).tags for x in history.items]
        count = encoders.tokenizer.count
        text = rewrite(item.description, item.tags, liked, load_scenarios()["movie poster"], count).text
        picture = encoders.encode_images([open_picture(world["items"] / item.picture)])
        leave_out = LeaveOut(OBJECTIVE, picture[0])
        near_texts = pool.search_text(encoders.encode_texts([text])[0], K, leave_out)
        near_pictures = pool.search_image(picture[0], K, leave_out)
        embeds = pool.image_embeds([x.item.row for x in near_pictures])
    tokens = encoders.encode_tokens([text])
    texts = encoders.encode_tokens([fit_text(x.item.description, count) for x in near_texts])
    conditions = Conditions(
        tokens, torch.from_numpy(picture), tokens, texts[None], torch.from_numpy(embeds)[None], torch.tensor([0.2])
    )
    said = {
        "history": list(history.items),
        "text": text,
        "retrieved_texts": [x.item.item_id for x in near_texts],
        "retrieved_pictures": [x.item.item_id for x in near_pictures],
    }
    return conditions, encoders.encode_tokens([""])[0], said


def noise(seed):
    return torch.randn(1, 4, SIZE[1] // 8, SIZE[0] // 8, generator=torch.Generator().manual_seed(seed))


def as_pixels(vae, latents):
    return (vae.decode(latents)[0] * 255).round().movedim(0, -1).numpy().astype(int)


def test_a_picture_is_the_method_done_by_hand_and_says_what_it_is(draw, world, out):
    assert draw("--user", RED, "--objective", OBJECTIVE, "--seed", 7) == 0
    conditions, empty, said = by_hand(world, RED)
    model = PersonalisedUNet(load_unet(world["checkpoint"]), load_adapter(world["ip_adapter"]))
    vae = load_vae(world["checkpoint"])
    for number in range(2):
        path = out / RED / f"{OBJECTIVE}_{number}.png"
        expected = as_pixels(vae, draw_latents(model, conditions, empty, noise(7 + number), STEPS, 7.5))
        assert pixels(path).shape == (*SIZE[::-1], 3) and expected.std() > 5
        assert np.abs(pixels(path) - expected).max() <= 1
        written = json.loads(Image.open(path).text["iamg"])
        assert written | said == written
        assert (written["user_id"], written["objective"], written["seed"]) == (RED, OBJECTIVE, 7 + number)
        assert (written["interest_weight"], written["steps"], written["guidance_scale"]) == (0.2, STEPS, 7.5)
        assert {len(written["weights"][x]) for x in ("checkpoint", "clip_vision", "ip_adapter")} == {32}
        assert manifest(out)[number] == {"file": f"{RED}/{OBJECTIVE}_{number}.png", **written}
    assert difference(*sorted(out.glob("*/*.png"))) > 1


def test_without_interest_it_is_diffusers_pipeline_with_ip_adapter(draw, world, out):
    assert draw("--user", RED, "--objective", OBJECTIVE, "--interest-weight", 0, "--pictures", 1) == 0
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    pipeline = StableDiffusionPipeline(
        None, None, None, load_unet(world["checkpoint"]), scheduler, None, None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    folder, name = world["ip_adapter"].parent, world["ip_adapter"].name
    pipeline.load_ip_adapter(str(folder), subfolder="", weight_name=name, image_encoder_folder=None)
    conditions, empty, _ = by_hand(world, RED)
    embeds = torch.stack([torch.zeros_like(conditions.image_embeds), conditions.image_embeds])
    latents = pipeline(
        prompt_embeds=conditions.text,
        negative_prompt_embeds=empty[None],
        ip_adapter_image_embeds=[embeds],
        latents=noise(0),
        width=SIZE[0],
        height=SIZE[1],
        num_inference_steps=STEPS,
        guidance_scale=7.5,
        output_type="latent",
    ).images
    expected = as_pixels(load_vae(world["checkpoint"]), latents)
    path = out / RED / f"{OBJECTIVE}_0.png"
    assert np.abs(pixels(path) - expected).max() <= 1
    other = out.with_name("with_interest")
    assert draw("--user", RED, "--objective", OBJECTIVE, "--pictures", 1, out=other) == 0
    assert difference(path, other / RED / path.name) > 5


def test_users_of_different_tastes_get_different_pictures_whoever_else_is_drawn(draw, out, users_file):
    file = users_file({"user_id": GREEN}, {"user_id": RED}, {"user_id": "u2", "objective": "i0"})
    assert draw("--users", file, "--objective", OBJECTIVE, "--pictures", 3) == 0
    files = sorted(path.relative_to(out).as_posix() for path in out.glob("*/*.png"))
    assert files == [f"{who}_{n}.png" for who in ("u0/i2", "u1/i2", "u2/i0") for n in range(3)]
    assert [line["file"] for line in manifest(out)] == files
    assert difference(out / RED / "i2_0.png", out / GREEN / "i2_0.png") > 5
    alone = out.with_name("alone")
    assert draw("--user", RED, "--objective", OBJECTIVE, out=alone) == 0
    for number in range(2):
        assert difference(out / RED / f"i2_{number}.png", alone / RED / f"i2_{number}.png") <= 1


def test_only_what_is_missing_is_drawn(draw, out, capsys, monkeypatch):
    assert draw("--user", RED, "--user", GREEN) == 0
    files = sorted(out.glob("*/*.png"))
    first, before = pixels(files[1]), {path: path.stat().st_mtime_ns for path in files}
    assert len(files) == 4 and "4 drawn, 0 there" in capsys.readouterr().out
    files[1].unlink()
    (out / "manifest.jsonl").write_text("stale")
    assert draw("--user", RED, "--user", GREEN, "--pictures", 3) == 0
    assert "3 drawn, 3 there" in capsys.readouterr().out
    assert {path for path in files if path.stat().st_mtime_ns != before[path]} == {files[1]}
    assert np.abs(pixels(files[1]) - first).max() <= 1
    assert len(manifest(out)) == len(list(out.glob("*/*.png"))) == 6

    monkeypatch.setattr(generate, "load_model", lambda *_: pytest.fail("nothing is to be drawn"))
    (out / "manifest.jsonl").unlink()
    assert draw("--user", RED, "--interest-weight", 0.1, 0.3) == 0  # a range stands for its middle
    assert len(manifest(out)) == 6


def test_ctrl_c_leaves_whole_pictures_and_a_manifest_of_them(draw, out, monkeypatch, capsys):
    painted = []

    def paint(self, pictures, progress):
        if painted:
            raise KeyboardInterrupt
        painted.extend(pictures)
        return [Image.new("RGB", SIZE) for _ in pictures]

    with monkeypatch.context() as patch:
        patch.setattr(generate.Painter, "draw", paint)
        assert draw("--user", RED, "--user", GREEN, "--pictures", 3) == 130
    assert "run the same command again" in capsys.readouterr().err
    assert {path.suffix for path in out.glob("*/*")} == {".png"}
    assert [line["file"] for line in manifest(out)] == sorted(picture.name for picture in painted)
    assert draw("--user", RED, "--user", GREEN, "--pictures", 3) == 0
    assert "2 drawn, 4 there" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--steps", 3), "steps was 2, is 3"),
        (("--seed", 1), "seed was 0, is 1"),
        (("--interest-weight", 0.3), "interest_weight was 0.2, is 0.3"),
        (("--history-length", 2), "history was"),
    ],
)
def test_a_picture_of_other_settings_is_never_touched(draw, out, capsys, flags, told):
    assert draw("--user", RED, "--pictures", 1) == 0
    path = next(out.glob("*/*.png"))
    painted = path.read_bytes()
    assert draw("--user", RED, "--pictures", 1, *flags) == 2
    error = capsys.readouterr().err
    assert told in error and "choose another --out" in error and path.name in error
    assert path.read_bytes() == painted


def test_other_weights_are_other_settings(draw, world, out, tmp_path, capsys):
    assert draw("--user", RED, "--pictures", 1) == 0
    state = load_file(world["ip_adapter"])
    save_file(state, tmp_path / "same.safetensors")
    assert draw("--user", RED, "--pictures", 1, "--ip-adapter", tmp_path / "same.safetensors") == 0
    assert "0 drawn, 1 there" in capsys.readouterr().out
    state["ip_adapter.1.to_k_ip.weight"][0, 0] += 1e-3
    save_file(state, tmp_path / "other.safetensors")
    assert draw("--user", RED, "--pictures", 1, "--ip-adapter", tmp_path / "other.safetensors") == 2
    assert "weights was" in capsys.readouterr().err


def test_a_picture_from_elsewhere_keeps_its_place(draw, out, capsys):
    (out / RED).mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(out / RED / f"{OBJECTIVE}_1.png")
    assert draw("--user", RED, "--objective", OBJECTIVE) == 2
    assert "was not drawn by" in capsys.readouterr().err
    assert pixels(out / RED / f"{OBJECTIVE}_1.png").shape == (8, 8, 3)


def test_a_file_of_users_leaves_out_who_cannot_be_drawn_for_and_says_so(draw, world, out, users_file, capsys, tmp_path):
    interactions = tmp_path / "interactions.csv"
    lines = (world["items"] / "interactions.csv").read_text()
    interactions.write_text(lines + "".join(f"45,i{n},5,{n}\n" for n in range(K + 1)) + "short,i1,5,1\nshort,i2,5,2\n")
    rows = [{"user_id": 45}, {"user_id": "short"}, {"user_id": "nobody"}, {"user_id": "45", "objective": "i99"}, ""]
    file = users_file(*rows, {"user_id": "45", "objective": "i3"})
    assert draw("--users", file, "--interactions", interactions, "--pictures", 1) == 0
    told = capsys.readouterr().out
    assert "3 of 5 users skipped" in told
    assert "short: has 1 liked items before 'i2', 3 are needed" in told
    assert "nobody: interactions.csv has no such user" in told and "no item 'i99'" in told
    assert [line["file"] for line in manifest(out)] == ["45/i3_0.png"]  # named twice, drawn once

    assert draw("--user", "short", "--interactions", interactions) == 2
    assert "user 'short' cannot be drawn for: has 1 liked items" in capsys.readouterr().err
    assert draw("--users", users_file({"user_id": "nobody"})) == 2
    assert "user 'nobody' cannot be drawn for" in capsys.readouterr().err


def test_numbers_are_ids_and_a_line_names_its_objective_or_takes_the_general_one(users_file):
    rows = {"user_id": 45, "objective": 0}, {"user_id": "45", "objective": None}, {"user_id": "45", "objective": ""}
    file = users_file(*rows, '{"user_id": "a\u2028b"}')
    assert read_wanted(file, "i7") == [Wanted("45", "0"), Wanted("45", "i7"), Wanted("a\u2028b", "i7")]


@pytest.mark.parametrize(
    "line", ["u0", '{"user": "u0"}', '{"user_id": null}', '{"user_id": true}', '["u0"]', '{"user_id": "\\ud800"}']
)
def test_a_line_that_names_no_user_is_named(draw, users_file, capsys, line):
    assert draw("--users", users_file({"user_id": RED}, line)) == 2
    assert "users.jsonl line 2 is not as expected" in capsys.readouterr().err


def test_a_mask_sets_the_foreground_on_white(draw, world, out, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    mask = np.zeros((72, 64), np.uint8)
    mask[20:50, 20:50] = 255
    Image.fromarray(mask).save(masks / f"{OBJECTIVE}.png")
    flags = ("--user", RED, "--objective", OBJECTIVE, "--pictures", 1)
    assert draw(*flags, "--foreground", "masks", "--masks", masks) == 0
    assert draw(*flags, out=tmp_path / "whole") == 0
    assert manifest(out)[0]["foreground"] and not manifest(tmp_path / "whole")[0]["foreground"]
    assert difference(out / RED / f"{OBJECTIVE}_0.png", tmp_path / "whole" / RED / f"{OBJECTIVE}_0.png") > 1


def test_numbers_that_overflow_leave_no_picture(draw, out, capsys):
    assert draw("--user", RED, "--pictures", 1, "--guidance-scale", "1e38") == 2
    assert "not finite in float32" in capsys.readouterr().err
    assert not list(out.glob("*/*"))


def test_no_id_leads_out_of_the_folder_and_no_two_share_a_name(tmp_path):
    ids = ["..", ".", "../../x", "/etc/passwd", "a/b", "a\\b", "C:\\x", "nul\0", "é" * 300, "é" * 301, "a%2Fb", "x"]
    names = [picture_name(user_id, item_id, 0) for user_id in ids for item_id in ids]
    assert len(set(names)) == len(names)
    gallery = Gallery(tmp_path / "out")
    for name in names:
        gallery.add(name, Image.new("RGB", (1, 1)), {"name": name})
    assert {path.relative_to(gallery.folder).as_posix() for path in gallery.folder.glob("*/*")} == set(names)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (tmp_path / "elsewhere").mkdir()
    (gallery.folder / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="leads out of"):
        gallery.holds("link/x_0.png", {})


def test_a_picture_that_could_not_be_written_whole_is_not_there(tmp_path, monkeypatch):
    gallery = Gallery(tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", Mock(side_effect=OSError("no space left on device")))
        with pytest.raises(OSError, match="no space"):
            gallery.add("u/x_0.png", Image.new("RGB", (1, 1)), {"seed": 0})
    assert not list((tmp_path / "out").rglob("*.png"))
    assert not gallery.holds("u/x_0.png", {"seed": 0}) and not Gallery(tmp_path / "out").holds("u/x_0.png", {"seed": 0})


@pytest.mark.parametrize(
    "flags", [(), ("--user", "a", "--users", "b"), ("--user", "a", "--width", "60"), ("--user", "a", "--pictures", "0")]
)
def test_wrong_flags_are_answered_with_the_usage(draw, flags, capsys):
    with pytest.raises(SystemExit, match="2"):
        draw(*flags)
    assert "usage: iamg-train generate" in capsys.readouterr().err
