"""A trained family put into the pack: its weights, and the card that says what they are."""

import csv
import io
import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from safetensors import safe_open

from iamg.mini.places import ADAPTER, CARD, FAMILY, IP_ADAPTER, WEIGHTS
from iamg_train.mini.files import MiniFiles
from iamg_train.mini.stage import LOG
from iamg_train.run_log import LOG as FIT_LOG
from iamg_train.whole_files import file_hash, write_whole

CURVES = Path(__file__).parents[2] / "docs" / "mini" / "curves.png"  # in a clone
POINTS = 60  # of each stage's curve
LIMIT = 25_000_000  # bytes of all weights together


def install(out: Path, files: MiniFiles, command: str, seed: int) -> None:
    """Replace the pack's weights and their card; ValueError, and nothing replaced, where they are too large."""
    sources = {FAMILY: out / "family" / FAMILY.name, IP_ADAPTER: files.ip_adapter, ADAPTER: files.adapter}
    size = sum(path.stat().st_size for path in sources.values())
    if size > LIMIT:
        raise ValueError(f"the weights are {size / 1e6:.1f} MB together, the pack carries at most {LIMIT / 1e6:.0f}")
    for place, source in sources.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, source.read_bytes())
    logs = [*out.glob(f"*/**/{LOG}"), *out.glob(f"fit/{FIT_LOG}")]
    card = {
        "command": command,
        "seed": seed,
        "files": {path.relative_to(WEIGHTS).as_posix(): describe(path) for path in sources},
        "curves": {log.parent.relative_to(out).as_posix(): curve(log) for log in sorted(logs)},
    }
    write_whole(CARD, json.dumps(card).encode())
    if CURVES.parent.parent.is_dir():
        CURVES.parent.mkdir(exist_ok=True)
        write_whole(CURVES, plot(card["curves"]))


def describe(path: Path) -> dict[str, object]:
    """A weights file's hash, size, and how many numbers of which shapes it holds."""
    with safe_open(path, "pt") as file:
        shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}
    return {
        "xxh3_128": file_hash(path),
        "bytes": path.stat().st_size,
        "tensors": len(shapes),
        "parameters": int(sum(np.prod(shape) for shape in shapes.values())),
    }


def curve(log: Path) -> list[tuple[int, float]]:
    """A stage's loss as (last step, mean) of POINTS equal parts."""
    with log.open(newline="") as file:
        rows = [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]
    parts = np.array_split(np.array(rows), min(POINTS, len(rows)))
    return [(int(part[-1, 0]), round(float(part[:, 1].mean()), 5)) for part in parts]


def plot(curves: dict[str, list[tuple[int, float]]]) -> bytes:
    """A PNG with a panel for each stage."""
    columns = 4
    figure = Figure((11, 2.4 * -(-len(curves) // columns)), layout="constrained")
    for place, (name, points) in enumerate(curves.items(), 1):
        axes = figure.add_subplot(-(-len(curves) // columns), columns, place, title=name, xlabel="step", ylabel="loss")
        axes.plot(*zip(*points, strict=True))
        axes.set_yscale("log")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=80)
    return content.getvalue()
