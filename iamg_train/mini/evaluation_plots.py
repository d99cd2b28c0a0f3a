"""The evaluation's plots, and a sheet of its pictures."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from iamg_train.charts import ACCENT, LOOK, SECOND, SOFT
from iamg_train.mini.measures import COLOUR, FIDELITY, OWN, SSIM, SUBJECT
from iamg_train.mini.variants import FULL, SWEEPS
from iamg_train.whole_files import write_whole

SHOWN = (FIDELITY, OWN, SUBJECT, SSIM)
SWEPT = {FIDELITY: ACCENT, SUBJECT: SECOND, COLOUR: SOFT}
DOTS = 100  # per inch


class Example(NamedTuple):
    """A user's pictures, by what they show."""

    user: str
    pictures: Mapping[str, np.ndarray]  # each (64, 64, 3) uint8


def write_plots(folder: Path, results: Mapping, examples: Sequence[Example]) -> tuple[str, ...]:
    """The variants' plot, the sweeps' and the sheet of examples, by their names in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with rc_context(LOOK):
        plots = {
            "variants.png": _variants(results["variants"]),
            "sweeps.png": _sweeps(results["sweeps"]),
            "pictures.webp": _sheet(examples),
        }
        for name, figure in plots.items():
            file = io.BytesIO()
            figure.savefig(file, format=name.split(".")[1], dpi=DOTS, facecolor="white")
            write_whole(folder / name, file.getvalue())
    return tuple(plots)


def _variants(variants: Mapping[str, Mapping]) -> Figure:
    figure = Figure((10, 0.8 + 0.28 * len(variants)), layout="constrained")
    names = list(variants)
    for axes, measure in zip(figure.subplots(1, len(SHOWN), sharey=True), SHOWN, strict=True):
        estimates = [variants[name]["estimates"][measure] for name in names]
        for place, (name, estimate) in enumerate(zip(names, estimates, strict=True)):
            colour = ACCENT if name == FULL.name else SECOND
            means, bars = _with_bars([estimate])
            axes.errorbar(means, [place], xerr=bars, fmt="o", color=colour, ms=4, capsize=2)
        axes.axvline(variants[FULL.name]["estimates"][measure]["mean"], color=ACCENT, linewidth=0.6, linestyle=":")
        axes.set_xlabel(measure)
        axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    return figure


def _sweeps(sweeps: Mapping[str, Mapping]) -> Figure:
    figure = Figure((10, 2.8), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, len(SWEEPS), sharey=True)
    for axes, sweep in zip(panels, SWEEPS, strict=True):
        points = sweeps[sweep.symbol]
        for measure, colour in SWEPT.items():
            means, bars = _with_bars([points[value]["estimates"][measure] for value in points])
            axes.errorbar(
                [float(x) for x in points], means, yerr=bars, fmt="o-", color=colour, ms=4, capsize=2, label=measure
            )
        axes.axvline(sweep.full, color=SOFT, linewidth=0.8, linestyle=":")
        axes.set_xlabel(sweep.symbol)
        axes.set_xticks([float(x) for x in points], list(points), fontsize=7)
    panels[0].legend(fontsize=7)
    return figure


def _sheet(examples: Sequence[Example]) -> Figure:
    columns = list(examples[0].pictures)
    figure = Figure((0.85 * len(columns) + 1, 0.85 * len(examples) + 0.5), layout="constrained")
    panels = figure.subplots(len(examples), len(columns), squeeze=False)
    for row, example in zip(panels, examples, strict=True):
        for axes, name in zip(row, columns, strict=True):
            axes.imshow(example.pictures[name], interpolation="nearest")
            axes.set(xticks=[], yticks=[])
        row[0].set_ylabel(fill(example.user, 14), fontsize=7, rotation=0, ha="right", va="center")
    for axes, name in zip(panels[0], columns, strict=True):
        axes.set_title(fill(name, 12), fontsize=7)
    return figure


def _with_bars(estimates: Sequence[Mapping[str, float]]) -> tuple[list[float], list[list[float]]]:
    """Means, and how far the intervals reach below and above them."""
    means = [x["mean"] for x in estimates]
    bars = [[x["mean"] - x["low"] for x in estimates], [x["high"] - x["mean"] for x in estimates]]
    return means, [[max(0.0, length) for length in ends] for ends in bars]
