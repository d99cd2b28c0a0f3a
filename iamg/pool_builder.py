"""Building a pool, adding and removing items: a new pool is made beside, then takes the old one's place."""

from collections.abc import Callable, Collection, Iterable, Iterator, Set, Sized
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from . import pool_files
from .item_table import ItemRecord, PoolItem
from .items import Item
from .nearest import EXACT_LIMIT
from .pool import EmbeddingPool
from .pool_draft import PoolDraft, Probes
from .pool_rows import Encoders, LoadedItem, RowMaker
from .scenarios import Scenario
from .tagging import Tagger

COPIED_AT_ONCE = 1024  # rows taken over from the old pool

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class BuildReport:
    """Items in the pool now, and the (picture, reason) of those that could not be put in."""

    count: int
    skipped: list[tuple[str, str]]


def _no_progress(done: int, total: int | None) -> None:
    """Reports nothing."""


def build_pool(
    destination: Path,
    items: Iterable[Item],
    folder: Path,
    encoders: Encoders,
    tagger: Tagger,
    scenario: Scenario,
    *,
    batch_size: int = 16,
    progress: Progress = _no_progress,
    exact_limit: int = EXACT_LIMIT,
) -> BuildReport:
    """Builds the pool folder `destination` from items whose pictures are in `folder` (Eq 2, 3, 6).

    An item that cannot be used is skipped and reported. `progress(done, total)` is called after each batch
    and may raise to interrupt; the next call with the same encoders, tagger and scenario goes on where this
    one, or a killed one, stopped. A pool of that name is replaced when the new one is whole. Raises
    ValueError when no item is left, or `destination` is a folder that is no pool.
    """
    if destination.suffix in (pool_files.BUILDING, pool_files.REPLACED):
        raise ValueError(
            f"a pool's name cannot end in {destination.suffix}; choose another name than {destination.name}"
        )
    pool_files.recover(destination)
    if destination.exists() and not (destination / pool_files.MANIFEST).is_file():
        raise ValueError(f"{destination} exists and is no pool; choose another name for the pool")
    maker = RowMaker(folder, encoders, tagger, scenario)
    building = pool_files.building_folder(destination)
    with PoolDraft(building, maker.parameters(), maker.probes()) as draft:
        rows, skipped = _put_items(draft, maker, items, batch_size, progress)
        draft.remove(set(range(draft.count)) - rows)
        if not rows:
            raise ValueError(f"pool '{destination.name}' has no item: {len(skipped)} skipped{_first(skipped)}")
        draft.finish(maker.manifest(skipped), exact_limit)
    pool_files.replace(destination, building)
    return BuildReport(len(rows), skipped)


def add_items(
    pool_path: Path,
    items: Iterable[Item],
    folder: Path,
    encoders: Encoders,
    tagger: Tagger,
    scenario: Scenario,
    *,
    batch_size: int = 16,
    progress: Progress = _no_progress,
    exact_limit: int = EXACT_LIMIT,
) -> BuildReport:
    """Adds items to a pool; one with an id of the pool replaces that item. Else as `build_pool`.

    Raises ValueError when the pool was built with other encoders, crop, tagger or scenario.
    """
    maker = RowMaker(folder, encoders, tagger, scenario)
    building = pool_files.building_folder(pool_path)
    with EmbeddingPool.open(pool_path) as base:
        probes = maker.probes()
        base.check_encoders(probes.text, probes.image)
        for field in ("crop", "tagger", "scenario"):
            built, given = base.manifest[field], maker.manifest([])[field]
            if built != given:
                raise ValueError(f"pool '{base.name}' was built with {field} {built!r}, not {given!r}; use {built!r}")
        with PoolDraft(building, {**maker.parameters(), "base": base.manifest["xxh3_64"]}, probes) as draft:
            rows, skipped = _put_items(draft, maker, items, batch_size, progress)
            rows |= _take_over(draft, base, rows, dropped=())
            draft.remove(set(range(draft.count)) - rows)
            everything_skipped = [*map(tuple, base.manifest["skipped"]), *skipped]
            draft.finish(maker.manifest(everything_skipped), exact_limit)
    pool_files.replace(pool_path, building)
    return BuildReport(len(rows), skipped)


