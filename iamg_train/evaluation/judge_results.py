"""What a judge's answers come to: which methods it prefers, and how far its answers can be relied on."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from iamg_train.evaluation.judge_cases import Case, Showing
from iamg_train.evaluation.judgements import Judgements
from iamg_train.evaluation.ranking import outcome_table, rank_methods, user_means
from iamg_train.evaluation.statistics import Bootstrap

TIES = (
    "two methods tie in a case where the slot orders do not agree on them; a tie counts as half a win for both, and a "
    "shared first place is divided"
)


def judge_results(
    cases: Sequence[Case], showings: Sequence[Showing], judgements: Judgements, names: Sequence[str], seed: int
) -> dict[str, object]:
    """What ranking.json says of the answers. ValueError where no case has usable ones in all its slot orders.

    Methods that were shown together in a case count where each slot order has a usable answer.
    """
    problems = Counter(reading.problem for x in showings if (reading := judgements[x]).problem)
    answers = _answers(showings, judgements)
    if not answers:
        told = "; ".join(f"{count} times {problem}" for problem, count in problems.most_common(3))
        raise ValueError(
            f"the judge gave no usable answer in all slot orders of any case ({told}); choose another model, or ask "
            "again with --retry-failed"
        )
    tables = np.stack([outcome_table(rankings, names) for rankings in answers.values()])
    owners = _numbers([cases[case].user_id for case in answers])
    standings, duels = rank_methods(tables, owners, names, seed)
    return {
        "users": int(owners.max()) + 1,
        "cases": len(answers),
        "answers": {"wanted": len(showings), "usable": len(showings) - problems.total(), "problems": dict(problems)},
        "ties": TIES,
        "order_consistency": _consistency(tables, owners, seed),
        "first_slot": _first_slot(cases, showings, judgements, seed),
        "methods": {name: asdict(standing) for name, standing in standings.items()},
        "duels": [asdict(duel) for duel in duels],
    }


def _answers(showings: Sequence[Showing], judgements: Judgements) -> dict[int, list[list[list[str]]]]:
    """By case: of each set of methods that was shown together, its rankings by name."""
    groups: dict[tuple[int, frozenset[str]], list[Showing]] = defaultdict(list)
    for showing in showings:
        groups[showing.case, frozenset(showing.slots)].append(showing)
    answers: dict[int, list[list[list[str]]]] = defaultdict(list)
    for (case, _), shown in groups.items():
        if all(judgements[x].ranking for x in shown):
            answers[case].append([[x.slots[slot] for slot in judgements[x].ranking] for x in shown])
    return answers


def _consistency(tables: np.ndarray, owners: np.ndarray, seed: int) -> dict[str, float]:
    """How often the slot orders agree on two methods."""
    agreed = np.where(np.isnan(tables), np.nan, tables != 0.5)
    by_case = user_means(agreed.reshape(-1), np.repeat(np.arange(len(tables)), tables[0].size))
    by_user = user_means(by_case, owners)
    return asdict(Bootstrap(len(by_user), seed).estimate(by_user))


def _first_slot(
    cases: Sequence[Case], showings: Sequence[Showing], judgements: Judgements, seed: int
) -> dict[str, float]:
    """How often the picture that is shown first is ranked first, and how often by chance."""
    usable = [x for x in showings if judgements[x].ranking]
    won = np.array([float(judgements[x].ranking[0] == 0) for x in usable])
    by_user = user_means(won, _numbers([cases[x.case].user_id for x in usable]))
    return asdict(Bootstrap(len(by_user), seed).estimate(by_user)) | {"chance": 1 / len(usable[0].slots)}


def _numbers(names: Sequence[str]) -> np.ndarray:
    """Each name's number, from 0, in the order in which they come."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names])
