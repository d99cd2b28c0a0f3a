"""`iamg-train questionnaire score`: mean ranks, shares and agreement of what people answered."""

import csv
import io
import json
import math
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

import numpy as np
from rich.table import Table
from rich.text import Text

from iamg_train.console import console, plain, tell_problems
from iamg_train.evaluation.agreement import kendall_w, krippendorff_alpha, share
from iamg_train.evaluation.answers import Dropped, Key, Sheet, read_answers, read_key
from iamg_train.evaluation.statistics import Bootstrap
from iamg_train.shown_command import shown_command
from iamg_train.whole_files import write_whole

STUDY, METHODS, RANKS = "human_study.json", "human_study.csv", "human_ranks.csv"
TOP = 2
DEFINITIONS = {
    "mean_rank": "of all rankings, 1 is best; interval by bootstrap over participants, 95 %",
    "best": "rank 1, of all rankings; Wilson's interval, 95 %, which takes rankings for independent",
    "top_2": "rank 1 or 2, of all rankings; Wilson's interval, 95 %",
    "kendall_w_of_people": "how far participants rank a question's pictures alike: W, the mean over questions",
    "kendall_w_of_methods": "how far all rankings order the methods alike: W over participants and questions together",
    "krippendorff_alpha": "ordinal, of the pictures' ranks; raters are participants; 1 agreement, 0 chance",
    "first_choices": "share of rank 1 by the position on the screen; positions were shuffled, so even shares are expected",
}


def score(arguments: Namespace) -> int:
    key = read_key(arguments.key)
    sheets, dropped = read_answers(arguments.answers, key, arguments.failed_checks, arguments.min_seconds)
    tell_problems(f"of {len(arguments.answers)} files dropped", [(x.file, f"{x.rule}: {x.reason}") for x in dropped])
    if not sheets:
        raise ValueError("no file is left to count; the reasons are above")
    rules = {"failed_checks": arguments.failed_checks, "min_seconds": arguments.min_seconds}
    study = summarise(key, sheets, dropped, arguments.seed)
    study = {"format_version": 1, "command": shown_command(arguments), "rules": rules, **study}
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out / STUDY, (json.dumps(study, indent=1, ensure_ascii=False) + "\n").encode())
    write_whole(arguments.out / METHODS, _csv(_method_rows(study["methods"])))
    write_whole(arguments.out / RANKS, _csv(_rank_rows(key, sheets)))
    _tell(study)
    console.print(f"{arguments.out}: {STUDY}, {METHODS}, {RANKS}", markup=False, soft_wrap=True)
    return 0


def summarise(key: Key, sheets: Sequence[Sheet], dropped: Sequence[Dropped], seed: int) -> dict:
    """The study's figures, as JSON has them; null where too few people answered."""
    methods = list(key.methods)
    ranks = np.array([_ranks(key, sheet, methods) for sheet in sheets])  # (participants, questions each, methods)
    every = ranks.reshape(-1, len(methods))
    bootstrap = Bootstrap(len(sheets), seed)
    return {
        "study": key.study,
        "definitions": DEFINITIONS,
        "participants": {
            "sent": len(sheets) + len(dropped),
            "kept": len(sheets),
            "dropped": dict(Counter(x.rule for x in dropped)),
            "files_dropped": [asdict(x) for x in dropped],
        },
        "rankings": len(every),
        "methods": {
            name: {
                "mean_rank": asdict(bootstrap.estimate(ranks[:, :, place].mean(axis=1))),
                "best": share(int((every[:, place] == 1).sum()), len(every)),
                "top_2": share(int((every[:, place] <= TOP).sum()), len(every)),
            }
            for place, name in enumerate(methods)
        },
        "agreement": {
            **_of_people(key, sheets),
            "kendall_w_of_methods": _figure(kendall_w(every)),
        },
        "first_choices": _first_choices(key, sheets),
        "median_seconds": float(np.median([x.seconds for sheet in sheets for x in sheet.answers])),
    }


def _answers(key: Key, sheet: Sheet) -> Iterator:
    """Those that are no checks, in the key's order of questions."""
    answered = {x.question: x for x in sheet.answers}
    return (answered[question] for question in key.questions if question in answered)


