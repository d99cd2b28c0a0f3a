"""Whole runs on a small catalogue with small seeded weights: what comes out, resuming, stopping, and bad input."""

import csv
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from small_catalogue import settings, write_world
from small_models import write_family

from iamg.adapter import load_adapter, read_adapter
from iamg_train import checkpoints, cli, fit, loop
from iamg_train.config import load_config
from iamg_train.export import export

ROOT = Path(__file__).resolve().parents[2]
QUIET = {"validate_every": 0, "sample_every": 0}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of all runs, so that they share what is prepared and cached."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def run(world, runs, request):
    """Trains with these settings changed; gives the run's folder."""

    def run(name, resume=None, **changes):
        folder = runs / f"{request.node.name}_{name}".replace("[", "_").replace("]", "")
        fit.fit(load_config(None, settings(world, folder, **{**QUIET, **changes})), resume)
        return folder

    return run


@pytest.fixture(scope="module")
def plain(world, runs):
    """The run that others are compared with."""
    folder = runs / "plain"
    fit.fit(load_config(None, settings(world, folder, **QUIET)))
    return folder


def column(folder, name, file="log.csv"):
    with (folder / file).open(newline="", encoding="utf-8") as rows:
        return [float(row[name]) for row in csv.DictReader(rows)]


def newest(folder):
    return checkpoints.read_checkpoint(checkpoints.find_checkpoint(folder))[0]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def command(world, folder, **changes):
    """The command line that makes the same run, in a process of its own."""
    flags = [sys.executable, "-m", "iamg_train", "fit"]
    for key, value in settings(world, folder, **{**QUIET, **changes}).items():
        flags += [f"--{key.replace('_', '-')}", str(value)]
    return flags


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def test_a_run_leaves_what_was_promised(run, world):
    folder = run("whole", validate_every=2, sample_every=4)
    tensors = newest(folder)
    kinds = {name.split(".")[0] for name in tensors}
    assert kinds == {"weights", "optimizer"}
    start, _ = read_adapter(world["ip_adapter"])
    state, metadata = read_adapter(folder / "weights.safetensors")
    moved = {key for key, value in start.items() if not torch.equal(state[key], value.half())}
    assert moved == {key for key in start if key.startswith("ip_adapter.")}
    assert not torch.equal(state["ira.to_q.weight"], torch.eye(64).half())
    assert set(tensors) >= {f"weights.{key}" for key in state if not key.startswith("image_proj.")}
    wanted = {"format_version", "heads", "top_k", "interest_tags", "history_length", "text_weight", "interest_weight"}
    wanted |= {"text_encoder", "image_encoder", "data_hash", "base_model", "steps"}
    assert wanted <= metadata.keys()
    assert (metadata["steps"], metadata["base_model"], metadata["top_k"]) == (4, "checkpoint", 3)
    assert load_adapter(folder / "weights.safetensors").has_trained_ira

    assert column(folder, "step") == [1, 2, 3, 4]
    assert column(folder, "step", "held_out.csv") == [0, 2, 4]
    assert all(math.isfinite(x) for x in column(folder, "difference", "held_out.csv"))
    grids = sorted(path.name for path in (folder / "samples").iterdir())
    assert grids == ["step_00000000.png", "step_00000004.png"]
    assert Image.open(folder / "samples" / grids[0]).size == (4 + 4 * 132, 22 + 2 * (128 + 22 + 4))
    assert "summary" in (folder / "summary.html").read_text(encoding="utf-8")
    again = load_config(folder / "config.toml", {})
    assert again == load_config(None, settings(world, folder, validate_every=2, sample_every=4))


def test_grids_and_losses_of_held_out_users_do_not_disturb_training(run, plain):
    assert same(newest(run("watched", validate_every=2, sample_every=2)), newest(plain))


def test_the_held_out_loss_draws_the_same_noise_every_time(run):
    """At a learning rate that moves nothing, every measurement is the same."""
    folder = run("still", validate_every=1, learning_rate=1e-30, weight_decay=0.0)
    assert len(set(column(folder, "held_out", "held_out.csv"))) == 1
    assert len(set(column(folder, "control", "held_out.csv"))) == 1
    assert column(folder, "held_out", "held_out.csv")[0] != column(folder, "control", "held_out.csv")[0]


