"""Checkpoints: what is read is what was saved, whatever happens while saving; and optimizers go on as if never stopped."""

import json
import resource

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from iamg_train.checkpoints import (
    find_checkpoint,
    optimizer_tensors,
    part,
    read_checkpoint,
    restore_optimizer,
    save_checkpoint,
)


def save(run, step, keep=3, size=4, **values):
    return save_checkpoint(run / "checkpoints", step, {"weights.a": torch.full((size,), float(step))}, values, keep)


def names(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_tensors_and_values_come_back_as_they_were(tmp_path):
    shared = torch.randn(3, 4)
    tensors = {
        "weights.a": nn.Parameter(shared),
        "weights.turned": shared.T,
        "ema.a": shared.bfloat16(),
        "optimizer.0.step": torch.tensor(7.0),
        "rng": torch.get_rng_state(),
        "nan": torch.tensor([float("nan"), float("inf"), -0.0]),
    }
    values = {"identity": {"train": {"learning_rate": 0.1 + 0.2}}, "position": [3, None], "text": "ü"}
    path = save_checkpoint(tmp_path / "checkpoints", 500, tensors, values, keep=3)
    assert path == tmp_path / "checkpoints" / "step_00000500.safetensors"
    read, header = read_checkpoint(path)
    assert header == {**values, "format_version": 1, "step": 500}
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype and read[name].shape == tensor.shape
        assert torch.equal(read[name].flatten().view(torch.uint8), tensor.detach().flatten().view(torch.uint8))
    assert part(read, "weights.").keys() == {"a", "turned"}


def test_the_last_ones_are_kept(tmp_path):
    for step in (100, 200, 300, 400):
        save(tmp_path, step, keep=2)
    assert names(tmp_path) == ["step_00000300.safetensors", "step_00000400.safetensors"]
    assert find_checkpoint(tmp_path).name == "step_00000400.safetensors"


def test_going_on_from_an_older_one_deletes_neither_the_new_nor_the_later(tmp_path):
    for step in (100, 300, 400):
        save(tmp_path, step)
    save(tmp_path, 200, keep=1)
    assert names(tmp_path) == [f"step_00000{n}00.safetensors" for n in (2, 3, 4)]


def test_what_a_killed_process_left_is_not_taken_and_is_cleaned_up(tmp_path):
    whole = save(tmp_path, 100).read_bytes()
    (tmp_path / "checkpoints" / "step_00000200.safetensors.part").write_bytes(whole[:-9])
    assert find_checkpoint(tmp_path).name == "step_00000100.safetensors"
    save(tmp_path, 300)
    assert names(tmp_path) == ["step_00000100.safetensors", "step_00000300.safetensors"]


def test_a_write_that_fails_says_so_and_loses_nothing(tmp_path):
    save(tmp_path, 100, keep=1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))  # the disk takes no more than this
    try:
        with pytest.raises(OSError, match=r"step_00000200.*takes 4 MiB.*are kept"):
            save(tmp_path, 200, keep=1, size=1 << 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path) == ["step_00000100.safetensors"]
    assert read_checkpoint(find_checkpoint(tmp_path))[1]["step"] == 100


@pytest.mark.parametrize("damage", [lambda whole: whole[:-3], lambda whole: bytes(len(whole)), lambda whole: b""])
def test_a_damaged_newest_is_named_and_the_one_before_it_taken(tmp_path, caplog, damage):
    save(tmp_path, 100)
    newest = save(tmp_path, 200)
    newest.write_bytes(damage(newest.read_bytes()))
    assert find_checkpoint(tmp_path).name == "step_00000100.safetensors"
    assert "step_00000200.safetensors' is damaged" in caplog.text and "step_00000100" in caplog.text
    with pytest.raises(ValueError, match="step_00000200.*damaged"):
        find_checkpoint(tmp_path, str(newest))
    (tmp_path / "checkpoints" / "step_00000100.safetensors").unlink()
    with pytest.raises(ValueError, match="step_00000200.*damaged.*no other"):
        find_checkpoint(tmp_path)


def test_a_path_is_taken_and_what_is_not_there_is_answered_with_what_is(tmp_path):
    save(tmp_path, 100)
    older = save(tmp_path, 200)
    save(tmp_path, 300)
    assert find_checkpoint(tmp_path, str(older)) == older
    with pytest.raises(FileNotFoundError, match="no checkpoint 'x.safetensors'.*step_00000300.*step_00000100"):
        find_checkpoint(tmp_path, "x.safetensors")
    with pytest.raises(FileNotFoundError, match="has no checkpoint.*holds none"):
        find_checkpoint(tmp_path / "other")
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / "x.safetensors")


