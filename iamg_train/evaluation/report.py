"""An evaluation's report: one HTML file that needs no other, and its numbers as a table."""

import csv
import io
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

from iamg_train.charts import difference_chart, interval_chart
from iamg_train.evaluation.report_pictures import strips
from iamg_train.evaluation.report_tables import (
    ARROWS,
    definitions_table,
    differences_table,
    estimates_table,
    methods_table,
    null_table,
    sweep_table,
)
from iamg_train.evaluation.statistics import EFFECT, LEVEL, POWER, RESAMPLES
from iamg_train.page_style import STYLE
from iamg_train.whole_files import write_whole

REPORT, TABLE = "report.html", "results.csv"
NUMBERS = ("mean", "low", "high", "users", "spread", "p", "p_holm", "effect", "smallest_detectable")
COLUMNS = ("part", "metric", "method", "run", "symbol", "value", *NUMBERS)

OWN_STYLE = """
main { max-width: 1280px; }
.wide { overflow-x: auto; } .wide table { width: auto; min-width: 60%; } .wide td, .wide th { padding-right: 1.1rem; }
.wide td { font-variant-numeric: tabular-nums; white-space: nowrap; border-top: 1px solid var(--line); }
td.text { white-space: normal; min-width: 16rem; } td.name, .wide th[scope=row] { white-space: nowrap; }
th[scope=row] { font-size: .9rem; color: var(--ink); border-top: 1px solid var(--line); position: sticky; left: 0;
  background: var(--card); }
.interval { color: var(--soft); font-size: .82rem; } .shown { color: var(--accent); font-weight: 600; }
.hash { font: .78rem monospace; overflow-wrap: anywhere; }
.charts { margin-bottom: 1.4rem; display: grid; gap: 1.4rem 2rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 360px), 1fr)); }
.charts h3 { margin: .8rem 0 .4rem; text-transform: none; letter-spacing: 0; font-size: .95rem; }
svg { width: 100%; height: auto; display: block; } summary { cursor: pointer; margin: 1rem 0 .4rem; }
.user { margin-top: 1.2rem; } .strip { display: flex; gap: .7rem; overflow-x: auto; padding: 4px 0 .4rem; }
.strip figure { flex: 0 0 130px; } .strip .history { flex-basis: 74px; } .strip .item img { outline: 3px solid var(--second); }
.strip .item { margin: 0 3px 0 .9rem; } .missing { display: grid; place-items: center; aspect-ratio: 1; color: var(--soft);
  border: 1px dashed var(--soft); border-radius: 8px; font-size: .8rem; }
.pixels { image-rendering: pixelated; } pre { white-space: pre-wrap; overflow-wrap: anywhere; }
"""

ABOUT_DIFFERENCES = f"""\
Each method minus {{reference}}, paired by user. p: two-sided paired permutation test; p (Holm): corrected for all \
{{tests}} tests of this page. Effect: {EFFECT}. Detectable: the smallest true difference that so many users, differing \
so much, would show in {POWER:.0%} of studies. A difference is marked where p (Holm) is below {1 - LEVEL:.2f}; where it \
is not, nothing is shown to be equal: look at the interval, and at what could have been detected."""
ABOUT_NULL = """\
Pictures of {reference} with the histories of other users, minus what chance gives. If this interval does not hold 0, \
the metric sees something else than the history."""


def write_report(results: Mapping, out: Path, items: Path) -> None:
    """Write out/report.html and out/results.csv, each whole or not at all.

    results: as `results.json` has them; a part that they lack is left out. items: where the pictures of histories are;
    a picture that cannot be read is shown as missing.
    """
    write_whole(out / TABLE, _table(results))
    users, pictures = results["users"], results["pictures"]
    body = "".join(
        [
            "<h1>Evaluation</h1>",
            f"<p>{_counted(users, 'user')}, {_counted(pictures, 'picture')}, {_counted(len(results['estimates']), 'metric')}. "
            f"A user's pictures are averaged first, then the users; in brackets {LEVEL:.0%} intervals by bootstrap over "
            f"users ({RESAMPLES:,} resamples).</p>",
            _warnings(results.get("warnings", ())),
            _section("Methods", _methods(results)),
            _section(f"Against {escape(results['reference'])}", _differences(results)),
            _section("With shuffled histories", _null(results)),
            *(_section(f"Over {escape(name)}", _sweep(results, name)) for name in results.get("sweeps", {})),
            _section("The best, the median and the worst users", strips(results["examples"], items)),
            _section("What the metrics are", definitions_table(results["metrics"])),
            _section("Data, weights and command", _origin(results)),
            f"<footer>Made by ComfyUI-IAMG. The same numbers: <code>results.json</code>, <code>{TABLE}</code>.</footer>",
        ]
    )
    page = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>I-AM-G: evaluation</title><style>{STYLE}{OWN_STYLE}</style></head><body><main>{body}</main></body></html>"
    )
    write_whole(out / REPORT, page.encode())


