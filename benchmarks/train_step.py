"""What a training step costs: IP-Adapter's tutorial-style step, ours, and the U-Net alone. Linux (it reads /proc).

    python benchmarks/train_step.py --size small
    python benchmarks/train_step.py --size sd15 --device cuda --precision bf16
    python benchmarks/train_step.py --size sd15 --batch-size 1 --resolution 256 --rounds 3 --steps-a-round 1

All three run one after the other in each round of one process, on the same seeded U-Net; ratios are taken within a
round. Peak memory is that of a process of its own for each.
"""

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.cached_step import Floor, make_trainer, run_trainer
from benchmarks.seeded_models import SIZES, Size, make_unet, same_unet
from benchmarks.tutorial_step import TutorialStep
from iamg.adapter import write_adapter
from iamg_train.checkpoints import FOLDER
from iamg_train.export import in_dtype
from iamg_train.personalised_unet import frozen_dtype

TUTORIAL, OURS, FLOOR = "tutorial", "ours", "U-Net alone"
PEAK_STEPS = 2  # from the second on, the optimizer's state is there


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    size: str
    device: str  # cpu, cuda
    precision: str  # what the U-Net computes in: fp32, bf16
    batch_size: int
    resolution: int
    rounds: int
    steps_a_round: int
    threads: int

    def step(self) -> tuple[Size, int, int, torch.device]:
        """What every variant is made from."""
        return SIZES[self.size], self.batch_size, self.resolution, torch.device(self.device)

    @property
    def dtype(self) -> torch.dtype:
        return frozen_dtype(self.precision, self.device)


def main(argv: Sequence[str] | None = None) -> None:
    settings, file = parse(argv)
    peaks = {name: peak_memory(name, settings) for name in (TUTORIAL, OURS, FLOOR)}  # first: this process is small yet
    with TemporaryDirectory() as folder:
        measured = compare(settings, Path(folder))
    report = summarise(settings, measured, peaks)
    show(report, Console())
    if file:
        file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def parse(argv: Sequence[str] | None) -> tuple[Settings, Path | None]:
    """What to measure, and the file for the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small", help="small (seconds on a CPU, default), or SD1.5's")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="default: bf16 on a GPU, fp32 on a CPU")
    parser.add_argument("--batch-size", type=int, help="default: 2 of the small size, 16 of SD1.5's")
    parser.add_argument("--resolution", type=int, help="default: 128 for the small size, 512 for SD1.5's")
    parser.add_argument("--rounds", type=int, default=5, help="that count; one more warms up (default: 5)")
    parser.add_argument("--steps-a-round", type=int, default=5, help="of each of the three (default: 5)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of a CPU (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there as well")
    values = vars(parser.parse_args(argv))
    size, file = SIZES[values["size"]], values.pop("json")
    values["device"] = values["device"] or ("cuda" if torch.cuda.is_available() else "cpu")
    values["precision"] = values["precision"] or ("bf16" if values["device"] == "cuda" else "fp32")
    values["batch_size"] = values["batch_size"] or size.batch_size
    values["resolution"] = values["resolution"] or size.resolution
    return Settings(**values), file


def compare(settings: Settings, folder: Path) -> dict[str, dict[str, list[float]]]:
    """Of each variant, by round: "step" (seconds); where it saves, "checkpoint" (seconds), "bytes"; ours, "exported"."""
    torch.set_num_threads(settings.threads)
    unet, device = make_unet(SIZES[settings.size]), torch.device(settings.device)
    steps = (settings.rounds + 1) * settings.steps_a_round + 1  # a round to warm up, and a last step that saves
    trainer = make_trainer(same_unet(unet, settings.dtype), *settings.step(), steps, folder)
    tutorial = TutorialStep(unet, *settings.step(), settings.dtype)
    others = {TUTORIAL: tutorial, FLOOR: Floor(trainer)}
    saves = {TUTORIAL: lambda: tutorial.save(folder / "tutorial"), OURS: trainer.save}
    saved = {TUTORIAL: folder / "tutorial", OURS: trainer.config.run.out / FOLDER}
    measured = {name: defaultdict(list) for name in (TUTORIAL, OURS, FLOOR)}
    began = []  # when our rounds did

    def after_round() -> None:
        if began:
            synchronize(device)
            measured[OURS]["step"].append((time.perf_counter() - began[-1]) / settings.steps_a_round)
            for name, step in others.items():
                seconds = timed(lambda step=step: [step() for _ in range(settings.steps_a_round)], device)
                measured[name]["step"].append(seconds / settings.steps_a_round)
            for name, save in saves.items():
                measured[name]["checkpoint"].append(timed(save, device))
                measured[name]["bytes"].append(bytes_of(saved[name]))
        began.append(time.perf_counter())

    run_trainer(trainer, settings.steps_a_round, after_round)
    adapter, weights = trainer.model.adapter, folder / "weights.safetensors"
    write_adapter(weights, in_dtype(adapter.state_dict(), "float16"), {"heads": adapter.ira.heads})
    measured[OURS]["exported"].append(weights.stat().st_size)
    return {
        name: {key: values[-settings.rounds :] for key, values in parts.items()} for name, parts in measured.items()
    }


def peak_memory(name: str, settings: Settings) -> int:
    """Bytes that the steps need at most, in a process of their own: of main memory beyond what the libraries take, or
    on a GPU of tensors there. Checkpoints are not part of it."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(peak_of_this_process, name, settings).result()


