"""What a judge is asked about: for one user and item a picture of every method, shown in several orders."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial
from pathlib import Path
from random import Random

import xxhash

from iamg.pictures import open_picture, thumbnail
from iamg.tagging.asking import PICTURE_SIDE, Question
from iamg_train.evaluation.judge_commands import PAIRS
from iamg_train.evaluation.judge_prompt import answer_schema, judge_prompt
from iamg_train.evaluation.methods import Method, Pair, Shot, in_common
from iamg_train.id_hash import visiting_order
from iamg_train.whole_files import file_hash


@dataclass(frozen=True)
class Case:
    """One picture of each method, of the same user and objective."""

    user_id: str
    objective: str
    number: int
    history: tuple[str, ...]
    pictures: Mapping[str, Path]  # by the method's name


@dataclass(frozen=True)
class Showing:
    """A question about a case: some methods' pictures in slots."""

    case: int
    slots: tuple[str, ...]
    prompt: str
    key: str  # hash of all that the judge is and sees

    def question(self, case: Case) -> Question:
        """Opens the pictures; ValueError naming one that cannot be read."""
        first, *more = (thumbnail(open_picture(case.pictures[name]), PICTURE_SIDE) for name in self.slots)
        return Question(self.prompt, first, more_images=tuple(more), schema=answer_schema(len(self.slots)))


def make_cases(methods: Sequence[Method], pictures: int, users: int | None) -> list[Case]:
    """The first `pictures` of every user and objective that all methods have, of so many users, chosen by their hash.

    The history is the first method's, else that of the next which has one. A method with fewer pictures shows its own
    again. ValueError where nothing is in common, or a history is not known.
    """
    shots = {method.name: _by_pair(method) for method in methods}
    pairs = in_common(methods)
    chosen = set(sorted({user_id for user_id, _ in pairs}, key=visiting_order)[:users])
    cases = []
    for pair in pairs:
        own = {name: of_method[pair] for name, of_method in shots.items()}
        history = next((shot.history for all_shots in own.values() for shot in all_shots if shot.history), ())
        if not history:
            raise ValueError(
                f"no manifest says what user {pair[0]!r} met before {pair[1]!r}; add "
                f'"history": [ids, newest first] to the lines of {methods[0].folder}'
            )
        for number in range(pictures if pair[0] in chosen else 0):
            files = {name: all_shots[number % len(all_shots)].file for name, all_shots in own.items()}
            cases.append(Case(*pair, number, history, files))
    return cases


def make_showings(
    cases: Sequence[Case],
    texts: Mapping[str, str],
    people: Mapping[str, str],
    phi: str,
    mode: str,
    orders: int,
    judge: str,
) -> list[Showing]:
    """What is asked: each case in `orders` slot orders; in pairs, each two methods by themselves, which have two orders.

    texts: T_i of every item by id; people: what is known of users by id; judge: the fingerprint of the model that is
    asked. ValueError naming an item that the texts lack.
    """
    hashes: dict[Path, str] = {}
    showings = []
    for place, case in enumerate(cases):
        for item_id in (*case.history, case.objective):
            if item_id not in texts:
                raise ValueError(f"the items have no {item_id!r}; give the items that the pictures were drawn from")
        for path in case.pictures.values():
            hashes[path] = hashes.get(path) or file_hash(path)
        history, names = [texts[item_id] for item_id in case.history], sorted(case.pictures)
        for group in combinations(names, 2) if mode == PAIRS else (tuple(names),):
            prompt = judge_prompt(phi, history, texts[case.objective], len(group), people.get(case.user_id, ""))
            for slots in _slot_orders(case, group, orders):
                seen = json.dumps([judge, prompt, [hashes[case.pictures[name]] for name in slots]])
                showings.append(Showing(place, slots, prompt, xxhash.xxh3_128_hexdigest(seen.encode())))
    return showings


def _slot_orders(case: Case, names: Sequence[str], orders: int) -> list[tuple[str, ...]]:
    """So many different ones, if there are, each followed by its reverse; for a case the same ones in every run."""
    chance = Random(json.dumps([case.user_id, case.objective, case.number, *names]))
    found: dict[tuple[str, ...], None] = {}
    while len(found) < min(orders, factorial(len(names))):
        slots = tuple(chance.sample(names, len(names)))
        found |= dict.fromkeys((slots, slots[::-1]))
    return list(found)


def _by_pair(method: Method) -> dict[Pair, list[Shot]]:
    shots: dict[Pair, list[Shot]] = {}
    for shot in method.shots:
        shots.setdefault(shot.pair, []).append(shot)
    return shots
