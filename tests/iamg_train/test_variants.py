"""Variants of the method: each draws what its name says, and every line of the manifest names it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from small_mini import busiest_users, write_config, write_mini

from iamg.adapter import load_adapter
from iamg.items import read_items
from iamg.pictures import open_picture
from iamg_train.cli import main
from iamg_train.diffusion_files import load_unet, load_vae
from iamg_train.encoders import ClipEncoders
from iamg_train.personalised_unet import Conditions, PersonalisedUNet
from iamg_train.sampling import draw_latents
from iamg_train.variants import KNOWN, PARTS, parse_variant, vary

SIZE, STEPS, SEED = 64, 1, 3


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    return write_mini(tmp_path_factory.mktemp("mini"))


@pytest.fixture(scope="module")
def config_file(mini, tmp_path_factory):
    return write_config(mini, tmp_path_factory.mktemp("run"), interest_tags=3, interest_weight=0.5)


@pytest.fixture(scope="module")
def draw(mini, config_file, tmp_path_factory):
    """The picture of one user under these flags, and its line of the manifest; or the exit status where that is not 0."""

    def draw(*flags):
        out = tmp_path_factory.mktemp("out")
        small = ["--pictures", 1, "--steps", STEPS, "--width", SIZE, "--height", SIZE, "--seed", SEED]
        words = ["generate", "--config", config_file, "--out", out, "--user", *busiest_users(mini, 1), *small, *flags]
        if status := main([str(word) for word in words]):
            return status
        (line,) = (out / "manifest.jsonl").read_text().splitlines()
        row = json.loads(line)
        return np.asarray(Image.open(out / row["file"])).astype(int), row

    return draw


@pytest.mark.parametrize(
    ("variant", "flags"),
    [
        ("without-foreground", ("--foreground", "none")),
        ("without-ira", ("--interest-weight", 0)),
        ("without-leave-one-out", ("--no-leave-one-out",)),
        ("pooled-query", ("--query", "pooled")),
        ("lambda1=0.5", ("--text-weight", 0.5)),
        ("lambda2=0.3", ("--interest-weight", 0.3)),
        ("H=1", ("--interest-tags", 1)),
        ("K=2", ("--top-k", 2)),
    ],
)
def test_a_variant_is_the_run_with_the_setting_that_it_names(variant, flags, draw):
    (picture, row), (by_flags, plain), (full, _) = draw("--variant", variant), draw(*flags), draw()
    assert np.array_equal(picture, by_flags) and not np.array_equal(picture, full)
    assert row == plain | {"variant": variant} and plain["variant"] == "full"


def test_without_rewrite_the_unet_reads_the_item_and_ira_asks_with_the_rewritten_text(draw, mini):
    picture, row = draw("--variant", "without-rewrite", "--foreground", "none", "--interest-weight", 2)
    full, told = draw("--foreground", "none", "--interest-weight", 2)
    assert row == told | {"variant": "without-rewrite"} and row["item_text"] != row["text"]
    encoders = ClipEncoders(mini["checkpoint"], mini["clip_vision"])
    items = {item.item_id: item for item in read_items(mini["world"], lambda *_: None)}
    assert row["item_text"] == items[row["objective"]].description
    shown = [items[x].picture for x in (row["objective"], *row["retrieved_pictures"])]
    images = torch.from_numpy(encoders.encode_images([open_picture(mini["world"] / x) for x in shown]))
    conditions = Conditions(
        text=encoders.encode_tokens([row["item_text"]]),
        image_embeds=images[:1],
        query=encoders.encode_tokens([row["text"]]),
        retrieved_text=encoders.encode_tokens([items[x].description for x in row["retrieved_texts"]])[None],
        retrieved_image=images[None, 1:],
        interest_weight=torch.tensor([2.0]),
    )
    model = PersonalisedUNet(load_unet(mini["checkpoint"]), load_adapter(mini["ip_adapter"]))
    noise = torch.randn(1, 4, SIZE // 8, SIZE // 8, generator=torch.Generator().manual_seed(SEED))
    latents = draw_latents(model, conditions, encoders.encode_tokens([""])[0], noise, STEPS, 7.5)
    expected = (load_vae(mini["checkpoint"]).decode(latents)[0] * 255).round().movedim(0, -1).numpy().astype(int)
    assert np.abs(picture - expected).max() <= 1
    assert np.abs(picture - full).max() > 1


def test_a_flag_and_a_variant_do_not_set_the_same(draw, capsys):
    assert draw("--variant", "without-foreground", "--foreground", "none") == 2
    assert "sets foreground" in capsys.readouterr().err
    assert draw("--variant", "lambda2=0.3", "--interest-weight", 0.3) == 2
    assert "sets interest_weight" in capsys.readouterr().err


def test_what_the_run_does_anyway_is_no_ablation(config_file):
    other = config_file.with_name("whole.toml")
    other.write_text(config_file.read_text().replace('foreground = "masks"', 'foreground = "none"'))
    with pytest.raises(ValueError, match="'without-foreground' is what the run does anyway: foreground = none"):
        PARTS["without-foreground"].config(other, {})
    assert vary("lambda2", 0.5).is_run(vary("lambda2", 0.5).config(config_file, {}))


@pytest.mark.parametrize("name", ["without-everything", "lambda3=1", "H", "H=", "H=two", "=1", "foreground=none"])
def test_an_unknown_variant_is_told_those_that_there_are(name, draw, capsys):
    assert draw("--variant", name) == 2
    error = capsys.readouterr().err
    assert f"no variant '{name}'" in error and KNOWN in error


@pytest.mark.parametrize(
    ("name", "told"), [("lambda2=-1", "interest-weight"), ("H=0", "interest-tags"), ("K=1.5", "top-k")]
)
def test_a_number_out_of_its_limits_is_the_settings_problem(name, told, draw, capsys):
    assert draw("--variant", name) == 2
    assert told in capsys.readouterr().err


def test_a_number_has_one_name():
    assert parse_variant("lambda2=0.30") == parse_variant("lambda2=.3") == vary("lambda2", 0.3)
    assert parse_variant("H=08").changes == {"interest_tags": 8}
