"""One stage of the base training: a loop that can be stopped at any step and goes on where it was."""

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load, save
from torch import Tensor, nn

from iamg_train.pool_commands import console, progress_bar
from iamg_train.whole_files import write_whole

WEIGHTS, STATE, LOG = "weights.safetensors", "state.safetensors", "losses.csv"


@dataclass(frozen=True)
class Plan:
    """How long and how fast a stage learns."""

    steps: int
    batch_size: int
    learning_rate: float
    warmup: int = 100
    ema_decay: float = 0.999
    keep_every: int = 200  # steps between two states on the disk
    show_every: int = 1000  # steps between two pictures


def train_stage(
    name: str,
    folder: Path,
    model: nn.Module,
    plan: Plan,
    loss_at: Callable[[int], Tensor],
    show: Callable[[], Image.Image] | None = None,
) -> None:
    """Train what in the model requires gradients, and leave its averaged weights in it and in the folder.

    loss_at: the loss of a step's batch, which must depend on the step alone. A folder that holds the result already
    is only read. show: a picture of what the averaged model can do by now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / WEIGHTS).is_file():
        model.load_state_dict(load((folder / WEIGHTS).read_bytes()), strict=False)
        model.requires_grad_(False).eval()
        return
    parameters = {key: x for key, x in model.named_parameters() if x.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=plan.learning_rate, weight_decay=0.01)
    average = {key: x.detach().clone() for key, x in parameters.items()}
    done, losses = _restore(folder, optimizer, parameters, average)
    model.train()
    with progress_bar() as bar:
        task = bar.add_task(name, total=plan.steps, completed=done)
        for step in range(done, plan.steps):
            for group in optimizer.param_groups:
                group["lr"] = plan.learning_rate * _schedule(step, plan)
            loss = loss_at(step)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters.values(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(float(loss.detach()))
            decay = min(plan.ema_decay, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(list(average.values()), list(parameters.values()), 1 - decay)
            bar.update(
                task, completed=step + 1, description=f"{name}: loss {sum(losses[-50:]) / len(losses[-50:]):.4f}"
            )
            if (step + 1) % plan.keep_every == 0:
                _keep(folder, optimizer, parameters, average, step + 1, losses)
            if show and ((step + 1) % plan.show_every == 0 or step + 1 == plan.steps):
                with averaged(parameters, average):
                    model.eval()
                    content = io.BytesIO()
                    show().save(content, "PNG")
                    write_whole(folder / f"step_{step + 1:06}.png", content.getvalue())
                    model.train()
    with torch.no_grad():
        for key, x in parameters.items():
            x.copy_(average[key])
    _write_log(folder, losses)
    write_whole(folder / WEIGHTS, save({key: x.detach().contiguous() for key, x in parameters.items()}))
    (folder / STATE).unlink(missing_ok=True)
    model.requires_grad_(False).eval()
    console.print(f"{name}: done, in {folder}")


class averaged:
    """Within it the model has its averaged weights."""

    def __init__(self, parameters: dict[str, nn.Parameter], average: dict[str, Tensor]):
        self.parameters, self.average = parameters, average

    def __enter__(self) -> None:
        self.own = {key: x.detach().clone() for key, x in self.parameters.items()}
        self._put(self.average)

    def __exit__(self, *_) -> None:
        self._put(self.own)

    @torch.no_grad()
    def _put(self, values: dict[str, Tensor]) -> None:
        for key, x in self.parameters.items():
            x.copy_(values[key])


def _schedule(step: int, plan: Plan) -> float:
    """Linear warm-up, then half a cosine down to a fiftieth."""
    if step < plan.warmup:
        return (step + 1) / plan.warmup
    done = (step - plan.warmup) / max(1, plan.steps - plan.warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))


def _keep(folder: Path, optimizer, parameters: dict, average: dict, step: int, losses: list[float]) -> None:
    tensors = {f"model.{key}": x.detach().contiguous() for key, x in parameters.items()}
    tensors |= {f"average.{key}": x.contiguous() for key, x in average.items()}
    for key, x in parameters.items():
        for part in ("exp_avg", "exp_avg_sq"):
            tensors[f"{part}.{key}"] = optimizer.state[x][part].contiguous()
    write_whole(folder / STATE, save(tensors, {"step": str(step), "losses": json.dumps(losses)}))
    _write_log(folder, losses)


def _restore(folder: Path, optimizer, parameters: dict, average: dict) -> tuple[int, list[float]]:
    """The step to go on from, and the losses so far."""
    path = folder / STATE
    if not path.is_file():
        return 0, []
    with safe_open(path, "pt") as file, torch.no_grad():
        step, losses = int(file.metadata()["step"]), json.loads(file.metadata()["losses"])
        for key, x in parameters.items():
            x.copy_(file.get_tensor(f"model.{key}"))
            average[key].copy_(file.get_tensor(f"average.{key}"))
            optimizer.state[x] = {
                "step": torch.tensor(float(step)),
                "exp_avg": file.get_tensor(f"exp_avg.{key}"),
                "exp_avg_sq": file.get_tensor(f"exp_avg_sq.{key}"),
            }
    console.print(f"going on at step {step} of {folder.name}")
    return step, losses


def _write_log(folder: Path, losses: list[float]) -> None:
    rows = io.StringIO()
    writer = csv.writer(rows)
    writer.writerow(("step", "loss"))
    writer.writerows((step, f"{loss:.6f}") for step, loss in enumerate(losses))
    write_whole(folder / LOG, rows.getvalue().encode())
