"""The tables of a report, as HTML."""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from iamg_train.evaluation.statistics import LEVEL

ARROWS = {"higher": "↑", "lower": "↓", "": ""}
NONE = "–"


def estimates_table(results: Mapping) -> str:
    """Methods by metrics, as the paper's Tables 6 and 7, with intervals."""
    estimates, metrics = results["estimates"], results["metrics"]
    methods = list(dict.fromkeys(method for of_metric in estimates.values() for method in of_metric))
    heads = [f"{escape(x)} {ARROWS[metrics[x]['direction']]} {escape(metrics[x]['unit'])}" for x in estimates]
    return _table(
        ["method", *heads], [[method, *(_estimate(estimates[x].get(method)) for x in estimates)] for method in methods]
    )


def differences_table(results: Mapping) -> str:
    rows = [
        [
            metric,
            _text(method),
            _estimate(x, "+"),
            _number(x.get("p")),
            _number(x.get("p_holm")),
            _number(x.get("effect")),
            _number(x.get("smallest_detectable")),
            _verdict(x, results["metrics"][metric]["direction"]),
        ]
        for metric, of_metric in results["differences"].items()
        for method, x in of_metric.items()
    ]
    return _table(["metric", "method", "difference", "p", "p (Holm)", "effect", "detectable", ""], rows)


def null_table(results: Mapping) -> str:
    rows = [[metric, _estimate(x, "+"), _number(x.get("p"))] for metric, x in results["null"].items()]
    return _table(["metric", "minus chance", "p"], rows)


def sweep_table(results: Mapping, symbol: str) -> str:
    """As the paper's Table 8 and Figure 3, in numbers."""
    sweep = results["sweeps"][symbol]
    metrics = sweep["metrics"]
    rows = [[f"{x:g}", *(_estimate(points.get(f"{x:g}")) for points in metrics.values())] for x in sweep["values"]]
    return _table([escape(symbol), *map(escape, metrics)], rows)


def definitions_table(metrics: Mapping[str, Mapping]) -> str:
    better = {"higher": "higher is better", "lower": "lower is better", "": "neither is better"}
    rows = [
        [
            name,
            _prose(x["definition"]),
            better[x["direction"]],
            _text(x["unit"]),
            _number(x.get("chance")),
            _prose(x["weights"]),
        ]
        for name, x in metrics.items()
    ]
    return _table(["metric", "definition", "direction", "unit", "by chance", "weights"], rows)


def methods_table(methods: Mapping[str, Mapping]) -> str:
    """Where each method's pictures come from."""
    rows = [
        [
            name,
            _text(x["folder"]),
            str(x["pictures"]),
            _hash(x["manifest"]),
            _pairs(x["weights"]),
            _pairs(x["settings"]),
        ]
        for name, x in methods.items()
    ]
    return _table(["method", "folder", "pictures", "manifest", "weights", "settings"], rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """heads and cells are HTML, but for the first cell of a row, which is text."""
    head = "".join(f"<th scope='col'>{x}</th>" for x in heads)
    body = "".join(
        f"<tr><th scope='row'>{escape(first)}</th>{''.join(x if x.startswith('<td') else f'<td>{x}</td>' for x in cells)}</tr>"
        for first, *cells in rows
    )
    return f"<div class='wide' tabindex='0'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _estimate(x: Mapping | None, sign: str = "") -> str:
    if x is None or x["mean"] is None:
        return NONE
    interval = NONE if x["low"] is None else f"[{_number(x['low'], sign)}, {_number(x['high'], sign)}]"
    users = f" title='n = {x['users']}'" if "users" in x else ""
    spread = f" <span class='interval'>± {_number(x['spread'])} over runs</span>" if "spread" in x else ""
    return f"<td{users}>{_number(x['mean'], sign)} <span class='interval'>{interval}</span>{spread}</td>"


def _verdict(x: Mapping, direction: str) -> str:
    """What the corrected test says, in a word."""
    p = x.get("p_holm")
    if p is None:
        return "not tested"
    if p >= 1 - LEVEL:
        return "no difference shown"
    higher = x["mean"] > 0
    word = (
        ("better" if higher == (direction == "higher") else "worse") if direction else "higher" if higher else "lower"
    )
    return f"<span class='shown'>{word}</span>"


def _number(x: float | None, sign: str = "") -> str:
    if x is None:
        return NONE
    return f"{x:{sign}z.4f}" if abs(x) < 10 else f"{x:{sign}z.2f}"


def _text(x: str | None) -> str:
    return escape(x or NONE)


def _prose(x: str | None) -> str:
    return f"<td class='text'>{_text(x)}</td>"


def _hash(x: str) -> str:
    return f"<span class='hash'>{escape(x)}</span>"


def _pairs(settings: Mapping) -> str:
    shown = "; ".join(
        f"{k} {v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)}" for k, v in settings.items()
    )
    return f"<td class='text hash'>{_text(shown)}</td>"
