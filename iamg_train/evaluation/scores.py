"""The score file of an evaluation: every value that was computed, so that none is computed or counted twice."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, astuple, dataclass
from math import isfinite
from pathlib import Path

import numpy as np

from iamg_train.jsonl_log import JsonLinesLog, json_lines, read_log
from iamg_train.whole_files import write_whole

SCORES = "scores.jsonl"

Scores = Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]
"""By metric, method and user: the values of that user's pictures. A metric of items has the items for users."""


@dataclass(frozen=True)
class Subject:
    """What a value is of: a picture, relative to its method's folder, or without user and file, an item's pictures."""

    metric: str
    method: str
    user_id: str
    objective: str
    file: str


class ScoreFile:
    """Rows of a subject, its value, and a key: a hash of all that the value was computed from.

    It only grows until `finish`, and survives a kill at any moment; one process at a time writes it.
    """

    def __init__(self, path: Path):
        self._path = path
        self._rows: dict[Subject, tuple[str, float]] = {}  # the last of each subject
        self._values: dict[str, float] = {}  # by key: a picture under another name has its value already
        self._wanted: dict[Subject, str] = {}
        for subject, key, value in _read(path):
            self._rows[subject], self._values[key] = (key, value), value
        path.parent.mkdir(parents=True, exist_ok=True)
        self._log = JsonLinesLog(path)

    def missing(self, wanted: Mapping[Subject, str]) -> list[Subject]:
        """Those of the subjects, with their keys, whose values must be computed; each key once."""
        self._wanted |= wanted
        known = {subject: self._values[key] for subject, key in wanted.items() if key in self._values}
        self._append({subject: value for subject, value in known.items() if not self._holds(subject)})
        first: dict[str, Subject] = {}
        for subject, key in wanted.items():
            if subject not in known:
                first.setdefault(key, subject)
        return list(first.values())

    def add(self, values: Mapping[Subject, float]) -> None:
        """Values of missing subjects, on the disk when it returns; their twins have them at the next `missing`."""
        for subject, value in values.items():
            if not isfinite(value):
                raise ValueError(
                    f"{subject.metric} of {subject.method}, {subject.file or subject.objective} is {value}"
                )
            self._values[self._wanted[subject]] = float(value)
        self._append(values)

    def __enter__(self) -> "ScoreFile":
        return self

    def __exit__(self, *raised: object) -> None:
        self._log.__exit__(*raised)

    def finish(self) -> Scores:
        """What was wanted, and has a value; the file, which must be closed, keeps that alone, a row each."""
        rows = {subject: self._rows[subject] for subject in self._wanted if self._holds(subject)}
        write_whole(self._path, json_lines(_row(subject, *row) for subject, row in rows.items()))
        return _scores((subject, value) for subject, (_, value) in rows.items())

    def _holds(self, subject: Subject) -> bool:
        return self._rows.get(subject, ("",))[0] == self._wanted[subject]

    def _append(self, values: Mapping[Subject, float]) -> None:
        rows = {subject: (self._wanted[subject], float(value)) for subject, value in values.items()}
        if rows:
            self._log.append(_row(subject, *row) for subject, row in rows.items())
            self._rows |= rows


def read_scores(path: Path) -> Scores:
    """What `ScoreFile.finish` left; FileNotFoundError where there is nothing."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; run `iamg-train evaluate`")
    return _scores({subject: value for subject, _, value in _read(path)}.items())


def _row(subject: Subject, key: str, value: float) -> dict:
    return asdict(subject) | {"value": value, "key": key}


def _read(path: Path) -> Iterator[tuple[Subject, str, float]]:
    """Subject, key and value of each whole row."""
    for row in read_log(path):
        try:
            subject = Subject(**{name: row[name] for name in Subject.__annotations__})
            key, value = row["key"], float(row["value"])
        except (LookupError, TypeError, ValueError):
            continue
        if isfinite(value) and all(isinstance(x, str) for x in (key, *astuple(subject))):
            yield subject, key, value


def _scores(values: Iterable[tuple[Subject, float]]) -> Scores:
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for subject, value in sorted(values, key=lambda x: astuple(x[0])):
        of_method = found.setdefault(subject.metric, {}).setdefault(subject.method, {})
        of_method.setdefault(subject.user_id or subject.objective, []).append(value)
    return {
        metric: {method: {user: np.array(x) for user, x in users.items()} for method, users in methods.items()}
        for metric, methods in found.items()
    }
