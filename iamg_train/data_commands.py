"""`iamg-train data check | prepare`."""

from argparse import Namespace

from iamg_train import data_check
from iamg_train.config import Config, load_config
from iamg_train.config_flags import overrides_of
from iamg_train.pool_commands import console
from iamg_train.prepare import PrepareOptions
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
    prepare_data(prepare_options(load_config(arguments.config, overrides_of(arguments))))
    return 0


def prepare_options(config: Config) -> PrepareOptions:
    data = config.data
    return PrepareOptions(
        items=data.items,
        interactions=data.interactions,
        pool=data.pool,
        prepared=data.prepared,
        cache=data.cache,
        checkpoint=config.model.checkpoint,
        scenario=data.scenario,
        history_length=data.history_length,
        min_rating=data.min_rating,
        interest_tags=data.interest_tags,
        top_k=data.top_k,
        max_entries=data.max_entries,
        test_fraction=data.test_fraction,
        leave_one_out=data.leave_one_out,
        near_duplicate=data.near_duplicate,
        foreground=data.foreground,
        masks=data.masks,
        device=config.train.device,
        dtype=data.cache_dtype,
    )
