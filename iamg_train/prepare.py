"""From items, interactions and a pool to the prepared folder that training starts from.

What is slow is kept by content: what a killed run encoded and cut out, the next one finds.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress

from iamg.device import find_device
from iamg.fingerprint import PROBE_TEXT
from iamg.interactions import read_interactions
from iamg.pool import EmbeddingPool
from iamg.scenarios import load_scenarios
from iamg_train.config import Data
from iamg_train.foregrounds import FolderMasks, RembgMasks, find_foregrounds
from iamg_train.histories import Choice, Entry, Split, choose_entries, control_entries
from iamg_train.input_cache import TextCache
from iamg_train.neighbours import Neighbours
from iamg_train.objectives import Objective, Objectives
from iamg_train.pool_commands import console, progress_bar, tell_problems
from iamg_train.prepared import TEST, TRAIN, Prepared, Sample, write_prepared
from iamg_train.sample_maker import SampleMaker

# What the samples depend on, besides the pool and the pictures.
PARAMETERS = (
    "scenario",
    "history_length",
    "min_rating",
    "interest_tags",
    "top_k",
    "max_entries",
    "test_fraction",
    "leave_one_out",
    "near_duplicate",
    "foreground",
)

# What was left out, by the name of its count.
SKIPPED = {
    "skipped_rows": "interactions without a number as rating or timestamp",
    "unknown_items": "items that the pool lacks",
    "unreadable_pictures": "items whose picture cannot be read",
    "short_users": "users with too few liked items",
    "users_beyond_limit": "users beyond max_entries",
}


def prepare(data: Data, checkpoint: Path, device: str = "auto") -> Prepared:
    """Writes the prepared folder, says what is in it and what was skipped, and opens it.

    checkpoint: for its text encoder, which runs on `device`. Raises ValueError where there is nothing to train on,
    and where that text encoder is not the pool's.
    """
    with EmbeddingPool.open(data.pool) as pool, progress_bar() as bar:
        objectives = Objectives(data.items, pool)
        choice, counts = _choose(data, pool, objectives.readable, stage(bar, "choosing histories"))
        counts["unreadable_pictures"] = len(objectives.problems)
        if not counts[TRAIN]:
            raise _nothing_to_train_on(data, counts, objectives)
        entries = [*choice.entries, *control_entries(choice.entries)]
        texts = text_cache(data, checkpoint, device, pool)
        samples = make_samples(data, pool, texts, entries, objectives, bar)
        if data.foreground != "none":
            counts["without_foreground"] = len({x.objective for x in samples if x.foreground is None})
        parameters = {name: getattr(data, name) for name in PARAMETERS}
        parameters |= {"crop": pool.crop, "pool": pool.name, "pool_checksum": pool.manifest["xxh3_64"]}
        write_prepared(data.prepared, samples, parameters, counts, retrieved_embeds(pool, samples))
    _tell(data, counts, objectives)
    return Prepared.open(data.prepared, data.items)


def text_cache(data: Data, checkpoint: Path, device: str, pool: EmbeddingPool) -> TextCache:
    """The cache of this checkpoint's text encoder; ValueError where it is not the pool's."""
    texts = TextCache(data.cache, checkpoint, getattr(torch, data.cache_dtype), find_device(device))
    texts.ensure([PROBE_TEXT])
    pool.check_encoders(texts.pooled(PROBE_TEXT), pool.image_probe)
    return texts


def make_samples(
    data: Data,
    pool: EmbeddingPool,
    texts: TextCache,
    entries: Sequence[Entry],
    objectives: Objectives,
    bar: Progress,
) -> list[Sample]:
    """The samples of these entries: texts rewritten and encoded, foregrounds cut out, neighbours retrieved."""
    redrawn = [objectives[item_id] for item_id in dict.fromkeys(entry.history.objective for entry in entries)]
    masks = _masks(data, redrawn, stage(bar, "cutting out foregrounds"))
    maker = _sample_maker(data, pool, texts)
    rewritten = maker.rewrite(entries, stage(bar, "rewriting texts"))
    texts.ensure(rewritten, stage(bar, "encoding texts"))
    return maker.samples(entries, rewritten, objectives, masks, stage(bar, "retrieving neighbours"))


def retrieved_embeds(pool: EmbeddingPool, samples: Sequence[Sample]) -> dict[str, np.ndarray]:
    """Ψ's embeddings by item, (image width,) float32, of every item that some sample retrieved."""
    ids = sorted({item_id for sample in samples for item_id in sample.retrieved_ids})
    return dict(zip(ids, pool.image_embeds([pool.item(item_id).row for item_id in ids]), strict=True))


