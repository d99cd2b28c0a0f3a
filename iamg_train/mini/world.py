"""The mini world's catalogue: thousands of posters, and users who mostly choose those that carry what they love."""

import csv
import io
import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from iamg_train.histories import Split
from iamg_train.mini.posters import VALUES, Poster, draw, random_poster
from iamg_train.mini.texts import sentence_of, title_of
from iamg_train.whole_files import write_whole

ITEMS, USERS = 4000, 3000
CHOICES = 12  # items that a user rates
TEST_FRACTION = 0.1  # of users and items (D15)
NEVER_TRAINED = 0.3  # of the held-out items: subject and colour that meet on no other poster
LOVABLE = ("colour", "setting", "pattern", "frame", "charm")
PULL = 6.0  # how many times likelier a poster is chosen for each loved value on it
SAMPLED = 60  # posters among which a user chooses

POSTERS, TASTES = "posters.jsonl", "tastes.jsonl"  # the truth, which only the evaluation reads
MASKS = "masks"


@dataclass(frozen=True)
class Taste:
    """What a user loves: values of two or three attributes, hidden from the method."""

    user_id: str
    loved: tuple[tuple[str, str], ...]  # attribute, value

    def count(self, poster: Poster) -> int:
        """How many loved values a poster carries."""
        return sum(poster.has(*value) for value in self.loved)


@dataclass(frozen=True)
class World:
    """What is true of the catalogue."""

    posters: dict[str, Poster]  # by item
    tastes: dict[str, Taste]  # by user


def invent_world(seed: int, items: int = ITEMS, users: int = USERS) -> World:
    chance, split = random.Random(f"world {seed}"), Split(TEST_FRACTION)
    posters = {}
    for number in range(items):
        item_id = f"p{number:05}"
        new = split.is_test_item(item_id) and chance.random() < NEVER_TRAINED
        posters[item_id] = random_poster(chance, held_out=new)
    tastes = {}
    for number in range(users):
        attributes = chance.sample(LOVABLE, chance.choice((2, 3)))
        loved = tuple((name, chance.choice(VALUES[name])) for name in attributes)
        tastes[f"u{number:05}"] = Taste(f"u{number:05}", loved)
    return World(posters, tastes)


def write_world(
    folder: Path,
    world: World,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """The catalogue as any other: pictures with metadata.jsonl, interactions.csv, masks of the subjects.

    Beside it lies the truth about posters and tastes. A folder that is whole already is left as it is.
    """
    if (folder / TASTES).is_file():
        return
    for name in ("images", MASKS):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows = []
    for done, (item_id, poster) in enumerate(world.posters.items(), 1):
        picture, mask = draw(poster)
        write_whole(folder / "images" / f"{item_id}.png", _png(picture))
        write_whole(folder / MASKS / f"{item_id}.png", _png(mask))
        row = {"item_id": item_id, "file_name": f"images/{item_id}.png"}
        rows.append(row | {"title": title_of(poster), "text": sentence_of(poster)})
        progress(done, len(world.posters))
    write_whole(folder / "metadata.jsonl", _jsonl(rows))
    write_whole(folder / "interactions.csv", _interactions(world, seed).encode())
    write_whole(folder / POSTERS, _jsonl({"item_id": key, **asdict(x)} for key, x in world.posters.items()))
    write_whole(folder / TASTES, _jsonl(asdict(taste) for taste in world.tastes.values()))


def read_world(folder: Path) -> World:
    """The truth about a catalogue that `write_world` wrote."""
    posters = {}
    for row in _rows(folder / POSTERS):
        item_id = row.pop("item_id")
        posters[item_id] = Poster(**{**row, "charms": tuple(row["charms"])})
    tastes = {row["user_id"]: Taste(row["user_id"], tuple(map(tuple, row["loved"]))) for row in _rows(folder / TASTES)}
    return World(posters, tastes)


def _interactions(world: World, seed: int) -> str:
    """Ratings: 5 with two loved values and more, 4 with one, else 2."""
    chance, items = random.Random(f"interactions {seed}"), list(world.posters)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("user_id", "item_id", "rating", "timestamp"))
    for taste in world.tastes.values():
        seen = chance.sample(items, min(SAMPLED, len(items)))
        start = chance.randrange(1_000_000)
        for time in range(min(CHOICES, len(seen))):
            weights = [PULL ** taste.count(world.posters[item_id]) for item_id in seen]
            item_id = seen.pop(chance.choices(range(len(seen)), weights)[0])
            rating = (2, 4, 5, 5)[taste.count(world.posters[item_id])]
            writer.writerow((taste.user_id, item_id, rating, start + time))
    return file.getvalue()


def _png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def _jsonl(rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _rows(path: Path) -> list[dict]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; write the catalogue with `iamg-train mini world`")
    return [json.loads(line) for line in path.read_bytes().splitlines()]
