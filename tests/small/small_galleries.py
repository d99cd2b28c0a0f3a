"""Galleries of two generators for the small catalogue's users, as `iamg-train generate` writes them."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo


def write_gallery(folder: Path, shade: int, users: int = 6, pictures: int = 2, **settings: object) -> Path:
    """For user u<n> the item i<n>, redrawn from a history of three; noise around a shade of grey."""
    random, lines = np.random.default_rng(shade), []
    for user in range(users):
        for number in range(pictures):
            file = f"u{user}/i{user}_{number}.png"
            row = {"user_id": f"u{user}", "objective": f"i{user}", "history": ["i20", "i21", f"i{30 + user}"]}
            row |= {"seed": number, **settings}
            (folder / f"u{user}").mkdir(parents=True, exist_ok=True)
            text = PngInfo()
            text.add_text("iamg", json.dumps(row))
            pixels = random.integers(shade, shade + 40, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / file, pnginfo=text)
            lines.append(json.dumps({"file": file, **row}) + "\n")
    (folder / "manifest.jsonl").write_text("".join(lines))
    return folder