def plan_counts(data: Data) -> dict[str, int]:
    """The counts of `prepare` as far as interactions and pool tell them, without a look at the pictures."""
    with EmbeddingPool.open(data.pool) as pool:
        return _choose(data, pool, lambda item_id: True, lambda done, total: None)[1]


def _choose(
    data: Data,
    pool: EmbeddingPool,
    usable: Callable[[str], bool],
    progress: Callable[[int, int], None],
) -> tuple[Choice, dict[str, int]]:
    users, skipped_rows = read_interactions(data.interactions)
    if len(users) < 2:
        raise ValueError(
            f"{data.interactions} has interactions of {len(users)} users; 2 or more are needed, because one "
            "user's interest is measured against another's"
        )
    named = {event.item_id for events in users.values() for event in events}
    known = {item_id for item_id in named if pool.contains(item_id)}
    split = Split(data.test_fraction)
    limits = (data.history_length, data.min_rating, data.max_entries)
    choice = choose_entries(users, known, usable, split, *limits, progress)
    return choice, choice.counts() | {"unknown_items": len(named) - len(known), "skipped_rows": skipped_rows}


def _nothing_to_train_on(data: Data, counts: dict[str, int], objectives: Objectives) -> ValueError:
    found = ", ".join(f"{counts[name]} {words}" for name, words in SKIPPED.items() if counts[name])
    first = f" (the first: {next(iter(objectives.problems.values()))})" if objectives.problems else ""
    return ValueError(
        f"{data.interactions} gives nothing to train on: {found}{first}; needed are users with "
        f"{data.history_length + 1} liked items of pool '{data.pool.name}'. Lower history_length or min_rating, "
        "or give interactions, items and pool of one catalogue"
    )


def _masks(data: Data, objectives: Sequence[Objective], progress: Callable[[int, int], None]) -> dict[str, str]:
    if data.foreground == "none":
        return {}
    masks = RembgMasks(data.items) if data.foreground == "rembg" else FolderMasks(data.masks)
    return find_foregrounds(data.prepared, objectives, masks, progress)


def _sample_maker(data: Data, pool: EmbeddingPool, texts: TextCache) -> SampleMaker:
    near_duplicate = data.near_duplicate if data.leave_one_out else None
    neighbours = Neighbours(pool, Split(data.test_fraction), data.top_k, near_duplicate)
    return SampleMaker(pool, neighbours, texts, load_scenarios()[data.scenario], data.interest_tags)


def stage(bar: Progress, title: str) -> Callable[[int, int], None]:
    """Moves a bar of its own, which appears once there is something to do."""
    tasks = []

    def show(done: int, total: int) -> None:
        if not tasks:
            tasks.append(bar.add_task(title))
        bar.update(tasks[0], completed=done, total=total)

    return show


def _tell(data: Data, counts: dict[str, int], objectives: Objectives) -> None:
    console.print(f"[bold]{data.prepared}[/]: {counts[TRAIN]} samples to train on, {counts[TEST]} held out")
    for name, words in SKIPPED.items():
        if counts[name]:
            console.print(f"  skipped: {counts[name]} {words}")
    tell_problems("pictures cannot be read", list(objectives.problems.items()))
    if counts.get("without_foreground"):
        console.print(f"  {counts['without_foreground']} items without a foreground: their whole picture is used")
    if not counts[TEST]:
        console.print("[yellow]nothing is held out to judge the training by; raise test_fraction, or add users[/]")
