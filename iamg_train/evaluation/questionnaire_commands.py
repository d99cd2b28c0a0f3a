"""The parser of `iamg-train questionnaire`."""

import argparse
from collections.abc import Callable
from pathlib import Path

from iamg.scenarios import load_scenarios

Add = Callable[..., argparse.ArgumentParser]
Run = Callable[[str, str], Callable[[argparse.Namespace], int]]


def add_commands(commands, add: Add, run: Run) -> None:
    """add: makes a command as `iamg-train` makes its own; run: imports what a command runs when it runs."""
    parser = commands.add_parser("questionnaire", help="ask people which pictures they prefer, and count their answers")
    parts = parser.add_subparsers(required=True, metavar="command")

    make = add(parts, "make", run("evaluation.questionnaire", "make"), "write a questionnaire that a browser opens")
    make.add_argument(
        "methods", nargs="+", type=_named_folder, metavar="NAME=DIR", help="folders of pictures with a manifest.jsonl"
    )
    make.add_argument("--items", type=Path, required=True, metavar="DIR", help="what the pictures were drawn from")
    make.add_argument("--out", type=Path, required=True, metavar="FILE", help="the page; its key is put beside it")
    make.add_argument("--questions", type=_positive, default=8, metavar="N", help="that each participant is asked")
    make.add_argument(
        "--cases", type=_positive, metavar="N", help="users and items to draw them from (default: as many as questions)"
    )
    make.add_argument("--checks", type=_count, default=2, metavar="N", help="questions with an evident answer besides")
    make.add_argument(
        "--original", action=argparse.BooleanOptionalAction, default=True, help="the item's own picture is a method too"
    )
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


def _named_folder(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name.strip() and equals and folder):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=DIR")
    return name.strip(), Path(folder)


def _positive(text: str) -> int:
    return _count(text, least=1)


def _count(text: str, least: int = 0) -> int:
    number = int(text)
    if number < least:
        raise argparse.ArgumentTypeError(f"{text} is not {least} or more")
    return number
