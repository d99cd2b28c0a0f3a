"""The training step's benchmark: both sides run one model, and its report holds what it promises."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import default_collate

from benchmarks import train_step
from benchmarks.cached_step import Floor, make_trainer
from benchmarks.seeded_models import SIZES, make_unet, same_unet
from benchmarks.tutorial_step import TutorialStep
from iamg_train.personalised_unet import cross_attentions

SIZE = SIZES["small"]
STEP = (SIZE, 2, 64, torch.device("cpu"))  # two pictures of 64 pixels
FLAGS = ["--size", "small", "--device", "cpu", "--resolution", "64", "--threads", "1"]
FLAGS += ["--rounds", "2", "--steps-a-round", "1"]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def trainer(tmp_path):
    return make_trainer(make_unet(SIZE), *STEP, 1, tmp_path)


@pytest.fixture
def tutorial():
    return TutorialStep(make_unet(SIZE), *STEP, torch.float32)


def noisy_batch(trainer):
    batch = default_collate([trainer.examples[n] for n in range(2)])
    return trainer.noise_schedule.add_noise(batch.latents, batch.noise, batch.timestep), batch


@torch.no_grad()
def test_with_the_same_weights_and_no_interest_both_sides_predict_the_same(trainer, tutorial):
    ours, theirs = trainer.model, tutorial.model
    theirs.image_proj_model.load_state_dict(ours.adapter.image_proj.state_dict())
    for name, block in zip(cross_attentions(theirs.unet), ours.adapter.ip_adapter.values(), strict=True):
        processor = theirs.unet.attn_processors[f"{name}.processor"]
        processor.to_k_ip[0].weight.copy_(block.to_k_ip.weight)
        processor.to_v_ip[0].weight.copy_(block.to_v_ip.weight)
    noisy, batch = noisy_batch(trainer)
    given = batch.conditions._replace(interest_weight=torch.zeros(2))
    expected = theirs(noisy, batch.timestep, given.text, given.image_embeds)
    assert (ours(noisy, batch.timestep, given) - expected).norm() < 1e-5 * expected.norm()


def test_the_tutorials_step_trains_the_adapter_alone_and_its_checkpoint_has_the_u_net(tutorial, tmp_path):
    before = {name: weight.clone() for name, weight in tutorial.model.state_dict().items()}
    tutorial()
    tutorial.save(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    changed = {name for name, weight in tutorial.model.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed == {name for name in before if "_ip." in name or name.startswith("image_proj_model.")}
    assert sum(weight.numel() for weight in saved.values()) == sum(p.numel() for p in tutorial.model.parameters())
    assert (tmp_path / "optimizer.bin").is_file()


def test_the_floor_is_the_same_prediction_and_leaves_the_adapter_without_gradients(trainer):
    floor = Floor(trainer)
    noisy, batch = noisy_batch(trainer)
    with torch.no_grad():
        predicted = trainer.model.predict(floor.noisy, floor.timesteps, floor.guidance)
        assert torch.equal(predicted, trainer.model(noisy, batch.timestep, batch.conditions))
    floor()
    assert all(p.grad is None for p in trainer.model.parameters())


def test_half_precision_shares_no_weight_and_full_precision_all(trainer):
    unet = trainer.model.unet
    for dtype, shares in ((torch.float32, True), (torch.bfloat16, False)):
        twin = same_unet(unet, dtype)
        assert twin.dtype == dtype
        assert (twin.conv_in.weight.data_ptr() == unet.conv_in.weight.data_ptr()) == shares
        assert torch.equal(twin.conv_in.weight, unet.conv_in.weight.to(dtype))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_round_times_all_three_and_our_checkpoint_is_what_trains_thrice(precision, tmp_path):
    settings, _ = train_step.parse([*FLAGS, "--precision", precision])
    measured = train_step.compare(settings, tmp_path)
    report = train_step.summarise(settings, measured, {"tutorial": 400, "ours": 200, "U-Net alone": 100})
    assert {name: len(parts["step"]) for name, parts in measured.items()} == dict.fromkeys(measured, settings.rounds)
    for name in ("tutorial", "ours", "U-Net alone"):
        speed = report[name]["samples_per_second"]
        assert 0 < speed["min"] <= speed["median"] <= speed["max"]
    channels = [32] * 5 + [64] * 5 + [128] * 6  # small's 16 cross-attentions
    trained = 3 * 64**2 + 2 * 64 * sum(channels)
    assert 12 * trained <= report["ours"]["checkpoint_bytes"] < 12 * trained + 20_000  # weights and two moments, fp32
    assert report["ours"]["checkpoint_bytes"] < 0.1 * report["tutorial"]["checkpoint_bytes"]
    assert report["ratios"]["exported_to_tutorial"] < report["ratios"]["checkpoint_to_tutorial"]
    assert report["ratios"]["peak_to_tutorial"] == 0.5


@pytest.mark.slow
def test_the_command_prints_the_table_and_writes_the_report(tmp_path, capsys):
    train_step.main([*FLAGS, "--json", str(tmp_path / "report.json")])
    report = json.loads((tmp_path / "report.json").read_text())
    assert {"settings", "tutorial", "ours", "U-Net alone", "ratios"} == report.keys()
    assert all(report[name]["peak_bytes"] > 0 for name in ("tutorial", "ours", "U-Net alone"))
    out = capsys.readouterr().out
    assert "samples/s, ours / tutorial" in out and "U-Net alone" in out
