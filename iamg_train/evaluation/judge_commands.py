"""The parser of `iamg-train judge`."""

import argparse
from collections.abc import Callable
from pathlib import Path

from iamg.scenarios import load_scenarios
from iamg_train.argument_types import positive
from iamg_train.evaluation.method_arguments import add_method_arguments
from iamg_train.tagger_arguments import DTYPES

ENDPOINT, TRANSFORMERS = "endpoint", "transformers"
RANK, PAIRS = "rank", "pairs"

Add = Callable[..., argparse.ArgumentParser]
Run = Callable[[str, str], Callable[[argparse.Namespace], int]]


def add_commands(commands, add: Add, run: Run) -> None:
    """add: makes a command as `iamg-train` makes its own; run: imports what a command runs when it runs."""
    scenarios = list(load_scenarios())
    judge = add(commands, "judge", run("evaluation.judge", "run"), "let a vision-language model rank methods' pictures")
    add_method_arguments(judge)
    judge.add_argument("--out", type=Path, required=True, metavar="DIR", help="where judgements and ranking are put")
    judge.add_argument("--scenario", choices=scenarios, default=scenarios[0], help="what kind of items these are")
    judge.add_argument("--user-info", type=Path, metavar="FILE", help="CSV: user_id, info; who a user is")
    asked = judge.add_argument_group("what is asked")
    asked.add_argument("--mode", choices=(RANK, PAIRS), default=RANK, help="all methods at once, or each two of them")
    asked.add_argument(
        "--orders", type=_even, default=2, metavar="N", help="slot orders of a question, each with its reverse"
    )
    asked.add_argument("--pictures", type=positive, default=1, metavar="N", help="of each user and objective")
    asked.add_argument("--users", type=positive, metavar="N", help="judge for so many users only")
    asked.add_argument("--dry-run", action="store_true", help="say how many requests that takes, and ask nothing")
    asked.add_argument("--retry-failed", action="store_true", help="ask again where no answer could be used")
    model = judge.add_argument_group("the judge")
    model.add_argument("--judge", choices=(ENDPOINT, TRANSFORMERS), default=ENDPOINT, help="where the model runs")
    model.add_argument(
        "--vision-model",
        metavar="MODEL",
        help="its name at the endpoint (default: what the settings say); for transformers a folder, or an id of the "
        "Hugging Face hub, which is fetched",
    )
    model.add_argument(
        "--endpoint",
        type=Path,
        metavar="FILE",
        help="settings of the endpoint, TOML (default: the environment's IAMG_ENDPOINT_URL ...)",
    )
    model.add_argument("--device", default="auto", help="where transformers runs: auto, cpu, cuda, cuda:1 ...")
    model.add_argument("--dtype", choices=DTYPES, default=DTYPES[0], help="what it computes in; auto: 16 bits on a GPU")
    model.add_argument("--batch-size", type=positive, default=4, metavar="N", help="questions it answers together")
    judge.add_argument("--seed", type=int, default=0, metavar="N", help="of the intervals")
    judge.set_defaults(after_interrupt="answers that came are kept: run the same command again to go on")


def _even(text: str) -> int:
    number = positive(text)
    if number % 2:
        raise argparse.ArgumentTypeError(f"{text} is odd; each order is asked with its reverse")
    return number
