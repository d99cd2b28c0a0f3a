"""Methods as folders of pictures: what `iamg-train generate` writes, or any generator's pictures with such a manifest."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import xxhash

from iamg.items import read_items
from iamg.pictures import resolve_inside
from iamg_train.gallery import MANIFEST
from iamg_train.ids import as_id
from iamg_train.whole_files import file_hash

ORIGINAL = "original item"
RUN = "@"
SHUFFLED = "shuffled histories"
"""What scores call the null run: the reference's pictures, measured against the histories of other users."""
LINE = '{"file": "45/2571_0.png", "user_id": "45", "objective": "2571"}'
OF_A_PICTURE = {
    *("file", "user_id", "objective", "history", "seed", "text", "item_text"),
    *("retrieved_texts", "retrieved_pictures", "foreground", "data_hash"),
}
"""What a manifest says of a picture and not of the method."""

Pair = tuple[str, str]
"""A user and the objective that was redrawn for them."""


@dataclass(frozen=True)
class Shot:
    """One picture of a method."""

    file: Path
    user_id: str
    objective: str
    history: tuple[str, ...]  # newest first; empty where the manifest does not say
    number: int  # from 0, of this user's pictures of this objective, in the manifest's order

    @property
    def pair(self) -> Pair:
        return self.user_id, self.objective


@dataclass(frozen=True)
class Method:
    """A generator, as the pictures that it made."""

    name: str
    folder: Path
    shots: tuple[Shot, ...]
    manifest_hash: str  # xxh3_128
    settings: dict  # what the manifest says of every picture alike

    @property
    def group(self) -> str:
        """What the runs NAME@1, NAME@2 ... of one method, such as its training seeds, are reported as; else the name."""
        return self.name.partition(RUN)[0]

    def pairs(self) -> list[Pair]:
        """Each once, in the manifest's order."""
        return list(dict.fromkeys(shot.pair for shot in self.shots))

    def only(self, pairs: Collection[Pair]) -> "Method":
        """The same, with no other pictures than of these."""
        return replace(self, shots=tuple(shot for shot in self.shots if shot.pair in pairs))


def read_method(name: str, folder: Path) -> Method:
    """A folder with its manifest.jsonl, of lines such as `LINE`; of its pictures nothing is read.

    Raises FileNotFoundError without a manifest, and ValueError naming the manifest's line where it is not as expected,
    and where its picture is not there, lies outside the folder or is listed before.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(
            f"method '{name}': {folder} has no {MANIFEST}; give a folder that `iamg-train generate` wrote, or list its "
            f"pictures there in lines such as {LINE}"
        )
    content, shots, rows = path.read_bytes(), {}, []
    counts: Counter[Pair] = Counter()
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            user_id, objective, file = as_id(row["user_id"]), as_id(row["objective"]), row["file"]
            history = tuple(map(as_id, row.get("history") or ()))
            if not isinstance(file, str):
                raise TypeError
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise ValueError(f"{path} line {number} is not as expected: {LINE}") from None
        try:
            shown = resolve_inside(folder, file)
            place = shown.resolve(strict=True)
            there = place.is_file()
        except ValueError as error:
            raise ValueError(f"{path} line {number}: {error}") from None
        except OSError:
            there = False
        if not there:
            raise ValueError(f"{path} line {number}: there is no picture {file!r}; draw it, or remove the line")
        if place in shots:
            raise ValueError(f"{path} line {number}: {file!r} is listed before; remove one of the lines")
        shots[place] = Shot(shown, user_id, objective, history, counts[user_id, objective])
        counts[user_id, objective] += 1
        rows.append(row)
    if not shots:
        raise ValueError(f"{path} lists no picture; expected lines such as {LINE}")
    return Method(name, folder, tuple(shots.values()), xxhash.xxh3_128_hexdigest(content), _shared(rows))


def original_item(items: Path, like: Method) -> Method:
    """The objective's own picture for every user and objective of `like`; ValueError naming an item that `items` lacks."""
    pictures = {item.item_id: item.picture for item in read_items(items, lambda *_: None)}
    histories = {shot.pair: shot.history for shot in like.shots}
    for _, objective in histories:
        if objective not in pictures:
            raise ValueError(
                f"{items} has no item {objective!r} with a picture, which {like.folder / MANIFEST} redraws; give the "
                "items that the pictures were drawn from"
            )
    shots = tuple(Shot(items / pictures[pair[1]], *pair, history, 0) for pair, history in histories.items())
    hashes = {objective: file_hash(items / pictures[objective]) for _, objective in histories}
    content = json.dumps([[*shot.pair, hashes[shot.objective]] for shot in shots]).encode()
    return Method(ORIGINAL, items, shots, xxhash.xxh3_128_hexdigest(content), {})


def in_common(methods: Sequence[Method]) -> list[Pair]:
    """What every method has pictures of, in the first one's order; ValueError where that is nothing."""
    others = [set(method.pairs()) for method in methods[1:]]
    pairs = [pair for pair in methods[0].pairs() if all(pair in other for other in others)]
    if not pairs:
        names = ", ".join(f"'{method.name}'" for method in methods)
        raise ValueError(
            f"{names} have no user and objective in common; draw their pictures with one --users file that names objectives"
        )
    return pairs


def _shared(rows: Iterable[dict]) -> dict:
    """What every row says alike."""
    first, *rest = rows
    return {
        key: value
        for key, value in first.items()
        if key not in OF_A_PICTURE and all(key in row and row[key] == value for row in rest)
    }