@pytest.mark.parametrize(
    "changes", [{}, {"ema_decay": 0.9, "schedule": "cosine", "warmup_steps": 2, "accumulation": 2}]
)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(run, monkeypatch, changes):
    straight = run("straight", steps=6, **changes)

    finished = loop.Trainer._finish_step

    def stop_at_three(trainer):
        finished(trainer)
        if trainer.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loop.Trainer, "_finish_step", stop_at_three)
    with pytest.raises(KeyboardInterrupt):
        run("stopped", steps=6, **changes)
    monkeypatch.undo()
    folder = run("stopped", resume="latest", steps=6, **changes)
    assert column(folder, "loss") == column(straight, "loss")
    assert column(folder, "learning_rate") == column(straight, "learning_rate")
    assert same(newest(folder), newest(straight))
    (file,) = {(folder / "weights.safetensors").read_bytes(), (straight / "weights.safetensors").read_bytes()}
    assert file


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_as_if_nothing_had_happened(run, world, runs):
    """kill -9 at moments nobody chose, again and again, until the run is through."""
    straight = run("straight", steps=24, checkpoint_every=4, keep_checkpoints=2, log_every=1)
    folder = runs / "killed"
    flags = command(world, folder, steps=24, checkpoint_every=4, keep_checkpoints=2, log_every=1)
    kills = 0
    for patience in (0.1, 0.03, None):
        begun = list((folder / "checkpoints").glob("*.safetensors"))
        process = subprocess.Popen(
            [*flags, *(["--resume", "latest"] if begun else [])],
            env=environment(), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        if patience is not None:
            deadline = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < deadline:  # let it get to a first checkpoint of its own
                found = set((folder / "checkpoints").glob("*.safetensors"))
                if found - set(begun):
                    break
                time.sleep(0.02)
            time.sleep(patience)
            kills += process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.wait()
        else:
            output, _ = process.communicate(timeout=300)
            assert process.returncode == 0, output
    assert kills == 2
    assert column(folder, "step") == list(range(1, 25))
    assert column(folder, "loss") == column(straight, "loss")
    assert same(newest(folder), newest(straight))
    assert len(list((folder / "checkpoints").iterdir())) == 2


@pytest.mark.slow
def test_sigterm_saves_and_stops(world, runs):
    folder = runs / "terminated"
    process = subprocess.Popen(
        command(world, folder, steps=10_000, log_every=1, checkpoint_every=0),
        env=environment(), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (folder / "log.csv").is_file() or len(column(folder, "step")) < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == cli.INTERRUPTED, output
    assert "--resume latest" in output
    (checkpoint,) = (folder / "checkpoints").iterdir()
    assert checkpoints.read_values(checkpoint)["step"] == column(folder, "step")[-1]


@pytest.mark.slow
def test_two_processes_agree_with_one(plain, world, runs):
    """Two processes of one picture each are one of two: the same examples, the same mean, up to rounding.

    accelerate starts several processes of one machine only with --multi_gpu; --device cpu keeps them off a GPU.
    """
    folder = runs / "two"
    flags = command(world, folder, batch_size=1)
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    done = subprocess.run(
        [flags[0], *launch, *flags[1:]], env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert column(folder, "loss") == pytest.approx(column(plain, "loss"), rel=1e-5)
    ours, theirs = newest(folder), newest(plain)
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-3, atol=1e-5)


def test_accumulation_is_a_larger_batch(run):
    large, small = run("large", batch_size=4), run("small", batch_size=2, accumulation=2)
    assert column(small, "loss") == pytest.approx(column(large, "loss"), rel=1e-5)
    ours, theirs = newest(small), newest(large)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-5)


def test_another_seed_is_another_run(run, plain):
    assert column(run("one", seed=1), "loss") != column(plain, "loss")


def test_the_learning_rate_warms_up_and_falls(run):
    rates = column(run("cosine", steps=6, schedule="cosine", warmup_steps=2, learning_rate=1e-3), "learning_rate")
    falling = [1e-3 * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)]
    assert rates == pytest.approx([0.0, 5e-4, *falling])


def test_the_moving_average_follows_the_weights(run):
    """By hand: diffusers' average is the weights themselves after one step, then begins with (1 + 1) / (10 + 1)."""
    folder = run("ema", steps=2, ema_decay=0.999)
    tensors, first = newest(folder), checkpoints.part(newest(run("first", steps=1)), "weights.")
    averaged, weights = checkpoints.part(tensors, "ema."), checkpoints.part(tensors, "weights.")
    decay, key = 2 / 11, "ira.to_q.weight"
    torch.testing.assert_close(averaged[key], decay * first[key] + (1 - decay) * weights[key], rtol=1e-6, atol=1e-8)
    assert not torch.equal(averaged[key], weights[key])
    exported, metadata = read_adapter(folder / "weights.safetensors")
    assert metadata["ema"]
    torch.testing.assert_close(exported[key], averaged[key].half())
    plain = export(folder, folder / "plain.safetensors", ema=False)
    torch.testing.assert_close(read_adapter(plain)[0][key], weights[key].half())


