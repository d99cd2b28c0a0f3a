"""Fills a score file: every metric of every picture, some pictures at a time."""

from collections import defaultdict
from collections.abc import Callable, Sequence

from iamg_train.evaluation.methods import Method, Shot
from iamg_train.evaluation.metrics import ItemMetric, PictureMetric
from iamg_train.evaluation.scores import ScoreFile, Subject

TOGETHER = 32  # pictures that are measured before their values are put on the disk

Advance = Callable[[int], None]
"""Told how many pictures more are done."""


def measure_pictures(
    method: Method, metrics: Sequence[PictureMetric], scores: ScoreFile, advance: Advance, name: str | None = None
) -> None:
    """name: what the score file calls the method (default: its name)."""
    ordered = sorted(method.shots, key=lambda shot: (shot.objective, shot.user_id, shot.number))
    for start in range(0, len(ordered), TOGETHER):
        batch = ordered[start : start + TOGETHER]
        wanted: dict[Subject, str] = {}
        of_metric: dict[str, dict[Subject, Shot]] = defaultdict(dict)
        for metric in metrics:
            for shot in batch:
                if (key := metric.key(shot)) is not None:
                    subject = _subject(metric, name or method.name, method, shot)
                    wanted[subject], of_metric[metric.definition.name][subject] = key, shot
        missing = scores.missing(wanted)
        values: dict[Subject, float] = {}
        for metric in metrics:
            shots = of_metric[metric.definition.name]
            subjects = [subject for subject in missing if subject in shots]
            if subjects:
                values |= zip(subjects, metric.values([shots[x] for x in subjects]), strict=True)
        scores.add(values)
        scores.missing(wanted)  # pictures that are alike have one key: the others take the value over
        advance(len(batch))


def measure_items(method: Method, metrics: Sequence[ItemMetric], scores: ScoreFile, advance: Advance) -> None:
    of_item: dict[str, list[Shot]] = defaultdict(list)
    for shot in method.shots:
        of_item[shot.objective].append(shot)
    for item, shots in of_item.items():
        for metric in metrics:
            if (key := metric.key(shots)) is not None:
                subject = Subject(metric.definition.name, method.name, "", item, "")
                if scores.missing({subject: key}):
                    scores.add({subject: metric.value(shots)})
        advance(len(shots))


def _subject(metric: PictureMetric, name: str, method: Method, shot: Shot) -> Subject:
    file = shot.file.relative_to(method.folder).as_posix()
    return Subject(metric.definition.name, name, shot.user_id, shot.objective, file)