def remove_items(pool_path: Path, item_ids: Collection[str], *, exact_limit: int = EXACT_LIMIT) -> BuildReport:
    """Removes items from a pool; ValueError for an id it does not have, or when none would be left."""
    building = pool_files.building_folder(pool_path)
    with EmbeddingPool.open(pool_path) as base:
        dropped = {base.item(item_id).item_id for item_id in item_ids}
        if len(dropped) == len(base):
            raise ValueError(f"pool '{base.name}' would have no item left; delete its folder instead")
        parameters = {"base": base.manifest["xxh3_64"]}
        with PoolDraft(building, parameters, Probes(base.text_probe, base.image_probe)) as draft:
            rows = _take_over(draft, base, set(), dropped)
            draft.remove(set(range(draft.count)) - rows)
            kept = ("crop", "tagger", "scenario", "skipped")
            draft.finish({field: base.manifest[field] for field in kept}, exact_limit)
    pool_files.replace(pool_path, building)
    return BuildReport(len(rows), [])


def _put_items(
    draft: PoolDraft, maker: RowMaker, items: Iterable[Item], batch_size: int, progress: Progress
) -> tuple[set[int], list[tuple[str, str]]]:
    """Puts each item in the draft that is not there yet: the rows of them all, and what was skipped."""
    total = len(items) if isinstance(items, Sized) else None
    rows, skipped, done = set(), [], 0
    for batch in _batches(items, batch_size):
        todo = []
        for item in batch:
            try:
                row, known_content = draft.find(item.item_id) or (None, None)
                if row in rows or any(item.item_id == loaded.item.item_id for loaded in todo):
                    raise ValueError(f"item_id {item.item_id!r} is already used by an item before it")
                content = maker.content(item)
                if content == known_content:
                    rows.add(row)
                else:
                    todo.append(maker.load(item, content))
            except (ValueError, OSError) as error:
                skipped.append((item.picture, str(error)))
        if todo:
            put, overflowed = _put_batch(draft, maker, todo)
            rows |= put
            skipped += overflowed
        done += len(batch)
        progress(done, total)
    return rows, skipped


def _put_batch(draft: PoolDraft, maker: RowMaker, batch: list[LoadedItem]) -> tuple[set[int], list[tuple[str, str]]]:
    text, image, lengths = maker.embed(batch)
    usable = np.isfinite(text).all(axis=1) & np.isfinite(image).all(axis=1)
    reason = "an encoder gives no finite embedding for it; run the encoders in float32"
    skipped = [(loaded.item.picture, reason) for loaded, fine in zip(batch, usable, strict=True) if not fine]
    records, new_row = [], draft.count
    for loaded, tags, fine, length in zip(batch, maker.tags(batch), usable, lengths, strict=True):
        if not fine:
            continue
        item = loaded.item
        found = draft.find(item.item_id)
        row = found[0] if found else new_row
        new_row += not found
        pool_item = PoolItem(row, item.item_id, item.title, item.text, item.picture, tags)
        records.append(ItemRecord(pool_item, draft.write_thumbnail(row, loaded.image), loaded.content, float(length)))
    if records:
        draft.put(records, text[usable], image[usable])
    return {record.item.row for record in records}, skipped


def _take_over(draft: PoolDraft, base: EmbeddingPool, replaced: Set[int], dropped: Collection[str]) -> set[int]:
    """Copies the base's items into the draft, but for those dropped or replaced; gives their rows."""
    taken = set()
    for sources in _batches(range(len(base)), COPIED_AT_ONCE):
        records, copied, new_row = [], [], draft.count
        for record in base.records(sources):
            if record.item.item_id in dropped:
                continue
            row, content = draft.find(record.item.item_id) or (None, None)
            if row in replaced:
                continue
            if content != record.content:
                row, new_row = (new_row, new_row + 1) if row is None else (row, new_row)
                draft.link_thumbnail(row, base.path / pool_files.thumbnail_path(record.item.row))
                copied.append(record.item.row)
                records.append(replace(record, item=replace(record.item, row=row)))
            taken.add(row)
        if records:
            draft.put(records, base.text_vectors[copied], base.image_vectors[copied])
    return taken


def _batches(values: Iterable, size: int) -> Iterator[list]:
    values = iter(values)
    while batch := list(islice(values, size)):
        yield batch


def _first(skipped: list[tuple[str, str]]) -> str:
    return f", the first {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