def test_min_snr_weighs_each_timestep(run, monkeypatch):
    """Against the formula: min(γ, SNR) / SNR with SNR = ᾱ / (1 - ᾱ)."""
    seen = []
    losses_of = loop.noise_prediction_losses

    def remember(model, batch, schedule):
        losses = losses_of(model, batch, schedule)
        seen.append((batch.timestep, losses.detach(), schedule.alphas_cumprod))
        return losses

    monkeypatch.setattr(loop, "noise_prediction_losses", remember)
    folder = run("snr", steps=3, min_snr_gamma=5.0)
    for (timesteps, losses, alphas), logged in zip(seen, column(folder, "loss"), strict=True):
        snr = [float(alphas[t] / (1 - alphas[t])) for t in timesteps]
        weighted = [min(5.0, x) / x * float(loss) for x, loss in zip(snr, losses, strict=True)]
        assert logged == pytest.approx(sum(weighted) / len(weighted), rel=1e-4)
    assert any(float(alphas[t] / (1 - alphas[t])) > 5 for ts, _, alphas in seen for t in ts)


@pytest.mark.parametrize("changes", [{"gradient_checkpointing": True}, {"workers": 2}])
def test_what_only_costs_or_saves_changes_no_loss(run, plain, changes):
    assert column(run("changed", **changes), "loss") == pytest.approx(column(plain, "loss"), rel=1e-5)


@pytest.mark.slow
def test_the_compiled_u_net_gives_the_same_losses(run, plain, monkeypatch):
    """Traced forwards and backwards, but not turned into C++, which takes minutes."""
    compiled, compile_module = [], torch.nn.Module.compile

    def trace(module, backend="inductor"):
        compiled.append(type(module).__name__)
        compile_module(module, backend="aot_eager")

    monkeypatch.setattr(torch.nn.Module, "compile", trace)
    assert column(run("compiled", compile=True), "loss") == pytest.approx(column(plain, "loss"), rel=1e-4)
    assert compiled == ["UNet2DConditionModel"]


def test_bf16_trains_close_to_fp32(run, plain):
    half = run("half", precision="bf16")
    assert column(half, "loss") == pytest.approx(column(plain, "loss"), rel=0.05)
    assert column(half, "loss") != column(plain, "loss")
    assert {tensor.dtype for tensor in checkpoints.part(newest(half), "weights.").values()} == {torch.float32}


def test_eight_bit_adamw_trains_and_resumes(run):
    pytest.importorskip("bitsandbytes", reason="8-bit AdamW needs bitsandbytes")
    straight = run("straight", optimizer="adamw8bit", steps=4)
    run("stopped", optimizer="adamw8bit", steps=2)
    folder = run("stopped", resume="latest", optimizer="adamw8bit", steps=4)
    assert column(folder, "loss") == column(straight, "loss")
    assert same(newest(folder), newest(straight))


def test_eight_bit_adamw_without_bitsandbytes_says_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(ValueError, match="pip install bitsandbytes"):
        run("eight", optimizer="adamw8bit")


def test_tensorboard_gets_the_same_losses(run):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = run("logged", loggers=["csv", "tensorboard"])
    events = accumulator.EventAccumulator(str(folder / "iamg"))
    events.Reload()
    assert [x.value for x in events.Scalars("loss")] == pytest.approx(column(folder, "loss"))


