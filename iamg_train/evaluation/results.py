"""What an evaluation found, as results.json has it: estimates, differences with their tests, the null run, examples."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xxhash

from iamg.items import read_items
from iamg_train.evaluation.methods import RUN, SHUFFLED, Method, Shot
from iamg_train.evaluation.metrics import Definition
from iamg_train.evaluation.scores import Scores
from iamg_train.evaluation.statistics import (
    EFFECT,
    LEVEL,
    POWER,
    RESAMPLES,
    Bootstrap,
    by_user,
    effect_size,
    holm,
    paired_permutation,
    smallest_detectable,
)
from iamg_train.whole_files import file_hash, write_whole

RESULTS = "results.json"
FORMAT_VERSION = 1
EXAMPLES = 3  # users at each end and in the middle

Sweeps = Mapping[str, Mapping[float, str]]
"""By a number's symbol and its value: the method that has it."""


class Values(NamedTuple):
    """A metric's values of each method, (clusters,), the runs of one averaged; the clusters are users, or items."""

    clusters: list[str]
    means: dict[str, np.ndarray]  # by method
    runs: dict[str, dict[str, float]]  # by method and run: its mean over clusters; empty where there is one run


def summarise(
    scores: Scores,
    definitions: Sequence[Definition],
    methods: Sequence[Method],
    reference: str,
    seed: int,
    *,
    command: str,
    items: Path,
    interactions: Path | None,
    sweeps: Sweeps | None = None,
) -> dict:
    """What `write_results` writes. scores of SHUFFLED, where there are, are the null run, and no method.

    A number that cannot be had is None, such as the interval of one user. ValueError where the reference is no method.
    """
    names = list(dict.fromkeys(method.group for method in methods))
    if reference not in names:
        raise ValueError(f"the reference '{reference}' is not among the methods {', '.join(names)}; name one of them")
    values = {x.name: _values(scores[x.name], names) for x in definitions if x.name in scores}
    bootstrap = cache(lambda clusters: Bootstrap(clusters, seed))
    estimates, differences, null = {}, {}, {}
    for definition in definitions:
        if definition.name not in values:
            continue
        name, (clusters, means, runs) = definition.name, values[definition.name]
        draw = bootstrap(len(clusters))
        estimates[name] = {method: _estimate(draw, x) | _spread(runs[method]) for method, x in means.items()}
        if reference in means:
            others = {method: x - means[reference] for method, x in means.items() if method != reference}
            differences[name] = {method: _difference(draw, x, seed) for method, x in others.items()}
        if SHUFFLED in scores[name] and definition.chance is not None:
            shuffled = by_user(scores[name][SHUFFLED], clusters) - definition.chance
            null[name] = _estimate(draw, shuffled) | {"p": _number(paired_permutation(shuffled, RESAMPLES, seed))}
    _correct(differences)
    results = {
        "format_version": FORMAT_VERSION,
        "command": command,
        "reference": reference,
        "users": len({shot.user_id for method in methods for shot in method.shots}),
        "pictures": sum(len(method.shots) for method in methods),
        "statistics": {"resamples": RESAMPLES, "level": LEVEL, "power": POWER, "effect": EFFECT, "seed": seed},
        "data": {"items": _items_hash(items), "interactions": interactions and file_hash(interactions)},
        "methods": {method.name: _described(method) for method in methods},
        "metrics": {x.name: {k: v for k, v in asdict(x).items() if k != "name"} for x in definitions},
        "estimates": estimates,
        "differences": differences,
        "null": null,
        "examples": _examples(definitions, values, null, methods, reference),
    }
    return results | ({"sweeps": _swept(sweeps, estimates)} if sweeps else {})


def write_results(path: Path, results: Mapping) -> None:
    write_whole(path, json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False).encode())


def _values(of_metric: Mapping[str, Mapping[str, np.ndarray]], names: Sequence[str]) -> Values:
    measured = {name: of for name, of in of_metric.items() if name != SHUFFLED}
    clusters = sorted({cluster for of in measured.values() for cluster in of})
    means, runs = {}, {}
    for name in names:
        each = {x.partition(RUN)[2]: by_user(of, clusters) for x, of in measured.items() if x.partition(RUN)[0] == name}
        if each:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # a cluster without a value in any run
                means[name] = np.nanmean(list(each.values()), axis=0)
                runs[name] = {run: float(np.nanmean(x)) for run, x in each.items()} if len(each) > 1 else {}
    return Values(clusters, means, runs)


