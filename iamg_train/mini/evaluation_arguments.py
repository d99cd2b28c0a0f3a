"""The parser of `iamg-train mini evaluate`, and what its arguments come to."""

import shlex
from argparse import ArgumentParser, Namespace
from pathlib import Path

from iamg.mini.places import ADAPTER, IP_ADAPTER, family_files
from iamg_train.mini.variants import STOCK, TRAINED, TRAINED_PAPER

WRITTEN = Path("mini")  # by `iamg-train mini world`
CHECKPOINT, CLIP_VISION = family_files(WRITTEN / "family")
FOLDERS = {
    "world": (WRITTEN / "world", "the catalogue of `iamg-train mini world`"),
    "pool": (WRITTEN / "pool", "its embedding pool"),
}
WEIGHTS = {
    "checkpoint": (CHECKPOINT, "the family's SD1.5 checkpoint"),
    "clip_vision": (CLIP_VISION, "the family's CLIP Vision"),
    STOCK: (IP_ADAPTER, "what fine-tuning started from (default: the pack's)"),
    TRAINED: (ADAPTER, "the fine-tuned adapter, with IRA (default: the pack's)"),
    TRAINED_PAPER: (None, "one that was fine-tuned without leave-one-out (default: none)"),
}
COUNTS = {
    "users": (200, "held-out users, an item each"),
    "seeds": (4, "pictures of each under every variant"),
    "sweep_seeds": (1, "pictures of each at every point of a sweep"),
    "steps": (10, "DDIM steps"),
}
FEWEST = {"users": 2}
GUIDANCE, SEED = 4.0, 0
OUT = WRITTEN / "evaluation"


def add_arguments(parser: ArgumentParser) -> None:
    for names, kind in ((FOLDERS, "DIR"), (WEIGHTS, "FILE")):
        for name, (default, help_text) in names.items():
            parser.add_argument(_flag(name), type=Path, default=default, metavar=kind, help=help_text)
    for name, (default, help_text) in COUNTS.items():
        parser.add_argument(_flag(name), type=int, default=default, metavar="N", help=help_text)
    help_text = "of classifier-free guidance"
    parser.add_argument("--guidance-scale", type=float, default=GUIDANCE, metavar="NUMBER", help=help_text)
    parser.add_argument("--seed", type=int, default=SEED, help="of the reader, the users, the noise and the intervals")
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="where pictures and numbers are put")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="a Markdown page whose evaluation is written anew")


def check_arguments(arguments: Namespace) -> None:
    """ValueError for a count that is too small, FileNotFoundError naming the weights that are not there."""
    for name in COUNTS:
        fewest, given = FEWEST.get(name, 1), getattr(arguments, name)
        if given < fewest:
            raise ValueError(f"{_flag(name)} is {given}, expected {fewest} or more")
    lacking = [
        f"{_flag(x)}: there is no file {path}" for x, path in weights_of(arguments).items() if not path.is_file()
    ]
    if lacking:
        raise FileNotFoundError("\n".join(lacking))


def weights_of(arguments: Namespace) -> dict[str, Path]:
    """The files of weights that are there to be compared."""
    return {name: path for name in WEIGHTS if (path := getattr(arguments, name))}


def command_of(arguments: Namespace) -> str:
    """What was run, as a shell takes it: what is not the default; of absolute paths only the names."""
    defaults = {name: default for name, (default, _) in (FOLDERS | WEIGHTS | COUNTS).items()}
    defaults |= {"guidance_scale": GUIDANCE, "seed": SEED, "out": OUT, "docs": None}
    words = ["iamg-train", "mini", "evaluate"]
    for name, default in defaults.items():
        if (value := getattr(arguments, name)) != default:
            words += [_flag(name), value.name if isinstance(value, Path) and value.is_absolute() else str(value)]
    return shlex.join(words)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
