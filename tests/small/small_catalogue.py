"""A catalogue of coloured squares with users who like a colour, and a training run on it."""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image
from small_models import write_family

from iamg.items import read_items
from iamg.pool_builder import build_pool
from iamg.scenarios import load_scenarios
from iamg.tagging import make_tagger
from iamg_train.encoders import ClipEncoders

COLOURS = {"red": (200, 40, 40), "green": (40, 170, 60), "blue": (40, 60, 200), "yellow": (230, 210, 50)}


def write_items(folder: Path, count: int = 48, users: int = 40) -> Path:
    """Items i0 ... with pictures, texts and tags; interactions.csv, in which a user likes one colour."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    names, random = list(COLOURS), np.random.default_rng(0)
    with (folder / "metadata.jsonl").open("w", encoding="utf-8") as file:
        for number in range(count):
            colour = names[number % len(names)]
            pixels = np.empty((72, 64, 3), np.uint8)
            pixels[:] = COLOURS[colour]
            pixels[8 + number % 30 :, 10:40] = 255 - pixels[0, 0]
            Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
            title, text = f"Film {number}", f"A {colour} story about number {number}."
            row = {"item_id": f"i{number}", "file_name": f"images/{number}.png", "title": title, "text": text}
            file.write(json.dumps({**row, "tags": [colour, f"story {number % 5}"]}) + "\n")
    with (folder / "interactions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("user_id", "item_id", "rating", "timestamp"))
        for user in range(users):
            own = [n for n in range(count) if n % len(names) == user % len(names)]
            for time, number in enumerate(random.permutation(own)):
                writer.writerow((f"u{user}", f"i{number}", 5, time))
    return folder


def write_world(folder: Path) -> dict[str, Path]:
    """items, pool and the files of the small family, by their keys in a run's settings."""
    items, files = write_items(folder / "items"), write_family(folder / "models")
    encoders = ClipEncoders(files["checkpoint"], files["clip_vision"])
    tagger, scenario = make_tagger("visual + keywords"), load_scenarios()["movie poster"]
    build_pool(folder / "pool", read_items(items, lambda *_: None), items, encoders, tagger, scenario)
    return {"items": items, "pool": folder / "pool", **files}


def settings(world: dict[str, Path], out: Path, **changes: object) -> dict[str, object]:
    """Overrides for `load_config`: a run of seconds, with everything it keeps beside `out`."""
    return {
        **world,
        "prepared": out.parent / "prepared",
        "cache": out.parent / "cache",
        "out": out,
        "history_length": 3,
        "top_k": 3,
        "test_fraction": 0.3,
        "resolution": 128,
        "batch_size": 2,
        "steps": 4,
        "log_every": 2,
        "validate_samples": 4,
        "sample_users": 2,
        "sample_steps": 2,
        "device": "cpu",
        "cache_dtype": "float32",
        **changes,
    }
