"""The demo's catalogue: 72 drawn film posters, their texts, and what three users of opposite tastes liked."""

import csv
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from iamg_train.demo_posters import BORDERS, PATTERNS, Palette, draw_poster

DEMO_OBJECTIVE = "lighthouse-meadow"
DEMO_USERS = ("ada", "boris")

# mood: palette, genre, what its titles begin with, how its texts begin, how they end, tags
MOODS = {
    "sunny": (
        Palette("ffb52e", "ffe9a8", "e8893a", "d9432f", "fff1c9", "7a2e12", "fffbe6"),
        ("Golden", "Sunlit", "Amber", "Summer"),
        "A sunny, warm adventure in which",
        "under a golden summer sky",
        ("adventure", "sunny", "golden", "summer"),
    ),
    "midnight": (
        Palette("050b24", "153a78", "040817", "2b5fb0", "0f2b5e", "01030c", "bcd6ff"),
        ("Midnight", "Silent", "Hidden", "Drowned"),
        "A dark, mysterious thriller in which",
        "on a cold blue night",
        ("thriller", "mysterious", "dark", "night"),
    ),
    "meadow": (
        Palette("bfe6c8", "f2fae0", "6fae5a", "3f8f4f", "d8e8a0", "23502c", "fdfff2"),
        ("Quiet", "Green", "Gentle", "Clover"),
        "A calm family story in which",
        "among green meadows",
        ("family", "calm", "green", "nature"),
    ),
    "rose": (
        Palette("f7b6c8", "ffe6ea", "d97893", "c23a66", "ffd3dd", "6e1637", "fff6f3"),
        ("Tender", "Blushing", "April", "Velvet"),
        "A tender romance in which",
        "in a pink and hopeful spring",
        ("romance", "tender", "pink", "spring"),
    ),
    "neon": (
        Palette("22083f", "7a1fa8", "12042b", "ff2fa8", "22e0e6", "0b0119", "e9fbff"),
        ("Electric", "Neon", "Laser", "Infinite"),
        "A fast science fiction ride in which",
        "through a city of neon light",
        ("science fiction", "neon", "electric", "city"),
    ),
    "noir": (
        Palette("8d8d8d", "e4e4e4", "2a2a2a", "161616", "5d5d5d", "000000", "ffffff"),
        ("Broken", "Ashen", "Final", "Crooked"),
        "A stark crime drama in which",
        "in black and white streets",
        ("crime", "stark", "black and white", "drama"),
    ),
}

# subject: what its titles end with, what happens
STORIES = {
    "lighthouse": (("Lighthouse", "Lantern"), "a keeper lights the lamp for a ship that never came home"),
    "rocket": (("Rocket", "Launch"), "two friends build a rocket behind the school"),
    "sailboat": (("Voyage", "Sail"), "a young captain crosses the bay in a borrowed sailboat"),
    "balloon": (("Balloon", "Ascent"), "a baker leaves his village in a patched balloon"),
    "mountain": (("Summit", "Mountain"), "a climber returns to the mountain that took her brother"),
    "tree": (("Oak", "Orchard"), "three sisters guard the last tree of the valley"),
    "castle": (("Castle", "Crown"), "a locksmith finds a door in the castle that no key opens"),
    "cat": (("Cat", "Whiskers"), "a stray cat follows a postman from house to house"),
    "whale": (("Whale", "Deep"), "a fisher's daughter hears a whale sing her name"),
    "robot": (("Robot", "Machine"), "an old robot wakes up and looks for its maker"),
    "butterfly": (("Butterfly", "Wings"), "a painter chases one butterfly across a continent"),
    "cottage": (("Cottage", "Doorstep"), "an empty cottage writes letters to its neighbours"),
}

# user: the items liked, oldest first, and those not liked
TASTES = {
    "ada": (
        ["balloon-sunny", "sailboat-sunny", "cat-rose", "rocket-sunny", "tree-sunny", "whale-sunny", "cottage-sunny"],
        ["castle-midnight", "robot-noir"],
    ),
    "boris": (
        ["castle-midnight", "rocket-neon", "whale-midnight", "mountain-midnight", "cat-midnight", "robot-midnight"],
        ["balloon-sunny", "butterfly-rose", "tree-meadow"],
    ),
    "chiyo": (
        ["cottage-meadow", "butterfly-meadow", "cat-meadow", "tree-rose", "sailboat-meadow", "balloon-meadow"],
        ["robot-neon", "mountain-noir"],
    ),
}
FIRST_DAY = 1_700_000_000  # Unix seconds
DAY = 86_400


def write_catalogue(destination: Path, seed: int = 0) -> None:
    """Write images/, metadata.jsonl and interactions.csv into `destination`, whole or not at all.

    An existing catalogue there is replaced; the same seed writes the same bytes.
    """
    beside = destination.with_name(destination.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)
    (beside / "images").mkdir(parents=True)
    with open(beside / "metadata.jsonl", "w", encoding="utf-8", newline="\n") as metadata:
        for item, poster in catalogue_items(seed):
            poster.save(beside / item["file_name"])
            metadata.write(json.dumps(item) + "\n")
    with open(beside / "interactions.csv", "w", encoding="utf-8", newline="") as interactions:
        rows = csv.writer(interactions, lineterminator="\n")
        rows.writerow(("user_id", "item_id", "rating", "timestamp"))
        for user, (liked, disliked) in TASTES.items():
            rows.writerows(_ratings(user, liked, disliked, random.Random(f"{seed}/{user}")))
    shutil.rmtree(destination, ignore_errors=True)
    os.replace(beside, destination)


def catalogue_items(seed: int = 0) -> Iterator[tuple[dict, Image.Image]]:
    """Every item as its line of metadata.jsonl and its poster: each subject in each mood."""
    for subject, (endings, story) in STORIES.items():
        for mood, (palette, beginnings, opening, ending, tags) in MOODS.items():
            item_id = f"{subject}-{mood}"
            chance = random.Random(f"{seed}/{item_id}")
            title = f"{chance.choice(beginnings)} {chance.choice(endings)}"
            pattern, border = chance.choice(PATTERNS), chance.choice(BORDERS)
            item = {
                "file_name": f"images/{item_id}.png",
                "item_id": item_id,
                "title": title,
                "text": f"{opening} {story}, {ending}.",
                "tags": [*tags, subject],
            }
            yield item, draw_poster(title, subject, palette, pattern, border, seed=f"{seed}/{item_id}/colours")


def _ratings(user: str, liked: list[str], disliked: list[str], chance: random.Random) -> list[tuple]:
    """One rating a day, low ones in between; the objective, which everybody likes, on the day after the last."""
    seen = [(item, chance.choice((4.0, 4.5, 5.0))) for item in liked]
    for item in disliked:
        seen.insert(chance.randrange(len(seen)), (item, chance.choice((0.5, 1.0, 2.0))))
    seen.append((DEMO_OBJECTIVE, 4.5))
    return [(user, item, rating, FIRST_DAY + day * DAY) for day, (item, rating) in enumerate(seen)]