def peak_of_this_process(name: str, settings: Settings) -> int:
    torch.set_num_threads(settings.threads)
    device = torch.device(settings.device)
    libraries, peaks = resident("VmRSS") if device.type == "cpu" else 0, []
    unet = make_unet(SIZES[settings.size])
    with TemporaryDirectory() as folder:
        if name == TUTORIAL:
            step = TutorialStep(unet, *settings.step(), settings.dtype)
        else:
            unet = torch.nn.Module.to(unet, settings.dtype)
            trainer = make_trainer(unet, *settings.step(), PEAK_STEPS + 1, Path(folder))
            step = Floor(trainer)
        forget_peak(device)
        if name == OURS:
            run_trainer(trainer, PEAK_STEPS, lambda: peaks.append(peak(device)))  # before the last step, which saves
        else:
            for _ in range(PEAK_STEPS):
                step()
            peaks.append(peak(device))
    return peaks[-1] - libraries


def summarise(settings: Settings, measured: dict[str, dict[str, list[float]]], peaks: dict[str, int]) -> dict:
    """The report: a part for each variant, and ours against the two others."""
    report = {
        "settings": asdict(settings)
        | {"machine": machine(settings.device, settings.threads), "torch": torch.__version__}
    }
    for name, parts in measured.items():
        report[name] = {
            "samples_per_second": spread(settings.batch_size / seconds for seconds in parts["step"]),
            "peak_bytes": peaks[name],
        }
        if name in (TUTORIAL, OURS):
            report[name] |= {"checkpoint_seconds": spread(parts["checkpoint"]), "checkpoint_bytes": parts["bytes"][-1]}
    exported = measured[OURS]["exported"][0]
    whole = report[TUTORIAL]["checkpoint_bytes"]
    steps = {name: parts["step"] for name, parts in measured.items()}
    report[OURS]["exported_bytes"] = exported
    report["ratios"] = {
        "speed_to_tutorial": spread(a / b for a, b in zip(steps[TUTORIAL], steps[OURS], strict=True)),
        "step_to_floor": spread(a / b for a, b in zip(steps[OURS], steps[FLOOR], strict=True)),
        "peak_to_tutorial": peaks[OURS] / peaks[TUTORIAL],
        "checkpoint_to_tutorial": report[OURS]["checkpoint_bytes"] / whole,
        "exported_to_tutorial": exported / whole,
    }
    return report


def show(report: dict, console: Console) -> None:
    settings, ratios = report["settings"], report["ratios"]
    table = Table(
        title="{size}, {precision}, batch {batch_size}, {resolution} px, {machine}, torch {torch}".format(**settings),
        caption=f"median (min-max) of {settings['rounds']} rounds of {settings['steps_a_round']} steps",
    )
    for column in ("", "samples/s", "peak memory", "checkpoint, s", "checkpoint"):
        table.add_column(column, justify="right" if column else "left")
    for name in (TUTORIAL, OURS, FLOOR):
        part = report[name]
        cells = [in_words(part["samples_per_second"]), megabytes(part["peak_bytes"])]
        if name in (TUTORIAL, OURS):
            cells += ["{median:.3g}".format(**part["checkpoint_seconds"]), megabytes(part["checkpoint_bytes"])]
        table.add_row(name, *cells)
    console.print(table)
    console.print(f"samples/s, ours / tutorial: {in_words(ratios['speed_to_tutorial'])}")
    console.print(f"seconds a step, ours / U-Net alone: {in_words(ratios['step_to_floor'])}")
    console.print(f"peak memory, ours / tutorial: {ratios['peak_to_tutorial']:.1%}")
    console.print(
        f"checkpoint, ours / tutorial: {ratios['checkpoint_to_tutorial']:.1%}; the exported weights "
        f"({megabytes(report[OURS]['exported_bytes'])}): {ratios['exported_to_tutorial']:.1%}"
    )


def spread(values: Iterable[float]) -> dict[str, float]:
    values = list(values)
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def in_words(values: dict[str, float]) -> str:
    return "{median:.3g} ({min:.3g}-{max:.3g})".format(**values)


def megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds, until the device is done."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget_peak(device: torch.device) -> None:
    """Count the peak from now on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")


def peak(device: torch.device) -> int:
    """Bytes at most since `forget_peak`: of tensors on the GPU, or of this process in main memory."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else resident("VmHWM")


def resident(entry: str) -> int:
    """Bytes of this process in main memory: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(entry))


def bytes_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def machine(device: str, threads: int) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "CPU")
    return f"{model}, threads: {threads}"


if __name__ == "__main__":
    main()
