"""Charts as SVG for a page, in the page's own colours, light or dark."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

SIZE = (5.2, 2.6)  # inches

# Drawn in these colours, which are then replaced by the page's.
PAGE_COLOURS = {
    "#1c1b22": "var(--ink)",
    "#6a6775": "var(--soft)",
    "#e4e0d8": "var(--line)",
    "#b4472b": "var(--accent)",
    "#2d6a6a": "var(--second)",
}
INK, SOFT, LINE, ACCENT, SECOND = PAGE_COLOURS
LOOK = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "iamg",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-3, 5),
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
}


Estimate = Mapping[str, float | None]
"""mean, low, high."""


@dataclass(frozen=True)
class Curve:
    """Values over training steps. band: how far up and down a value may lie."""

    label: str
    steps: Sequence[int]
    values: Sequence[float]
    colour: str
    faint: bool = False
    band: Sequence[float] | None = None


def line_chart(curves: Sequence[Curve], y_label: str, zero: bool = False) -> str:
    """An <svg> element; a legend where there are several curves, a line at 0 if asked for."""
    with rc_context(LOOK):
        figure = Figure(SIZE, layout="constrained")
        axes = figure.add_subplot(xlabel="step", ylabel=y_label)
        for curve in curves:
            style = {"alpha": 0.3, "linewidth": 1} if curve.faint else {"linewidth": 1.8}
            marker = "o" if len(curve.steps) < 30 and not curve.faint else None
            axes.plot(curve.steps, curve.values, color=curve.colour, label=curve.label, marker=marker, ms=4, **style)
            if curve.band is not None:
                low, high = (
                    [value + sign * b for value, b in zip(curve.values, curve.band, strict=True)] for sign in (-1, 1)
                )
                axes.fill_between(curve.steps, low, high, color=curve.colour, alpha=0.15, linewidth=0)
        if zero:
            axes.axhline(0, color=SOFT, linewidth=1, linestyle="--")
        if len(curves) > 1:
            axes.legend()
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        return _svg(figure)


def interval_chart(points: Mapping[float, Estimate], x_label: str, y_label: str) -> str:
    """An <svg> element of means with their intervals, over a number."""
    with rc_context(LOOK):
        figure = Figure(SIZE, layout="constrained")
        axes = figure.add_subplot(xlabel=x_label, ylabel=y_label)
        means, reach = _reaches(points.values())
        axes.errorbar(list(points), means, yerr=reach, fmt="o-", color=SECOND, ms=4, capsize=3)
        axes.set_xticks(list(points), [f"{x:g}" for x in points])
        return _svg(figure)


def difference_chart(differences: Mapping[str, Estimate], x_label: str) -> str:
    """An <svg> element of differences with their intervals, one a row, and a line at 0."""
    with rc_context(LOOK):
        figure = Figure((SIZE[0], 0.9 + 0.3 * len(differences)), layout="constrained")
        axes = figure.add_subplot(xlabel=x_label)
        means, reach = _reaches(differences.values())
        axes.errorbar(means, range(len(means)), xerr=reach, fmt="o", color=SECOND, ms=4, capsize=3)
        axes.axvline(0, color=ACCENT, linewidth=1, linestyle="--")
        axes.set_yticks(range(len(means)), list(differences))
        axes.set_ylim(len(means) - 0.5, -0.5)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        return _svg(figure)


def _reaches(estimates: Iterable[Estimate]) -> tuple[list[float], list[list[float]]]:
    """Means, and how far their intervals reach below and above; one that is unknown does not."""
    known = [{key: math.nan if x[key] is None else x[key] for key in ("mean", "low", "high")} for x in estimates]
    below, above = [x["mean"] - x["low"] for x in known], [x["high"] - x["mean"] for x in known]
    return [x["mean"] for x in known], [[max(0.0, y) if y == y else 0.0 for y in ends] for ends in (below, above)]


def _svg(figure: Figure) -> str:
    file = StringIO()
    figure.savefig(
        file,
        format="svg",
        transparent=True,
        metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")),
    )
    svg = file.getvalue()
    for drawn, shown in PAGE_COLOURS.items():
        svg = svg.replace(drawn, shown)
    return svg[svg.index("<svg") :]
