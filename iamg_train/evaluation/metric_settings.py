"""What metrics are computed with, and the arguments that say it, shared by all commands that measure."""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

from iamg.tagging import MINI_CLIP
from iamg_train.argument_types import positive

LPIPS_NETS = ("alex", "vgg")
MEASURING = ("clip_model", "dino", "lpips_net", "lpips_weights", "size", "gallery_users")


@dataclass(frozen=True)
class MetricSettings:
    """A metric whose model is not there is left out, and results say so."""

    clip_model: str | None = None  # MINI_CLIP, or an open_clip model's folder
    dino: Path | None = None  # a folder of transformers
    lpips_net: str = LPIPS_NETS[0]
    lpips_weights: Path | None = None  # None: what torchvision has fetched before
    size: int = 256  # pixels a side, of the squares that SSIM, MS-SSIM and LPIPS compare
    gallery_users: int = 10  # among whom a picture's user is looked for
    interest_tags: int = 8  # H
    interactions: Path | None = None  # histories that manifests do not have
    history_length: int = 5  # k
    min_rating: float = 4.0
    seed: int = 0  # of the galleries of users, and of the statistics


def add_metric_arguments(command: argparse.ArgumentParser) -> None:
    group = add_measuring_arguments(command)
    _add(group, "interest_tags", "H: tags of a user's history", type=positive, metavar="N")
    _add(group, "interactions", "CSV: histories that manifests do not name", type=Path, metavar="FILE")
    _add(group, "history_length", "k: liked items before the objective", type=positive, metavar="N")
    _add(group, "min_rating", "from which rating on an item counts as liked", type=float, metavar="NUMBER")
    _add(group, "seed", "of the galleries of users, and of the statistics", type=int, metavar="N")


def add_measuring_arguments(command: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Those that say nothing of the data, for commands that know them from a run's settings."""
    models = command.add_argument_group("models (nothing is downloaded; without one its metrics are left out)")
    clip = f"CLIP: an open_clip model's folder, or {MINI_CLIP}; best another one than the method retrieves with"
    _add(models, "clip_model", clip, metavar="DIR")
    _add(models, "dino", "DINO or DINOv2, a folder as transformers saves it", type=Path, metavar="DIR")
    _add(models, "lpips_net", "LPIPS's backbone", choices=LPIPS_NETS)
    cached = "torchvision's weights of that backbone (default: the file in torchvision's cache, if it is there)"
    _add(models, "lpips_weights", cached, type=Path, metavar="FILE")
    metrics = command.add_argument_group("metrics")
    _add(metrics, "size", "pixels a side at which SSIM, MS-SSIM and LPIPS compare", type=_window, metavar="N")
    _add(metrics, "gallery_users", "users among whom a picture's own is looked for", type=_two, metavar="N")
    return metrics


def metric_settings_of(arguments: argparse.Namespace) -> MetricSettings:
    return MetricSettings(**{field.name: getattr(arguments, field.name) for field in fields(MetricSettings)})


def measuring_of(arguments: argparse.Namespace) -> dict[str, object]:
    """What `add_measuring_arguments` added, by the names of MetricSettings."""
    return {name: getattr(arguments, name) for name in MEASURING}


def _add(group: argparse._ArgumentGroup, name: str, what: str, **more: object) -> None:
    default = getattr(MetricSettings, name)
    group.add_argument("--" + name.replace("_", "-"), help=what, default=default, **more)


def _window(text: str) -> int:
    return _at_least(text, 32)


def _two(text: str) -> int:
    return _at_least(text, 2)


def _at_least(text: str, least: int) -> int:
    number = int(text)
    if number < least:
        raise argparse.ArgumentTypeError(f"{text} is not {least} or more")
    return number