def _table(results: Mapping) -> bytes:
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(_rows(results))
    return file.getvalue().encode()


def _rows(results: Mapping) -> Iterator[dict]:
    """A row for every estimate, difference, null run and point of a sweep, and one for each of its runs."""
    for where, numbers in _found(results):
        yield where | numbers
        for run, mean in numbers.get("runs", {}).items():
            yield where | {"run": run, "mean": mean}


def _found(results: Mapping) -> Iterator[tuple[dict, Mapping]]:
    """What a number is of, and the number with its interval and tests."""
    for part in ("estimates", "differences"):
        for metric, of_metric in results[part].items():
            for method, numbers in of_metric.items():
                yield {"part": part, "metric": metric, "method": method}, numbers
    for metric, numbers in results["null"].items():
        yield {"part": "null", "metric": metric, "method": results["reference"]}, numbers
    for symbol, sweep in results.get("sweeps", {}).items():
        for metric, points in sweep["metrics"].items():
            for value, numbers in points.items():
                yield {"part": "sweeps", "metric": metric, "symbol": symbol, "value": value}, numbers


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>" if content else ""


def _warnings(warnings: Iterator[str]) -> str:
    return "".join(f"<p class='note' role='note'>{escape(warning)}</p>" for warning in warnings)


def _methods(results: Mapping) -> str:
    legend = "<p class='soft'>↑ higher is better, ↓ lower is better; none: neither is better in itself.</p>"
    return legend + estimates_table(results)


def _differences(results: Mapping) -> str:
    differences = {metric: of for metric, of in results["differences"].items() if of}
    tests = sum(x.get("p") is not None for of in differences.values() for x in of.values())
    if not tests:
        return ""
    charts = [
        (metric, difference_chart(of, f"{metric}, minus {results['reference']}")) for metric, of in differences.items()
    ]
    about = escape(ABOUT_DIFFERENCES.format(reference=results["reference"], tests=tests))
    return f"<p class='soft'>{about}</p>{_figures(results, charts)}{differences_table(results)}"


def _null(results: Mapping) -> str:
    if not results["null"]:
        return ""
    about = escape(ABOUT_NULL.format(reference=results["reference"]))
    return f"<p class='soft'>{about}</p>{null_table(results)}"


def _sweep(results: Mapping, symbol: str) -> str:
    metrics = results["sweeps"][symbol]["metrics"]
    charts = [
        (metric, interval_chart({float(x): y for x, y in points.items()}, symbol, metric))
        for metric, points in metrics.items()
        if points
    ]
    return f"{_figures(results, charts)}<details><summary>Numbers</summary>{sweep_table(results, symbol)}</details>"


def _figures(results: Mapping, charts: list[tuple[str, str]]) -> str:
    figures = "".join(
        f"<figure><h3>{escape(metric)} {ARROWS[results['metrics'][metric]['direction']]}</h3>{svg}</figure>"
        for metric, svg in charts
    )
    return f"<div class='charts'>{figures}</div>"


def _origin(results: Mapping) -> str:
    hashes = "".join(
        f"<p>{name}: <span class='hash'>{escape(found or 'not given')}</span></p>"
        for name, found in (("items", results["data"]["items"]), ("interactions", results["data"]["interactions"]))
    )
    return f"{hashes}{methods_table(results['methods'])}<pre>{escape(results['command'])}</pre>"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
