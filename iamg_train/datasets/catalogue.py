"""A dataset as the folder that this project reads: metadata.jsonl, images/, interactions.csv."""

import csv
import heapq
import json
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from iamg.items import check_id, text_of
from iamg_train.datasets.dataset import CatalogueItem, Dataset, Event
from iamg_train.datasets.findings import (
    BAD_INTERACTION,
    BAD_PICTURE,
    CONVERTED_PICTURE,
    FORMULA_ID,
    NO_PICTURE,
    OTHER_ITEM,
    REPEATED_ITEM,
    UNUSABLE_ITEM,
    Findings,
)
from iamg_train.datasets.picture_sources import copy_picture
from iamg_train.id_hash import visiting_order
from iamg_train.safe_names import safe_name

METADATA, IMAGES, INTERACTIONS = "metadata.jsonl", "images", "interactions.csv"
COLUMNS = ("user_id", "item_id", "rating", "timestamp")
FORMULA_STARTS = tuple("=+-@＝＋－＠")


@dataclass
class Catalogue:
    """What was written."""

    ids: dict[str, str] = field(default_factory=dict)  # of items, as published: as written
    pictures: int = 0
    to_download: int = 0
    users: int = 0
    interactions: int = 0


def choose_users(users: Iterable[str], limit: int) -> frozenset[str]:
    """At most `limit` users: those that `data prepare` would visit first."""
    usable = {}
    for published in users:
        if published in usable:
            continue
        try:
            usable[published] = portable_id(usable_id(published, "user_id"))
        except ValueError:
            continue
    return frozenset(heapq.nsmallest(limit, usable, key=lambda published: visiting_order(usable[published])))


def write_items(
    folder: Path, dataset: Dataset, items: Iterable[CatalogueItem], wanted: Collection[str] | None, findings: Findings
) -> Catalogue:
    """Writes metadata.jsonl and images/ of the items with a picture or an address. wanted: ids, or None for all."""
    catalogue = Catalogue()
    names: set[str] = set()
    written: set[str] = set()
    (folder / IMAGES).mkdir()
    with (folder / METADATA).open("w", encoding="utf-8") as file:
        for item in items:
            if wanted is not None and item.item_id.strip() not in wanted:
                continue
            try:
                row = _checked(item)
            except ValueError as error:
                findings.note(UNUSABLE_ITEM, f"{item.place}: {error}")
                continue
            item_id = portable_id(row["item_id"])
            if item_id in written:
                findings.note(REPEATED_ITEM, f"{item.place}: {item_id}")
                continue
            name = _free_name(item_id, names)
            file_name = _place_picture(folder, name, dataset.pictures, item, findings)
            if not file_name:
                continue
            if item_id != row["item_id"]:
                findings.note(FORMULA_ID, item_id)
            names.add(name.casefold())
            written.add(item_id)
            catalogue.ids[row["item_id"]] = item_id
            has_picture = (folder / file_name).is_file()
            catalogue.pictures += has_picture
            catalogue.to_download += not has_picture
            address = {"image_url": item.image_url} if item.image_url else {}
            row = {"file_name": file_name, **row, "item_id": item_id, **address}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return catalogue


def write_interactions(path: Path, events: Iterable[Event], catalogue: Catalogue, findings: Findings) -> None:
    """Writes the interactions with the catalogue's items, in the order given, and counts them in the catalogue."""
    users: dict[str, str] = {}  # as published: as written, empty where it cannot be
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for event in events:
            item_id = catalogue.ids.get(event.item_id.strip())
            if item_id is None:
                findings.note(OTHER_ITEM, f"line {event.line}: {event.item_id}")
                continue
            user_id = users.get(event.user_id)
            if user_id is None:
                user_id = users[event.user_id] = _written_user(event.user_id, findings)
            rating, timestamp = event.rating.strip(), event.timestamp.strip()
            if user_id and _is_finite(timestamp) and (not rating or _is_finite(rating)):
                writer.writerow((user_id, item_id, rating, timestamp))
                catalogue.interactions += 1
            else:
                findings.note(BAD_INTERACTION, f"line {event.line}: {', '.join(event[1:])}")
    catalogue.users = sum(map(bool, users.values()))


def usable_id(published: str, column: str) -> str:
    """An id without what surrounds it; ValueError for one that cannot be used."""
    usable = text_of({column: published}, column)
    if not usable:
        raise ValueError(f"its {column} is empty")
    check_id(usable)
    return usable


def portable_id(usable: str) -> str:
    """An id that a spreadsheet takes for text: one that begins like a formula gets a leading apostrophe."""
    return f"'{usable}" if usable.startswith(FORMULA_STARTS) else usable


def _checked(item: CatalogueItem) -> dict:
    texts = {column: text_of(item._asdict(), column) for column in ("title", "text")}
    return {
        "item_id": usable_id(item.item_id, "item_id"),
        **{column: " ".join(text.split()) for column, text in texts.items()},
        "tags": [tag for tag in (" ".join(text_of({"tags": tag}, "tags").split()) for tag in item.tags) if tag],
    }


def _free_name(item_id: str, names: Collection[str]) -> str:
    """A file name that differs from those used by more than case: file systems may fold it."""
    name, number = safe_name(item_id), 1
    while (free := name if number == 1 else f"{name}~{number}").casefold() in names:
        number += 1
    return free


def _place_picture(folder: Path, name: str, pictures: Path | None, item: CatalogueItem, findings: Findings) -> str:
    """The picture's path in the folder, of one that is there or can be downloaded; empty where there is none."""
    target = f"{IMAGES}/{name}"
    if item.picture:
        try:
            suffix, converted = copy_picture(pictures, item.picture, folder / target)
        except ValueError as error:
            findings.note(BAD_PICTURE, str(error))
        else:
            if converted:
                findings.note(CONVERTED_PICTURE, item.picture)
            return target + suffix
    elif not item.image_url:
        findings.note(NO_PICTURE, f"{item.place}: {item.item_id}")
    return f"{target}.jpg" if item.image_url else ""


def _written_user(published: str, findings: Findings) -> str:
    try:
        usable = usable_id(published, "user_id")
    except ValueError:
        return ""
    if (written := portable_id(usable)) != usable:
        findings.note(FORMULA_ID, written)
    return written


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
