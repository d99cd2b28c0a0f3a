"""What the demo draws with and from: its own or given catalogue and weights, and their pool."""

import json
from argparse import Namespace
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

from iamg.scenarios import load_scenarios
from iamg.tagging import MINI_CLIP, TAGGERS
from iamg_train import pool_commands
from iamg_train.demo_world import draw_catalogue
from iamg_train.mini.files import unpack
from iamg_train.pool_commands import console
from iamg_train.tagger_arguments import tagger_of

WORKFLOWS = Path(__file__).resolve().parents[1] / "workflows" / "api"


@dataclass(frozen=True)
class Weights:
    """Files that belong together, and the workflow that runs on them."""

    checkpoint: Path
    clip_vision: Path
    ip_adapter: Path
    mini: bool  # the first two are the pack's own

    @property
    def workflow(self) -> Path:
        return WORKFLOWS / ("mini_poster.json" if self.mini else "personalise_poster.json")

    @property
    def name(self) -> str:
        """What the workflow calls its pool, and the folder of its items."""
        return "iamg_mini" if self.mini else "iamg_demo"


@dataclass(frozen=True)
class Task:
    items: Path
    interactions: Path
    drawn: bool  # the catalogue is the demo's own
    weights: Weights
    pool: Path

    @property
    def uploaded(self) -> PurePosixPath:
        """Where the items are under ComfyUI's input/."""
        return PurePosixPath(self.weights.name)


def prepare(arguments: Namespace) -> Task:
    """The catalogue, the weights and the pool, made where they are not given or not there yet.

    Puts what was not given among the arguments.
    """
    arguments.out.mkdir(parents=True, exist_ok=True)
    items, interactions = catalogue(arguments)
    drawn, weights = arguments.items is None, choose_weights(arguments)
    arguments.checkpoint, arguments.clip_vision = weights.checkpoint, weights.clip_vision
    fitting = {"scenario": next(iter(load_scenarios())), "tagger": TAGGERS[0]}
    if drawn:
        fitting = {"scenario": "mini poster", "tagger": "clip + keywords", "clip_model": MINI_CLIP}
    for name, value in fitting.items():
        setattr(arguments, name, getattr(arguments, name) or value)
    pools = arguments.out / "comfyui" / "models" / "iamg_pools"
    pool = pools / (weights.name if drawn else f"{weights.name}_{items.name}")
    if not is_current(pool, arguments, items):
        pool_commands.build_from_folder(arguments, items, pool)
    return Task(items, interactions, drawn, weights, pool)


def catalogue(arguments: Namespace) -> tuple[Path, Path]:
    """The folder of items and the interactions file: the user's own, or the drawn catalogue."""
    if arguments.items:
        interactions = arguments.interactions or arguments.items / "interactions.csv"
        if not interactions.is_file():
            raise FileNotFoundError(f"{interactions} does not exist; give --interactions FILE")
        return arguments.items.resolve(), interactions.resolve()
    if arguments.interactions:
        raise ValueError("--interactions needs --items, the folder of the items that it names")
    drawn = arguments.out.resolve() / "catalogue"
    with console.status("drawing the catalogue"):
        draw_catalogue(drawn)
    return drawn, drawn / "interactions.csv"


def choose_weights(arguments: Namespace) -> Weights:
    """The given files, or the mini family that comes with the pack; an adapter for that may be given alone."""
    given = [arguments.checkpoint, arguments.clip_vision, arguments.ip_adapter]
    if not all(given) and any(given[:2]):
        raise ValueError("give --checkpoint, --clip-vision and --ip-adapter together, or none of them")
    for path in filter(None, given):
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist")
    if all(given):
        return Weights(*(path.resolve() for path in given), mini=False)
    mini = unpack(arguments.out.resolve() / "models")
    return Weights(mini.checkpoint, mini.clip_vision, (arguments.ip_adapter or mini.adapter).resolve(), mini=True)


def is_current(pool: Path, arguments: Namespace, items: Path) -> bool:
    """Whether the pool is there, made as the arguments say, after its items and weights were last changed."""
    manifest = pool / "pool.json"
    if not manifest.is_file():
        return False
    sources = chain([arguments.checkpoint, arguments.clip_vision], items.rglob("*"))
    if manifest.stat().st_mtime < max(source.stat().st_mtime for source in sources):
        return False
    made = json.loads(manifest.read_text(encoding="utf-8"))
    wanted = (arguments.crop, arguments.scenario, tagger_of(arguments).name)
    return (made.get("crop"), made.get("scenario"), made.get("tagger")) == wanted
