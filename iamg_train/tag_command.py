"""The parser of `iamg-train tag`."""

import argparse
from collections.abc import Callable
from pathlib import Path

from iamg.scenarios import load_scenarios
from iamg_train.tagger_arguments import add_tagger_arguments

Add = Callable[..., argparse.ArgumentParser]
Run = Callable[[str, str], Callable[[argparse.Namespace], int]]


def add_commands(commands, add: Add, run: Run) -> None:
    """add: makes a command as `iamg-train` makes its own; run: imports what a command runs when it runs."""
    scenarios = list(load_scenarios())
    tag = add(commands, "tag", run("tag", "run"), "tag every item of a folder, and say what the tags are")
    tag.add_argument("items", type=Path, metavar="DIR", help="pictures with metadata.jsonl, .csv or .parquet")
    tag.add_argument("--scenario", choices=scenarios, default=scenarios[0], help="what kind of items these are")
    add_tagger_arguments(tag)
    more = tag.add_argument_group("more than tags")
    more.add_argument("--describe", action="store_true", help="first write texts for the items that have none")
    more.add_argument(
        "--merge-synonyms", type=Path, metavar="DIR", help="find near-synonyms with this sentence-embedding model"
    )
    more.add_argument("--similarity", type=_cosine, default=0.9, help="from which cosine on two tags are synonyms")
    tag.set_defaults(after_interrupt="answers that came are kept: run the same command again to go on")


def _cosine(text: str) -> float:
    number = float(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1")
    return number
