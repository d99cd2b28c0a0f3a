"""The parser of `iamg-train data images`."""

import argparse
from collections.abc import Callable
from pathlib import Path

from iamg_train.argument_types import count, positive, positive_number

Add = Callable[..., argparse.ArgumentParser]
Run = Callable[[str, str], Callable[[argparse.Namespace], int]]


def add_commands(commands, add: Add, run: Run) -> None:
    """add: makes a command as `iamg-train` makes its own; run: imports what a command runs when it runs."""
    images = add(commands, "images", run("images.command", "run"), "download the pictures that a catalogue names")
    images.add_argument("items", type=Path, metavar="DIR", help="a folder with metadata.jsonl, .csv or .parquet")
    images.add_argument("--url-column", default="image_url", metavar="NAME", help="where the addresses are")
    images.add_argument("--max-bytes", type=positive, default=20_000_000, metavar="N", help="of one picture")
    images.add_argument("--retry-failed", action="store_true", help="ask again for what failed for good")
    images.add_argument(
        "--allow-private",
        action="store_true",
        help="also ask servers of this machine and its network; only for a catalogue that you trust",
    )
    manners = images.add_argument_group("how much is asked of others")
    manners.add_argument(
        "--rate", type=positive_number, default=5.0, metavar="N", help="requests a second, of one host"
    )
    manners.add_argument("--per-host", type=positive, default=4, metavar="N", help="connections to one host")
    manners.add_argument("--connections", type=positive, default=16, metavar="N", help="to all hosts together")
    manners.add_argument("--retries", type=count, default=3, metavar="N", help="after a failure that may pass")
    manners.add_argument("--timeout", type=positive_number, default=30.0, metavar="S", help="seconds without a byte")
    images.set_defaults(after_interrupt="what is there stays: run the same command again to go on")
