"""`iamg-train pool build | info | verify`."""

from argparse import Namespace
from pathlib import Path

import torch
from rich.table import Table

from iamg.device import find_device
from iamg.items import read_items
from iamg.pool import EmbeddingPool
from iamg.pool_builder import BuildReport, build_pool
from iamg.scenarios import load_scenarios
from iamg_train.console import console, progress_bar, tell_problems
from iamg_train.encoders import ClipEncoders
from iamg_train.tagger_arguments import tagger_of


def build(arguments: Namespace) -> int:
    destination = arguments.out / (arguments.name or arguments.items.resolve().name)
    report = build_from_folder(arguments, arguments.items, destination)
    console.print(f"pool [bold]{destination}[/]: {report.count} items")
    return 0


def info(arguments: Namespace) -> int:
    with EmbeddingPool.open(arguments.pool) as pool:
        table = Table("pool", pool.name, show_edge=False)
        table.add_row("items", str(len(pool)))
        table.add_row("text embeddings", f"{pool.text_width}-d, {pool.manifest['index']['text']['kind']} search")
        table.add_row("image embeddings", f"{pool.image_width}-d, {pool.manifest['index']['image']['kind']} search")
        table.add_row("crop", pool.crop)
        table.add_row("scenario", pool.scenario)
        table.add_row("tagger", str(pool.tagger))
        table.add_row("skipped when built", str(len(pool.manifest["skipped"])))
    console.print(table)
    return 0


def verify(arguments: Namespace) -> int:
    """1 with the problems listed where the pool is not as it was written."""
    try:
        with EmbeddingPool.open(arguments.pool) as pool:
            count, problems = len(pool), pool.verify()
    except ValueError as error:
        count, problems = 0, [str(error)]
    for problem in problems:
        console.print(problem, style="red", markup=False)
    if not problems:
        console.print(f"pool {arguments.pool}: {count} items, every file is as it was written")
    return bool(problems)


def build_from_folder(arguments: Namespace, items: Path, destination: Path) -> BuildReport:
    """Build a pool as the arguments say, with a progress bar, and tell what was skipped."""
    tagger = tagger_of(arguments)
    unreadable: list[tuple[str, str]] = []
    total = sum(1 for _ in read_items(items, lambda name, reason: unreadable.append((name, reason))))
    encoders = load_encoders(arguments)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with progress_bar() as bar:
        task = bar.add_task(f"embedding {total} items", total=total)
        report = build_pool(
            destination,
            read_items(items, lambda name, reason: None),
            items,
            encoders,
            tagger,
            load_scenarios()[arguments.scenario],
            batch_size=arguments.batch_size,
            progress=lambda done, _: bar.update(task, completed=done),
        )
    tell_problems("skipped", [*unreadable, *report.skipped])
    return report


def load_encoders(arguments: Namespace) -> ClipEncoders:
    device, dtype = find_device(arguments.device), getattr(torch, arguments.dtype)
    return ClipEncoders(arguments.checkpoint, arguments.clip_vision, arguments.crop, device, dtype)
