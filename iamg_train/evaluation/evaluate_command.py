"""The parser of `iamg-train evaluate`."""

import argparse
from collections.abc import Callable
from pathlib import Path

from iamg_train.evaluation.method_arguments import add_method_arguments
from iamg_train.evaluation.metric_settings import add_metric_arguments

Add = Callable[..., argparse.ArgumentParser]
Run = Callable[[str, str], Callable[[argparse.Namespace], int]]


def add_commands(commands, add: Add, run: Run) -> None:
    """add: makes a command as `iamg-train` makes its own; run: imports what a command runs when it runs."""
    evaluate = add(commands, "evaluate", run("evaluation.evaluate", "run"), "measure and compare methods' pictures")
    add_method_arguments(evaluate)
    evaluate.add_argument("--out", type=Path, required=True, metavar="DIR", help="where scores and report are put")
    evaluate.add_argument(
        "--reference", metavar="NAME", help="what the other methods are compared with (default: the first)"
    )
    add_metric_arguments(evaluate)
    evaluate.set_defaults(after_interrupt="what was measured is kept: run the same command again to go on")
