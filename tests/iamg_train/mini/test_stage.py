"""A stage that is stopped and gone on with ends as one that was not."""

from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import nn

from iamg_train.mini.stage import LOG, STATE, WEIGHTS, Plan, train_stage

PLAN = Plan(steps=12, batch_size=4, learning_rate=0.05, warmup=2, ema_decay=0.9, keep_every=3, show_every=5)


def learn(folder, plan=PLAN, stop_at=None, show=None):
    """A linear map that learns to double; its model after the stage."""
    torch.manual_seed(0)
    model = nn.Linear(3, 3)

    def loss_at(step):
        if step == stop_at:
            raise KeyboardInterrupt
        x = torch.randn(plan.batch_size, 3, generator=torch.Generator().manual_seed(step))
        return (model(x) - 2 * x).square().mean()

    train_stage("doubling", folder, model, plan, loss_at, show)
    return model


def test_it_learns_and_leaves_its_averaged_weights_and_its_losses(tmp_path):
    model = learn(tmp_path, replace(PLAN, steps=300))
    assert (model.weight - 2 * torch.eye(3)).abs().max() < 0.05
    assert len((tmp_path / LOG).read_text().splitlines()) == 301
    assert not (tmp_path / STATE).exists()
    again = learn(tmp_path, replace(PLAN, steps=300), stop_at=0)  # read, not trained
    assert torch.equal(again.weight, model.weight)
    assert not any(x.requires_grad for x in again.parameters())


def test_stopped_and_gone_on_with_is_the_same_to_the_bit(tmp_path):
    whole = learn(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path / "stopped", stop_at=8)
    assert (tmp_path / "stopped" / STATE).exists()
    resumed = learn(tmp_path / "stopped")
    assert torch.equal(whole.weight, resumed.weight) and torch.equal(whole.bias, resumed.bias)
    for name in (LOG, WEIGHTS):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes()


def test_pictures_show_the_averaged_weights_and_training_goes_on_with_its_own(tmp_path):
    shown = []

    def show():
        shown.append(1)
        return Image.new("RGB", (2, 2))

    plain, watched = learn(tmp_path / "plain"), learn(tmp_path / "watched", show=show)
    assert torch.equal(plain.weight, watched.weight)
    assert sorted(path.name for path in (tmp_path / "watched").glob("*.png")) == [
        "step_000005.png",
        "step_000010.png",
        "step_000012.png",
    ]
    assert len(shown) == 3
