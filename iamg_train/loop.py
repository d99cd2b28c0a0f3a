"""The training loop: Eq 14 over cached samples, in which IRA and IP-Adapter's to_k_ip and to_v_ip learn (D7)."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from iamg_train import checkpoints
from iamg_train.config import Config, Train
from iamg_train.diffusion_loss import min_snr_weights, noise_prediction_losses
from iamg_train.personalised_unet import PersonalisedUNet
from iamg_train.pool_commands import console
from iamg_train.run_log import RunLog
from iamg_train.stopping import StopRequest
from iamg_train.training_samples import Example, TrainingSamples
from iamg_train.watch import Watcher


class Trainer:
    """One run. Example n of `examples` is all the randomness there is, so a step number is all that a resumed run
    needs to draw what an uninterrupted one would have drawn."""

    def __init__(
        self,
        config: Config,
        model: PersonalisedUNet,
        examples: TrainingSamples,
        noise_schedule: DDPMScheduler,
        accelerator: Accelerator,
        values: dict,
    ):
        """model: on its device. values: what checkpoints carry besides."""
        settings = config.train
        self.config, self.settings, self.model, self.accelerator = config, settings, model, accelerator
        self.examples, self.noise_schedule, self.values = examples, noise_schedule, values
        self.parameters = list(model.trainable().values())
        self.optimizer = make_optimizer(settings, self.parameters)
        self.schedule = get_scheduler(
            settings.schedule,
            self.optimizer,
            num_warmup_steps=settings.warmup_steps,
            num_training_steps=settings.steps,
        )
        self.ema = EMAModel(self.parameters, settings.ema_decay, foreach=True) if settings.ema_decay else None
        self.step = 0
        self._unlogged: list[tuple[Tensor, Tensor]] = []  # of each forward pass: which samples, their loss
        self._rates: list[float] = []  # learning rates of the steps not logged yet
        self._logged_at = time.perf_counter()

    @property
    def step_size(self) -> int:
        """Examples an optimizer step, over all processes."""
        return self.settings.batch_size * self.settings.accumulation * self.accelerator.num_processes

    def train(self, log: RunLog, watcher: Watcher) -> None:
        """Train to the last step. KeyboardInterrupt, after a checkpoint, when a signal asked to stop; RuntimeError
        with the step and its items when the loss is no number, before anything is saved with it."""
        if self.settings.compile:
            self.model.unet.compile()
        model, optimizer, loader = self.accelerator.prepare(self.model, self.optimizer, self._loader())
        with StopRequest() as stop, self._progress() as show:
            if self.step == 0:
                self._look(watcher)
            self._logged_at = time.perf_counter()
            for batch in loader:
                with self.accelerator.accumulate(model):
                    loss = self._loss(model, batch)
                    self.accelerator.backward(loss)
                    optimizer.step()
                    optimizer.zero_grad()
                self._unlogged.append((batch.index, loss.detach()))
                if self.accelerator.sync_gradients:
                    self._finish_step()
                    show(self._after_step(log, watcher, stop))

    def restore(self, checkpoint: Path) -> None:
        """Go on from a checkpoint of this run."""
        tensors, values = checkpoints.read_checkpoint(checkpoint)
        self.model.adapter.load_state_dict(checkpoints.part(tensors, "weights."), strict=False)
        checkpoints.restore_optimizer(self.optimizer, tensors, values["param_groups"])
        self.schedule.load_state_dict(values["schedule"])
        if self.ema:
            shadow = checkpoints.part(tensors, "ema.")
            self.ema.shadow_params = [shadow[name].to(p.device) for name, p in self.model.trainable().items()]
            self.ema.optimization_step = values["ema_steps"]
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(values["scaler"])
        self.step = values["step"]

    def save(self) -> None:
        """A checkpoint of this step."""
        names = self.model.trainable()
        tensors, groups = checkpoints.optimizer_tensors(self.optimizer)
        tensors |= {f"weights.{name}": parameter for name, parameter in names.items()}
        values = {**self.values, "param_groups": groups, "schedule": self.schedule.state_dict()}
        if self.ema:
            tensors |= {f"ema.{name}": shadow for name, shadow in zip(names, self.ema.shadow_params, strict=True)}
            values["ema_steps"] = self.ema.optimization_step
        if self.accelerator.scaler is not None:
            values["scaler"] = self.accelerator.scaler.state_dict()
        if self.accelerator.is_main_process:
            folder, keep = self.config.run.out / checkpoints.FOLDER, self.config.watch.keep_checkpoints
            checkpoints.save_checkpoint(folder, self.step, tensors, values, keep)
        self.accelerator.wait_for_everyone()

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """The model with its moving average in place of its weights, where one is kept."""
        if not self.ema:
            yield
            return
        self.ema.store(self.parameters)
        self.ema.copy_to(self.parameters)
        try:
            yield
        finally:
            self.ema.restore(self.parameters)

    def _loader(self) -> DataLoader:
        rest = range(self.step * self.step_size, self.settings.steps * self.step_size)
        return DataLoader(
            Subset(self.examples, rest),
            batch_size=self.settings.batch_size,
            num_workers=self.settings.workers,
            pin_memory=self.accelerator.device.type == "cuda",
        )

    def _loss(self, model: torch.nn.Module, batch: Example) -> Tensor:
        """Eq 14, each timestep weighted after Min-SNR where that is on."""
        losses = noise_prediction_losses(model, batch, self.noise_schedule)
        if gamma := self.settings.min_snr_gamma:
            losses = losses * min_snr_weights(self.noise_schedule, batch.timestep, gamma)
        return losses.mean()

    def _finish_step(self) -> None:
        self._rates.append(self.schedule.get_last_lr()[0])
        self.schedule.step()
        if self.ema:
            self.ema.step(self.parameters)
        self.step += 1

    def _after_step(self, log: RunLog, watcher: Watcher, stop: StopRequest) -> float | None:
        """Log, save, look and stop where it is time; the latest loss where it was read from the device."""
        settings, last = self.config.watch, self.step == self.settings.steps
        logs = last or self.step % settings.log_every == 0
        stops = self._agreed(stop.wanted) if logs or self.accelerator.num_processes == 1 else False
        saves = last or stops or (settings.checkpoint_every and self.step % settings.checkpoint_every == 0)
        loss = None
        if logs or saves or watcher.due(self.step, last):
            loss = self._log_losses(log)
        if saves:
            self.save()
        if stops and not last:
            raise KeyboardInterrupt
        self._look(watcher)
        return loss

    def _look(self, watcher: Watcher) -> None:
        last = self.step == self.settings.steps
        if watcher.due(self.step, last):
            if self.accelerator.is_main_process:
                with self.averaged_weights():
                    watcher.look(self.model, self.step, last, self.accelerator.device)
            self.accelerator.wait_for_everyone()
            self._logged_at = time.perf_counter()

    def _agreed(self, wanted: bool) -> bool:
        """Whether any process was asked to stop: all of them must stop at the same step."""
        if self.accelerator.num_processes == 1:
            return wanted
        flag = torch.tensor(float(wanted), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum") > 0)

    def _log_losses(self, log: RunLog) -> float:
        """Read the losses since the last time off the device, all at once, and give the newest."""
        steps = len(self._rates)
        losses = torch.stack([loss for _, loss in self._unlogged]).float().view(steps, -1).mean(dim=1)
        losses = self.accelerator.reduce(losses, "mean").tolist()
        speed = steps * self.step_size / (time.perf_counter() - self._logged_at)
        first = self.step - steps + 1
        for place, loss in enumerate(losses):
            if not math.isfinite(loss):
                raise RuntimeError(self._no_number(loss, first + place, place, len(self._unlogged) // steps))
        log.losses(zip(range(first, self.step + 1), losses, self._rates, [speed] * steps, strict=True))
        self._unlogged, self._rates, self._logged_at = [], [], time.perf_counter()
        return losses[-1]

    def _no_number(self, loss: float, step: int, place: int, passes: int) -> str:
        batches = self._unlogged[place * passes : (place + 1) * passes]
        ids = [self.examples.samples[index].objective for batch, _ in batches for index in batch.tolist()]
        return (
            f"the loss became {loss} at step {step}, whose items were {', '.join(ids)}. Nothing was saved since. Look at "
            f'these items, or try a lower learning_rate (it was {self._rates[place]:g}) or precision = "fp32" in a run of '
            "its own, which may start from an export of this one's last checkpoint"
        )

    @contextmanager
    def _progress(self) -> Iterator:
        """A bar of steps with speed, time left and loss; gives the function to call after each step."""
        columns = (
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]:.2f} samples/s"),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        began, first = time.perf_counter(), self.step
        with Progress(*columns, console=console, disable=not self.accelerator.is_main_process) as bar:
            task = bar.add_task("", total=self.settings.steps, completed=self.step, speed=0.0, loss=math.nan)

            def show(loss: float | None) -> None:
                speed = (self.step - first) * self.step_size / (time.perf_counter() - began)
                bar.update(task, completed=self.step, speed=speed, **({} if loss is None else {"loss": loss}))

            yield show


def make_optimizer(settings: Train, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    kind = torch.optim.AdamW
    if settings.optimizer == "adamw8bit":
        try:
            from bitsandbytes.optim import AdamW8bit as kind
        except ImportError:
            raise ValueError(
                'optimizer = "adamw8bit" needs bitsandbytes; run: pip install bitsandbytes, or set optimizer = "adamw"'
            ) from None
    return kind(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
