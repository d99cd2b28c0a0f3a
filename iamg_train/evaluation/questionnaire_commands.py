"""The parser of `iamg-train questionnaire`."""

import argparse
from collections.abc import Callable
from pathlib import Path

from iamg.scenarios import load_scenarios
from iamg_train.argument_types import positive
from iamg_train.evaluation.method_arguments import add_method_arguments

Add = Callable[..., argparse.ArgumentParser]
Run = Callable[[str, str], Callable[[argparse.Namespace], int]]


def add_commands(commands, add: Add, run: Run) -> None:
    """add: makes a command as `iamg-train` makes its own; run: imports what a command runs when it runs."""
    parser = commands.add_parser("questionnaire", help="ask people which pictures they prefer, and count their answers")
    parts = parser.add_subparsers(required=True, metavar="command")

    make = add(parts, "make", run("evaluation.questionnaire", "make"), "write a questionnaire that a browser opens")
    add_method_arguments(make)
    make.add_argument("--out", type=Path, required=True, metavar="FILE", help="the page; its key is put beside it")
    make.add_argument("--questions", type=positive, default=8, metavar="N", help="that each participant is asked")
    make.add_argument(
        "--cases", type=positive, metavar="N", help="users and items to draw them from (default: as many as questions)"
    )
    make.add_argument("--checks", type=_count, default=2, metavar="N", help="questions with an evident answer besides")
    make.add_argument("--user-info", type=Path, metavar="FILE", help="CSV: user_id, info; who a participant is to be")
    scenarios = load_scenarios()
    make.add_argument(
        "--scenario", choices=scenarios, default=next(iter(scenarios)), help="what kind of items these are"
    )
    make.add_argument("--seed", type=int, default=0, help="of the cases, the checks and the ids in the page")

    score = add(parts, "score", run("evaluation.human_study", "score"), "count the answers of a questionnaire")
    score.add_argument("answers", nargs="+", type=Path, metavar="FILE", help="the files that participants sent")
    score.add_argument("--key", type=Path, required=True, metavar="FILE", help="what `make` put beside the page")
    score.add_argument("--out", type=Path, required=True, metavar="DIR", help="where tables are put")
    score.add_argument(
        "--failed-checks", type=_count, default=0, metavar="N", help="that a participant may have without being dropped"
    )
    score.add_argument(
        "--min-seconds",
        type=float,
        default=3.0,
        metavar="S",
        help="a faster participant, by the median question, is dropped",
    )
    score.add_argument("--seed", type=int, default=0, help="of the bootstrap")


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is not 0 or more")
    return number