def _ranks(key: Key, sheet: Sheet, methods: Sequence[str]) -> list[list[int]]:
    """(questions each, methods)"""
    return [
        [{key.questions[x.question].pictures[id_]: n for n, id_ in enumerate(x.order, 1)}[name] for name in methods]
        for x in _answers(key, sheet)
    ]


def _of_people(key: Key, sheets: Sequence[Sheet]) -> dict[str, float | None]:
    units = {picture: n for n, picture in enumerate(x for q in key.questions.values() for x in q.pictures)}
    ratings = np.full((len(sheets), len(units)), np.nan)
    for row, sheet in zip(ratings, sheets, strict=True):
        for answer in _answers(key, sheet):
            row[[units[x] for x in answer.order]] = range(1, len(answer.order) + 1)
    found, chance = [], []
    for question in key.questions.values():
        of_question = ratings[:, [units[x] for x in question.pictures]]
        rated = of_question[~np.isnan(of_question[:, 0])]
        if len(rated) > 1:
            found.append(kendall_w(rated))
            chance.append(1 / len(rated))
    return {
        "kendall_w_of_people": _figure(np.mean(found) if found else math.nan),
        "kendall_w_of_people_by_chance": _figure(np.mean(chance) if chance else math.nan),
        "krippendorff_alpha": _figure(krippendorff_alpha(ratings)),
    }


def _first_choices(key: Key, sheets: Sequence[Sheet]) -> list[dict[str, float]]:
    places = Counter(x.shown.index(x.order[0]) for sheet in sheets for x in _answers(key, sheet))
    return [share(places[place], places.total()) for place in range(len(key.methods))]


def _method_rows(methods: Mapping[str, Mapping]) -> Iterator[list]:
    yield ["method", "mean_rank", "low", "high", "best", "low", "high", "top_2", "low", "high"]
    for name, x in methods.items():
        shares = [x[what][end] for what in ("best", "top_2") for end in ("share", "low", "high")]
        yield [name, x["mean_rank"]["mean"], x["mean_rank"]["low"], x["mean_rank"]["high"], *shares]


def _rank_rows(key: Key, sheets: Sequence[Sheet]) -> Iterator[list]:
    """Participants are numbered: their codes stay in their files."""
    yield ["participant", "question", "user_id", "objective", "method", "rank", "position", "seconds"]
    for number, sheet in enumerate(sheets, 1):
        for answer in _answers(key, sheet):
            question = key.questions[answer.question]
            for rank, picture in enumerate(answer.order, 1):
                what = question.user_id, question.objective, question.pictures[picture]
                yield [number, answer.question, *what, rank, answer.shown.index(picture) + 1, answer.seconds]


def _csv(rows: Iterator[list]) -> bytes:
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    return file.getvalue().encode()


def _figure(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _tell(study: Mapping) -> None:
    people = study["participants"]
    table = Table("method", "mean rank", "rank 1", f"rank 1 to {TOP}", show_edge=False)
    for name, x in sorted(study["methods"].items(), key=lambda row: row[1]["mean_rank"]["mean"]):
        mean = "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**x["mean_rank"])
        shares = ["{share:.1%} [{low:.1%}, {high:.1%}]".format(**x[what]) for what in ("best", "top_2")]
        table.add_row(Text(plain(name)), mean, *shares)
    console.print(table)
    shown = {name: "-" if x is None else f"{x:.3f}" for name, x in study["agreement"].items()}
    positions = ", ".join(f"{x['share']:.0%}" for x in study["first_choices"])
    told = (
        f"{people['kept']} of {people['sent']} participants, {study['rankings']} rankings; intervals 95 %\n"
        f"Kendall's W of people {shown['kendall_w_of_people']} (by chance {shown['kendall_w_of_people_by_chance']}), of "
        f"methods {shown['kendall_w_of_methods']}; Krippendorff's alpha {shown['krippendorff_alpha']}\n"
        f"rank 1 by position: {positions}"
    )
    console.print(told, markup=False, soft_wrap=True)
