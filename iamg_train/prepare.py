"""From items, interactions and a pool to the prepared folder that training starts from.

What is slow is kept by content: what a killed run encoded and cut out, the next one finds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress

from iamg.fingerprint import PROBE_TEXT
from iamg.interactions import read_interactions
from iamg.pool import EmbeddingPool
from iamg.scenarios import load_scenarios
from iamg_train.foregrounds import FolderMasks, RembgMasks, find_foregrounds
from iamg_train.histories import Choice, Entry, Split, choose_entries, control_entries
from iamg_train.input_cache import TextCache
from iamg_train.neighbours import Neighbours
from iamg_train.objectives import Objective, Objectives
from iamg_train.pool_commands import console, find_device, progress_bar, tell_problems
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


@dataclass(frozen=True)
class PrepareOptions:
    items: Path
    interactions: Path
    pool: Path
    prepared: Path
    cache: Path
    checkpoint: Path
    scenario: str = "movie poster"
    history_length: int = 5  # k
    min_rating: float = 4.0
    interest_tags: int = 8  # H
    top_k: int = 5  # K
    max_entries: int = 1500
    test_fraction: float = 0.1
    leave_one_out: bool = True
    near_duplicate: float = 0.985
    foreground: str = "none"  # "none", "rembg" or "masks"
    masks: Path | None = None
    device: str = "auto"
    dtype: str = "float32"  # of the cached texts


def prepare(options: PrepareOptions) -> Prepared:
    """Writes the prepared folder, says what is in it and what was skipped, and opens it.

    Raises ValueError where there is nothing to train on, and where the checkpoint's text encoder is not the pool's.
    """
    with EmbeddingPool.open(options.pool) as pool, progress_bar() as bar:
        objectives = Objectives(options.items, pool)
        choice, counts = _choose(options, pool, objectives.readable, stage(bar, "choosing histories"))
        counts["unreadable_pictures"] = len(objectives.problems)
        if not counts[TRAIN]:
            raise _nothing_to_train_on(options, counts, objectives)
        entries = [*choice.entries, *control_entries(choice.entries)]
        samples = make_samples(options, pool, entries, objectives, bar)
        if options.foreground != "none":
            counts["without_foreground"] = len({x.objective for x in samples if x.foreground is None})
        parameters = {name: getattr(options, name) for name in PARAMETERS}
        parameters |= {"crop": pool.crop, "pool": pool.name, "pool_checksum": pool.manifest["xxh3_64"]}
        write_prepared(options.prepared, samples, parameters, counts, retrieved_embeds(pool, samples))
    _tell(options, counts, objectives)
    return Prepared.open(options.prepared, options.items)


def make_samples(
    options: PrepareOptions, pool: EmbeddingPool, entries: Sequence[Entry], objectives: Objectives, bar: Progress
) -> list[Sample]:
    """The samples of these entries: texts rewritten and encoded, foregrounds cut out, neighbours retrieved."""
    redrawn = [objectives[item_id] for item_id in dict.fromkeys(entry.history.objective for entry in entries)]
    texts = _text_cache(options, pool)
    masks = _masks(options, redrawn, stage(bar, "cutting out foregrounds"))
    maker = _sample_maker(options, pool, texts)
    rewritten = maker.rewrite(entries, stage(bar, "rewriting texts"))
    texts.ensure(rewritten, stage(bar, "encoding texts"))
    return maker.samples(entries, rewritten, objectives, masks, stage(bar, "retrieving neighbours"))


def retrieved_embeds(pool: EmbeddingPool, samples: Sequence[Sample]) -> dict[str, np.ndarray]:
    """Ψ's embeddings by item, (image width,) float32, of every item that some sample retrieved."""
    ids = sorted({item_id for sample in samples for item_id in sample.retrieved_ids})
    return dict(zip(ids, pool.image_embeds([pool.item(item_id).row for item_id in ids]), strict=True))


