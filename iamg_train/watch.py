"""Looking at a model while it trains: losses on held-out users, and a grid of their pictures."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import torch
from diffusers import DDPMScheduler

from iamg_train.config import Watch
from iamg_train.grids import GridMaker
from iamg_train.held_out import HeldOut, measure
from iamg_train.personalised_unet import PersonalisedUNet
from iamg_train.pool_commands import console
from iamg_train.run_log import RunLog
from iamg_train.training_samples import TrainingSamples
from iamg_train.whole_files import write_whole

GRIDS = "samples"  # in a run's folder


@dataclass
class Watcher:
    """Writes held-out losses to the log and grids into the run's folder, when it is time."""

    settings: Watch
    own: TrainingSamples | None  # None: no user is held out
    control: TrainingSamples | None
    count: int  # held-out examples in a loss
    grid: GridMaker | None
    noise_schedule: DDPMScheduler
    log: RunLog
    run: Path
    batch_size: int

    def due(self, step: int, last: bool) -> bool:
        return self._measures(step, last) or self._draws(step, last)

    def look(self, model: PersonalisedUNet, step: int, last: bool, device: torch.device) -> None:
        if self._measures(step, last):
            losses = measure(model, self.own, self.control, self.count, self.batch_size, self.noise_schedule, device)
            self.log.held_out(step, losses)
            self._tell(step, losses)
        if self._draws(step, last):
            with console.status(f"step {step}: drawing for held-out users"):
                self._save(step, model, device)

    def _measures(self, step: int, last: bool) -> bool:
        return self.own is not None and _due(step, self.settings.validate_every, last)

    def _draws(self, step: int, last: bool) -> bool:
        return self.grid is not None and _due(step, self.settings.sample_every, last)

    def _tell(self, step: int, losses: HeldOut) -> None:
        console.print(f"step {step}: held-out loss {losses.held_out:.4f}. {losses.verdict()}", highlight=False)

    def _save(self, step: int, model: PersonalisedUNet, device: torch.device) -> None:
        path = self.run / GRIDS / f"step_{step:08d}.png"
        path.parent.mkdir(exist_ok=True)
        content = BytesIO()
        self.grid.draw(model, device).save(content, "PNG")
        write_whole(path, content.getvalue())


def _due(step: int, every: int, last: bool) -> bool:
    return every > 0 and (step % every == 0 or last)
