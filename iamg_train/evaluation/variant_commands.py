"""The parsers of `iamg-train ablate` and `iamg-train sweep`."""

import argparse
from collections.abc import Callable
from pathlib import Path

from iamg_train.drawing_arguments import add_drawing_arguments
from iamg_train.evaluation.metric_settings import add_measuring_arguments
from iamg_train.variants import FULL, NUMBERS, PARTS

Add = Callable[..., argparse.ArgumentParser]
Run = Callable[[str, str], Callable[[argparse.Namespace], int]]

SWEPT = {
    "lambda1": ([0.0, 0.5, 1.0], "weight of the text"),
    "lambda2": ([0.0, 0.1, 0.2, 0.3, 0.5], "weight of the interest"),
    "H": ([1.0, 3.0, 5.0, 8.0, 12.0], "interest tags"),
    "K": ([1.0, 3.0, 5.0, 10.0], "texts and pictures retrieved"),
}
"""The paper's Table 8 and Figure 3, and K."""


def add_commands(commands, add: Add, run: Run) -> None:
    """add: makes a command as `iamg-train` makes its own; run: imports what a command runs when it runs."""
    ablate = add(
        commands, "ablate", run("evaluation.compare_variants", "ablate"), "draw a run without its parts, and compare"
    )
    parts = [name for name in PARTS if name != FULL.name]
    ablate.add_argument(
        "--variants", nargs="+", default=parts, metavar="NAME", help="as `generate --variant` has them, besides the run"
    )
    sweep = add(
        commands, "sweep", run("evaluation.compare_variants", "sweep"), "draw a run with other numbers, and compare"
    )
    numbers = sweep.add_argument_group("numbers, one changed at a time (none: it is not swept)")
    for name in NUMBERS:
        values, what = SWEPT[name]
        numbers.add_argument(f"--{name}", nargs="*", type=float, default=values, metavar="NUMBER", help=what)
    for command in (ablate, sweep):
        _add_common(command)


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, required=True, metavar="FILE", help="the run's settings in TOML")
    command.add_argument(
        "--users",
        type=Path,
        required=True,
        metavar="FILE",
        help='JSONL of {"user_id": ..., "objective": ...}, objective may be left out',
    )
    command.add_argument("--objective", metavar="ID", help="the item to redraw (default: what a user liked last)")
    command.add_argument(
        "--ip-adapter", type=Path, default=argparse.SUPPRESS, metavar="FILE", help="weights in place of the run's"
    )
    # Out is also a key of a run's settings, which this must not change: it has a name of its own.
    command.add_argument(
        "--out", dest="folder", type=Path, required=True, metavar="DIR", help="pictures by variant, and the report"
    )
    add_drawing_arguments(command)
    add_measuring_arguments(command)
    command.set_defaults(after_interrupt="what was drawn and measured is kept: run the same command again to go on")