@pytest.mark.slow
def test_wandb_gets_the_run(run, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder = run("logged", loggers=["wandb"])
    assert list(folder.rglob("*.wandb"))


@pytest.mark.slow
def test_four_samples_are_learned_by_heart(run):
    """The loss falls to less than three quarters, though the random U-Net is frozen and only its keys and values learn."""
    folder = run(
        "overfit",
        steps=50,
        max_entries=4,
        test_fraction=0.0,
        batch_size=4,
        learning_rate=1e-2,
        joint=0.0,
        log_every=50,
    )
    losses = column(folder, "loss")
    first, last = sum(losses[:10]) / 10, sum(losses[-10:]) / 10
    assert last < 0.75 * first


def test_a_loss_that_is_no_number_stops_before_anything_is_saved(run, monkeypatch, runs, request):
    losses_of = loop.noise_prediction_losses
    calls = []

    def poison(model, batch, schedule):
        calls.append(1)
        return losses_of(model, batch, schedule) * (math.nan if len(calls) == 4 else 1)

    monkeypatch.setattr(loop, "noise_prediction_losses", poison)
    with pytest.raises(
        RuntimeError, match=r"nan at step 4, whose items were i\d+, i\d+\. Nothing was saved.*learning_rate"
    ):
        run("poisoned", steps=8, log_every=100, checkpoint_every=2)
    folder = runs / f"{request.node.name}_poisoned"
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step_00000002.safetensors"]
    assert all(tensor.isfinite().all() for tensor in checkpoints.part(newest(folder), "weights.").values())


# bad input


def test_a_run_that_is_there_is_not_begun_again(run):
    run("there", steps=1)
    with pytest.raises(ValueError, match="has checkpoints already; go on with --resume latest"):
        run("there", steps=1)


def test_a_run_is_not_resumed_with_other_settings(run):
    run("begun", steps=1)
    with pytest.raises(ValueError, match=r"train\.learning_rate was 0\.0001, is 0\.01.*--out"):
        run("begun", resume="latest", learning_rate=0.01, steps=2)
    assert column(run("begun", resume="latest", steps=2), "step") == [1, 2]  # more steps are no other settings


def test_other_settings_are_refused_before_anything_is_prepared_anew(run, runs):
    run("begun", steps=1)
    before = (runs / "prepared" / "prepared.json").read_bytes()
    with pytest.raises(ValueError, match=r"data\.top_k was 3, is 2"):
        run("begun", resume="latest", top_k=2, steps=2)
    assert (runs / "prepared" / "prepared.json").read_bytes() == before


def test_a_run_is_not_resumed_on_other_data(run, world, runs):
    folder = run("begun", steps=1)
    tensors, values = checkpoints.read_checkpoint(checkpoints.find_checkpoint(folder))
    del values["step"], values["format_version"]
    checkpoints.save_checkpoint(folder / "checkpoints", 2, tensors, {**values, "data_hash": "0" * 32}, 1)
    with pytest.raises(ValueError, match="items, interactions or pool changed"):
        run("begun", resume="latest", steps=3)


def test_resuming_what_never_began_says_so(run):
    with pytest.raises(FileNotFoundError, match="no checkpoint to go on from"):
        run("never", resume="latest")


def test_fp16_on_the_cpu_is_refused(run):
    with pytest.raises(ValueError, match="needs a GPU"):
        run("half", precision="fp16")


def test_other_heads_than_the_weights_were_trained_with_are_refused(run, world):
    trained = run("trained", steps=1, heads=2)
    with pytest.raises(ValueError, match=r"heads is 4, but 'weights.safetensors' was trained with 2"):
        run("again", steps=1, ip_adapter=trained / "weights.safetensors")


def test_a_dry_run_writes_nothing(world, tmp_path, capsys):
    flags = command(world, tmp_path / "run")[3:]
    assert cli.main([*flags, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "77,824" in told  # 16 blocks of 2 * 32 * 64, and three matrices of 64 * 64
    assert not list(tmp_path.iterdir())


def test_a_pool_of_another_clip_vision_is_refused_before_anything_is_encoded(world, runs, tmp_path):
    other = write_family(tmp_path / "other", seed=1)
    config = load_config(None, settings(world, tmp_path / "run", clip_vision=other["clip_vision"]))
    with pytest.raises(ValueError, match="built with another image encoder"):
        fit.fit(config)
    assert not list((tmp_path / "cache").glob("latents-*"))


def test_another_base_model_is_named(world, tmp_path):
    """An SDXL checkpoint is told from the names of its tensors, before anything is prepared."""
    names = ("conditioner.embedders.0.transformer.text_model.final_layer_norm.weight",)
    names += ("model.diffusion_model.input_blocks.0.0.weight", "model.diffusion_model.label_emb.0.0.weight")
    save_file({name: torch.zeros(4, 4, 3, 3) for name in names}, tmp_path / "xl.safetensors")
    config = load_config(None, settings(world, tmp_path / "run", checkpoint=tmp_path / "xl.safetensors"))
    with pytest.raises(ValueError, match="xl.safetensors is an SDXL"):
        fit.fit(config)
    assert not (tmp_path / "prepared").exists()
