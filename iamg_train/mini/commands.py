"""The parser of `iamg-train mini`."""

import argparse
from collections.abc import Callable
from pathlib import Path

from iamg_train.mini.evaluation_arguments import add_arguments

OUT = Path("mini")

Add = Callable[..., argparse.ArgumentParser]
Run = Callable[[str, str], Callable[[argparse.Namespace], int]]


def add_commands(commands, add: Add, run: Run) -> None:
    """add: makes a command as `iamg-train` makes its own; run: imports what a command runs when it runs."""
    train = add(commands, "train", run("mini.train", "run"), "train the small family from nothing but a seed")
    train.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="stages, family, catalogue, fine-tuning")
    train.add_argument("--seed", type=int, default=0, help="of the posters, the weights and their training")
    train.add_argument("--install", action="store_true", help="put the weights and their card into the pack")
    train.set_defaults(after_interrupt="every stage goes on where it was: run the same command again")

    help_text = "write the mini world's catalogue, its pool and the shipped family's files"
    world = add(commands, "world", run("mini.train", "write_shipped"), help_text)
    world.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="where world/, pool/ and family/ are put")
    world.add_argument("--seed", type=int, default=0, help="of items and users")

    evaluate = add(
        commands, "evaluate", run("mini.evaluate", "run"), "measure what each part of the method does to pictures"
    )
    add_arguments(evaluate)
    evaluate.set_defaults(after_interrupt="pictures that were drawn are kept: run the same command again")