def plan_counts(options: PrepareOptions) -> dict[str, int]:
    """The counts of `prepare` as far as interactions and pool tell them, without a look at the pictures."""
    with EmbeddingPool.open(options.pool) as pool:
        return _choose(options, pool, lambda item_id: True, lambda done, total: None)[1]


def _choose(
    options: PrepareOptions,
    pool: EmbeddingPool,
    usable: Callable[[str], bool],
    progress: Callable[[int, int], None],
) -> tuple[Choice, dict[str, int]]:
    users, skipped_rows = read_interactions(options.interactions)
    if len(users) < 2:
        raise ValueError(
            f"{options.interactions} has interactions of {len(users)} users; 2 or more are needed, because one "
            "user's interest is measured against another's"
        )
    named = {event.item_id for events in users.values() for event in events}
    known = {item_id for item_id in named if pool.contains(item_id)}
    split = Split(options.test_fraction)
    limits = (options.history_length, options.min_rating, options.max_entries)
    choice = choose_entries(users, known, usable, split, *limits, progress)
    return choice, choice.counts() | {"unknown_items": len(named) - len(known), "skipped_rows": skipped_rows}


def _nothing_to_train_on(options: PrepareOptions, counts: dict[str, int], objectives: Objectives) -> ValueError:
    found = ", ".join(f"{counts[name]} {words}" for name, words in SKIPPED.items() if counts[name])
    first = f" (the first: {next(iter(objectives.problems.values()))})" if objectives.problems else ""
    return ValueError(
        f"{options.interactions} gives nothing to train on: {found}{first}; needed are users with "
        f"{options.history_length + 1} liked items of pool '{options.pool.name}'. Lower history_length or min_rating, "
        "or give interactions, items and pool of one catalogue"
    )


def _text_cache(options: PrepareOptions, pool: EmbeddingPool) -> TextCache:
    """The cache of a text encoder that is the pool's."""
    dtype, device = getattr(torch, options.dtype), find_device(options.device)
    texts = TextCache(options.cache, options.checkpoint, dtype, device)
    texts.ensure([PROBE_TEXT])
    pool.check_encoders(texts.pooled(PROBE_TEXT), pool.image_probe)
    return texts


def _masks(
    options: PrepareOptions, objectives: Sequence[Objective], progress: Callable[[int, int], None]
) -> dict[str, str]:
    if options.foreground == "none":
        return {}
    masks = RembgMasks(options.items) if options.foreground == "rembg" else FolderMasks(options.masks)
    return find_foregrounds(options.prepared, objectives, masks, progress)


def _sample_maker(options: PrepareOptions, pool: EmbeddingPool, texts: TextCache) -> SampleMaker:
    near_duplicate = options.near_duplicate if options.leave_one_out else None
    neighbours = Neighbours(pool, Split(options.test_fraction), options.top_k, near_duplicate)
    return SampleMaker(pool, neighbours, texts, load_scenarios()[options.scenario], options.interest_tags)


def stage(bar: Progress, title: str) -> Callable[[int, int], None]:
    """Moves a bar of its own, which appears once there is something to do."""
    tasks = []

    def show(done: int, total: int) -> None:
        if not tasks:
            tasks.append(bar.add_task(title))
        bar.update(tasks[0], completed=done, total=total)

    return show


def _tell(options: PrepareOptions, counts: dict[str, int], objectives: Objectives) -> None:
    console.print(f"[bold]{options.prepared}[/]: {counts[TRAIN]} samples to train on, {counts[TEST]} held out")
    for name, words in SKIPPED.items():
        if counts[name]:
            console.print(f"  skipped: {counts[name]} {words}")
    tell_problems("pictures cannot be read", list(objectives.problems.items()))
    if counts.get("without_foreground"):
        console.print(f"  {counts['without_foreground']} items without a foreground: their whole picture is used")
    if not counts[TEST]:
        console.print("[yellow]nothing is held out to judge the training by; raise test_fraction, or add users[/]")