def _estimate(bootstrap: Bootstrap, values: np.ndarray) -> dict:
    """One cluster has a mean and no interval."""
    users = int((~np.isnan(values)).sum())
    if users < 2:
        mean = float(np.nanmean(values)) if users else None
        return {"mean": mean, "low": None, "high": None, "users": users}
    return asdict(bootstrap.estimate(values)) | {"users": users}


def _spread(runs: Mapping[str, float]) -> dict:
    """Of several runs: each one's mean, and their standard deviation, which the interval over users does not hold."""
    return {"runs": dict(runs), "spread": _number(float(np.std(list(runs.values()), ddof=1)))} if runs else {}


def _difference(bootstrap: Bootstrap, values: np.ndarray, seed: int) -> dict:
    return _estimate(bootstrap, values) | {
        "p": _number(paired_permutation(values, RESAMPLES, seed)),
        "effect": _number(effect_size(values)),
        "smallest_detectable": _number(smallest_detectable(values)),
    }


def _correct(differences: Mapping[str, Mapping[str, dict]]) -> None:
    """Adds p_holm: every difference of the evaluation is one of the tests."""
    tests = [x for of_metric in differences.values() for x in of_metric.values()]
    given = [float("nan") if x["p"] is None else x["p"] for x in tests]
    for test, corrected in zip(tests, holm(given), strict=True):
        test["p_holm"] = _number(corrected)


def _examples(
    definitions: Sequence[Definition],
    values: Mapping[str, Values],
    null: Mapping[str, dict],
    methods: Sequence[Method],
    reference: str,
) -> dict:
    """The best, median and worst users by a metric of the history, or else by the first that has a direction."""
    shots: dict[str, dict[str, Shot]] = {}  # by user and method: the first picture of the user's first objective
    objectives: dict[str, str] = {}
    for method in methods:
        for shot in method.shots:
            if shot.objective == objectives.setdefault(shot.user_id, shot.objective):
                shots.setdefault(shot.user_id, {}).setdefault(method.group, shot)
    usable = [x for x in definitions if x.name in values and reference in values[x.name].means]
    usable = [x for x in usable if x.direction and set(values[x.name].clusters) <= set(shots)]
    if not usable:
        return {"rule": "no metric of users has a direction"}
    by = next((x for x in usable if x.name in null), usable[0])
    of_user = dict(zip(values[by.name].clusters, values[by.name].means[reference], strict=True))
    sign = -1 if by.direction == "higher" else 1
    ranked = sorted((x for x in of_user if not np.isnan(of_user[x])), key=lambda x: (sign * of_user[x], x))
    count = min(EXAMPLES, max(1, len(ranked) // 3))
    middle = (len(ranked) - count) // 2
    places = {"best": ranked[:count], "median": ranked[middle : middle + count], "worst": ranked[-count:]}
    rule = (
        f"users by {by.name} of '{reference}' ({by.direction} is better; ties by id): the first {count}, the middle "
        f"{count}, the last {count}; each with the first picture of their first objective"
    )
    return {"rule": rule} | {place: [_example(shots[x]) for x in users] for place, users in places.items()}


def _example(shots: Mapping[str, Shot]) -> dict:
    first = next(iter(shots.values()))
    history = next((shot.history for shot in shots.values() if shot.history), ())
    return {
        "user_id": first.user_id,
        "objective": first.objective,
        "history": list(history),
        "pictures": {name: shot.file.as_posix() for name, shot in shots.items()},
    }


def _described(method: Method) -> dict:
    settings = dict(method.settings)
    weights = settings.pop("weights", {})
    return {
        "folder": method.folder.resolve().name,
        "pictures": len(method.shots),
        "manifest": method.manifest_hash,
        "settings": settings,
        "weights": weights,
    }


def _swept(sweeps: Sweeps, estimates: Mapping[str, Mapping[str, dict]]) -> dict:
    return {
        symbol: {
            "values": sorted(points),
            "metrics": {
                metric: {f"{value:g}": of[points[value]] for value in sorted(points) if points[value] in of}
                for metric, of in estimates.items()
            },
        }
        for symbol, points in sweeps.items()
    }


def _items_hash(items: Path) -> str:
    """Of what every item says, and of its picture's name."""
    found = xxhash.xxh3_128()
    for item in read_items(items, lambda *_: None):
        found.update(json.dumps(asdict(item)).encode() + b"\n")
    return found.hexdigest()


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