def test_other_files_and_newer_formats_are_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="other.safetensors' is no checkpoint"):
        read_checkpoint(tmp_path / "other.safetensors")
    metadata = {"iamg_checkpoint": json.dumps({"format_version": 9, "step": 1})}
    save_file({"a": torch.zeros(1)}, tmp_path / "newer.safetensors", metadata)
    with pytest.raises(ValueError, match="newer.safetensors' has format version 9"):
        read_checkpoint(tmp_path / "newer.safetensors")


def trained(make_optimizer, steps, seed=0, stop_at=None, run=None):
    """A small model's losses and weights; at `stop_at` everything goes through a checkpoint into new objects."""
    torch.manual_seed(seed)
    data = torch.randn(steps, 8, 5)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 1))
    optimizer = make_optimizer(model)
    losses = []
    for step in range(steps):
        if step == stop_at:
            tensors, groups = optimizer_tensors(optimizer)
            tensors |= {f"weights.{name}": value for name, value in model.state_dict().items()}
            save_checkpoint(run / "checkpoints", step, tensors, {"param_groups": groups}, keep=1)
            tensors, values = read_checkpoint(find_checkpoint(run))
            model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 1))
            model.load_state_dict(part(tensors, "weights."))
            optimizer = make_optimizer(model)
            restore_optimizer(optimizer, tensors, values["param_groups"])
        optimizer.zero_grad()
        loss = model(data[step]).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [value.tolist() for value in model.state_dict().values()], optimizer.param_groups


class Counting(torch.optim.Optimizer):
    """Keeps a plain int, a plain float and one table for all parameters, as 8-bit optimizers do; saves them nested."""

    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 0.1})
        self.table = torch.linspace(0, 1, 16)

    def state_dict(self):
        state = super().state_dict()
        nested = {
            index: {"step": entries["step"], "rest": {k: v for k, v in entries.items() if k != "step"}}
            for index, entries in state["state"].items()
        }
        return {**state, "state": nested}

    def load_state_dict(self, state):
        flat = {index: {"step": entries["step"], **entries["rest"]} for index, entries in state["state"].items()}
        parameters = self.param_groups[0]["params"]
        self.state.update({parameters[index]: entries for index, entries in flat.items()})
        self.param_groups[0].update(lr=state["param_groups"][0]["lr"])

    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state.update(step=0, decay=0.1, table=self.table, codes=torch.zeros_like(parameter).byte())
                assert isinstance(state["step"], int) and isinstance(state["decay"], float)
                state["step"] += 1
                state["codes"] = (state["codes"] + (parameter.grad > 0)) % 16
                size = state["table"][state["codes"].int()] * state["decay"] / state["step"]
                parameter.data -= group["lr"] * size * parameter.grad


def two_groups(model):
    first, _, last = model
    groups = [{"params": first.parameters()}, {"params": last.parameters(), "lr": 0.003, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.01, weight_decay=0.01, betas=(0.8, 0.95))


@pytest.mark.parametrize(
    "make_optimizer",
    [
        lambda model: torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.01),
        lambda model: torch.optim.AdamW(model.parameters(), amsgrad=True, foreach=True),
        two_groups,
        lambda model: Counting(model.parameters()),
        lambda model: pytest.importorskip("bitsandbytes").optim.AdamW8bit(model.parameters(), min_8bit_size=16),
    ],
    ids=["AdamW", "amsgrad", "two groups", "plain numbers, shared tables, nested", "8-bit AdamW"],
)
def test_training_goes_on_bit_for_bit(tmp_path, make_optimizer):
    losses, weights, groups = trained(make_optimizer, 8)
    resumed_losses, resumed_weights, resumed_groups = trained(make_optimizer, 8, stop_at=5, run=tmp_path)
    assert resumed_losses == losses and resumed_weights == weights
    for group, resumed in zip(groups, resumed_groups, strict=True):
        assert {k: v for k, v in resumed.items() if k != "params"} == {k: v for k, v in group.items() if k != "params"}


def test_the_comparison_would_see_a_fresh_optimizer(tmp_path, monkeypatch):
    def make_optimizer(model):
        return torch.optim.AdamW(model.parameters(), lr=0.01)

    losses, _, _ = trained(make_optimizer, 8)
    monkeypatch.setitem(globals(), "restore_optimizer", lambda *_: None)
    assert trained(make_optimizer, 8, stop_at=5, run=tmp_path)[0][:6] == losses[:6]
    assert trained(make_optimizer, 8, stop_at=5, run=tmp_path)[0][6:] != losses[6:]
