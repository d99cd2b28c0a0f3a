"""Time and memory of `iamg-train evaluate` with all metrics that need no download, on drawn posters of the mini world.

    python scripts/evaluate_benchmark.py --users 1000 --pictures 4

One method draws the user's newest history item a little over the objective's poster, so that there is something to find.
Needs iamg[train], and the repository.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from iamg.interactions import histories, read_interactions  # noqa: E402
from iamg.items import read_items  # noqa: E402
from iamg.pictures import open_picture  # noqa: E402
from iamg.tagging import MINI_CLIP  # noqa: E402
from iamg_train.cli import main as iamg_train  # noqa: E402
from iamg_train.mini.world import invent_world, write_world  # noqa: E402

KEPT = 0.6  # of the objective's poster
HISTORY = 5


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--users", type=int, default=1000, help="for whom pictures are measured")
    parser.add_argument("--pictures", type=int, default=4, help="of each user")
    parser.add_argument("--side", type=int, default=512, help="pixels of a picture")
    parser.add_argument("--size", type=int, default=256, help="pixels at which pictures are compared")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse(argv)
    with tempfile.TemporaryDirectory() as folder:
        items, drawn, out = (Path(folder) / name for name in ("items", "drawn", "out"))
        write_world(items, invent_world(0, items=600, users=arguments.users + arguments.users // 5), 0)
        _run(["tag", str(items), "--scenario", "mini poster"])
        pictures = _draw(items, drawn, arguments)
        print(f"{arguments.users} users, {pictures} pictures of {arguments.side} x {arguments.side}", flush=True)
        command = ["evaluate", f"blended={drawn}", "--items", str(items), "--out", str(out)]
        command += ["--clip-model", MINI_CLIP, "--size", str(arguments.size)]
        for what in ("first run", "second run, all known"):
            start, computed = time.perf_counter(), time.process_time()
            _run(command)
            seconds, computed = time.perf_counter() - start, time.process_time() - computed
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
            print(f"{what}: {seconds:.0f} s, {computed:.0f} s of CPU, peak memory {peak:.0f} MiB", flush=True)


def _run(command: Sequence[str]) -> None:
    if status := iamg_train(command):
        sys.exit(status)


def _draw(items: Path, folder: Path, arguments: argparse.Namespace) -> int:
    """A gallery of blends with noise, for the first users with a whole history; how many pictures."""
    paths = {item.item_id: items / item.picture for item in read_items(items, lambda *_: None)}
    users, _ = read_interactions(items / "interactions.csv")
    lines, size = [], (arguments.side, arguments.side)
    noises = np.random.default_rng(0).normal(0, 8, (arguments.pictures, *size, 3)).astype(np.float32)
    found = (next(histories(x, events, paths.__contains__, HISTORY, 4.0), None) for x, events in users.items())
    for who in list(filter(None, found))[: arguments.users]:
        layers = [open_picture(paths[x]).resize(size, Image.Resampling.BICUBIC) for x in (who.objective, who.items[0])]
        blend = np.asarray(Image.blend(*layers, 1 - KEPT), np.float32)
        for number, noise in enumerate(noises):
            file = folder / who.user_id / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((blend + noise).clip(0, 255).astype(np.uint8)).save(file, compress_level=1)
            row = {"file": f"{who.user_id}/{number}.png", "user_id": who.user_id, "objective": who.objective}
            lines.append(json.dumps({**row, "history": who.items, "seed": number}) + "\n")
    (folder / "manifest.jsonl").write_text("".join(lines))
    return len(lines)


if __name__ == "__main__":
    main()
