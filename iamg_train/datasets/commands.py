"""The parser of `iamg-train data movielens | mind | pog | imagefolder`."""

import argparse
from collections.abc import Callable
from pathlib import Path

from iamg_train.argument_types import positive

Add = Callable[..., argparse.ArgumentParser]
Run = Callable[[str, str], Callable[[argparse.Namespace], int]]

POSTER_NAMES = ("movie", "imdb", "tmdb")


def add_commands(commands, add: Add, run: Run) -> None:
    """add: makes a command as `iamg-train` makes its own; run: imports what a command runs when it runs."""

    def importer(name: str, help_text: str, source: str) -> argparse.ArgumentParser:
        command = add(commands, name, run(f"datasets.{name}", "run"), help_text)
        command.add_argument("source", type=Path, metavar="SOURCE", help=source)
        command.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to make")
        command.add_argument(
            "--max-users",
            type=positive,
            metavar="N",
            help="keep N users, those that `data prepare` looks at first, and the items that they met",
        )
        command.set_defaults(dataset=name, after_interrupt="nothing was kept: run the same command again")
        return command

    movielens = importer(
        "movielens", "turn MovieLens' files and posters into a folder of items", "ratings.csv, movies.csv, or .dat"
    )
    movielens.add_argument("--posters", dest="pictures", type=Path, metavar="DIR", help="pictures named after films")
    movielens.add_argument(
        "--posters-by", dest="pictures_by", choices=POSTER_NAMES, default=POSTER_NAMES[0], help="whose ids name them"
    )
    mind = importer("mind", "turn MIND's files into a folder of items", "news.tsv, behaviors.tsv")
    pog = importer("pog", "turn POG's files into a folder of items", "item_data.txt, outfit_data.txt, user_data.txt")
    for command, named_after in ((mind, "news ids"), (pog, "item ids")):
        command.add_argument("--pictures", type=Path, metavar="DIR", help=f"pictures named after {named_after}")
    for command in (movielens, mind):
        command.add_argument("--image-urls", type=Path, metavar="FILE", help="CSV: id, address of its picture")
    folder = importer("imagefolder", "check and copy a folder of pictures", "pictures with metadata or captions")
    folder.add_argument("--interactions", type=Path, metavar="FILE", help="CSV (default: interactions.csv in SOURCE)")
