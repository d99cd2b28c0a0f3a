"""`iamg-train data check | prepare`."""

from argparse import Namespace

from iamg_train import data_check
from iamg_train.config import load_config
from iamg_train.config_flags import overrides_of
from iamg_train.pool_commands import console
from iamg_train.prepare import prepare as prepare_data


def check(arguments: Namespace) -> int:
    """1 where nothing can be trained on."""
    interactions = arguments.interactions or arguments.items / "interactions.csv"
    if not arguments.interactions and not interactions.is_file():
        interactions = None
    report = data_check.check(arguments.items, interactions, arguments.history_length, arguments.min_rating)
    data_check.tell(report)
    if not interactions:
        console.print("no interactions.csv beside the items: give --interactions FILE to have the users checked")
    if not report.usable:
        console.print("[red]nothing here can be trained on[/]")
    return int(not report.usable)


def prepare(arguments: Namespace) -> int:
    config = load_config(arguments.config, overrides_of(arguments))
    prepare_data(config.data, config.model.checkpoint, config.train.device)
    return 0
