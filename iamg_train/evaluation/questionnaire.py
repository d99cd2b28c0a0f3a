"""`iamg-train questionnaire make`: a page that asks people to rank pictures (Appendix F), and the key to its ids."""

import json
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random

import numpy as np
import xxhash

from iamg.items import Item, read_items
from iamg.pictures import open_picture, resolve_inside
from iamg.scenarios import load_scenarios
from iamg_train.console import console, tell_problems
from iamg_train.evaluation.answers import read_key
from iamg_train.evaluation.method_arguments import methods_of
from iamg_train.evaluation.methods import Method, Pair, in_common
from iamg_train.evaluation.questionnaire_page import Images, page_of
from iamg_train.evaluation.user_info import read_user_info
from iamg_train.whole_files import write_whole

FORMAT_VERSION = 1
LARGE, SMALL = 512, 192  # pixels, the longest side of a picture to rank, and of one of the history
ALIKE = 32  # pixels of a side that pictures are compared at
CANDIDATES = 40  # items that the wrong pictures of a check are looked for among
MOST_METHODS = 8  # that a person can put in order


def make(arguments: Namespace) -> int:
    methods = methods_of(arguments)
    if len(methods) > MOST_METHODS:
        raise ValueError(f"{len(methods)} methods are more than the {MOST_METHODS} that a person can rank; give fewer")
    count = arguments.cases or arguments.questions
    if count < arguments.questions:
        raise ValueError(f"--cases {count} are fewer than --questions {arguments.questions}; give as many or more")
    problems: list[tuple[str, str]] = []
    items = {x.item_id: x for x in read_items(arguments.items, lambda *problem: problems.append(problem))}
    people = read_user_info(arguments.user_info) if arguments.user_info else {}
    random, images = Random(arguments.seed), Images()
    cases = _draw_cases(methods, count, random)
    catalogue = Catalogue(arguments.items, items, images)
    asked = [_question(case, methods, catalogue, people.get(case[0], "")) for case in cases]
    checks = list(_checks(catalogue, {objective for _, objective in cases}, len(methods), arguments.checks, random))
    study, key = _with_opaque_ids(asked, checks, random)
    study |= {
        "phi": load_scenarios()[arguments.scenario].phi,
        "each": arguments.questions,
        "images": images.table(),
    }
    study["id"] = xxhash.xxh3_128_hexdigest(json.dumps(study, sort_keys=True).encode())
    key = {
        "format_version": FORMAT_VERSION,
        "study": study["id"],
        "questions_each": arguments.questions,
        "methods": {x.name: {"folder": x.folder.resolve().name, "manifest": x.manifest_hash} for x in methods},
        **key,
    }
    page, key_file = page_of(study), arguments.out.with_suffix(".key.json")
    if key_file.exists() and read_key(key_file).study != study["id"]:
        raise ValueError(f"{key_file} is the key of another study, whose answers need it; choose another --out")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(key_file, (json.dumps(key, indent=1, ensure_ascii=False) + "\n").encode())
    write_whole(arguments.out, page)
    tell_problems("items have problems", problems)
    told = (
        f"{arguments.out}: {arguments.questions} questions and {len(checks)} checks for each participant, "
        f"{len(methods)} pictures a question, {len(page) / 2**20:.1f} MiB\n{key_file}: keep it to yourself"
    )
    console.print(told, markup=False, soft_wrap=True)
    return 0


class Catalogue:
    """Items and their pictures, as a page shows them."""

    def __init__(self, folder: Path, items: Mapping[str, Item], images: Images):
        self._folder, self.items, self.images = folder, items, images

    def item(self, item_id: str) -> Item:
        if item_id not in self.items:
            raise ValueError(
                f"{self._folder} has no item {item_id!r}; give the items that the pictures were drawn from"
            )
        return self.items[item_id]

    def picture(self, item_id: str) -> Path:
        return resolve_inside(self._folder, self.item(item_id).picture)

    def shown(self, item_ids: Sequence[str]) -> list[dict]:
        """Small pictures with their titles."""
        return [{"title": self.item(x).title, "picture": self.images.add(self.picture(x), SMALL)} for x in item_ids]


def _draw_cases(methods: Sequence[Method], count: int, random: Random) -> list[Pair]:
    common = in_common(methods)
    if len(common) < count:
        raise ValueError(
            f"the methods have {len(common)} users and objectives in common, {count} are to be asked about; lower "
            "--questions or --cases"
        )
    return random.sample(common, count)


def _question(case: Pair, methods: Sequence[Method], catalogue: Catalogue, who: str) -> dict:
    """What is asked; `pictures`: by method."""
    user_id, objective = case
    shots = {method.name: next(x for x in method.shots if x.pair == case) for method in methods}
    history = next((x.history for x in shots.values() if x.history), ())
    item = catalogue.item(objective)
    return {
        "case": {"user_id": user_id, "objective": objective},
        "shown": {
            "who": who,
            "history": catalogue.shown(history),
            "title": item.title,
            "text": item.text,
        },
        "pictures": {name: catalogue.images.add(shot.file, LARGE) for name, shot in shots.items()},
    }


def _checks(catalogue: Catalogue, objectives: set[str], pictures: int, count: int, random: Random) -> Iterator[dict]:
    """Questions that show an item's picture and ask for it among others, which look as little like it as can be."""
    free = sorted(set(catalogue.items) - objectives)
    if count and len(free) < count + pictures - 1:
        raise ValueError(
            f"{count} checks of {pictures} pictures need {count + pictures - 1} items that no question is about; there "
            f"are {len(free)}: lower --checks"
        )
    for right in random.sample(free, count):
        others = random.sample([x for x in free if x != right], min(CANDIDATES, len(free) - 1))
        seen = _pixels(catalogue.picture(right))
        others.sort(key=lambda x: -np.abs(_pixels(catalogue.picture(x)) - seen).mean())
        shown = [catalogue.images.add(catalogue.picture(x), LARGE) for x in (right, *others[: pictures - 1])]
        yield {"right": right, "shown": {"shown": shown[0]}, "pictures": dict(enumerate(shown))}


def _pixels(path: Path) -> np.ndarray:
    return np.asarray(open_picture(path).resize((ALIKE, ALIKE)), dtype=np.float32)


def _with_opaque_ids(asked: Sequence[dict], checks: Sequence[dict], random: Random) -> tuple[dict, dict]:
    """What the page is given and what its maker keeps: only the latter says which picture is whose."""
    together = [*asked, *checks]
    pictures = [(place, name) for place, question in enumerate(together) for name in question["pictures"]]
    random.shuffle(pictures)
    ids = {picture: f"p{number}" for number, picture in enumerate(pictures)}
    numbers = random.sample(range(len(together)), len(together))
    study, key = {"questions": [], "checks": []}, {"questions": {}, "checks": {}}
    for place, (number, question) in enumerate(zip(numbers, together, strict=True)):
        kind, question_id = ("checks" if "right" in question else "questions"), f"q{number}"
        shown = [{"id": ids[place, name], "picture": x} for name, x in question["pictures"].items()]
        shown.sort(key=lambda x: int(x["id"][1:]))
        study[kind].append({"id": question_id, **question["shown"], "pictures": shown})
        names = {ids[place, name]: name for name in question["pictures"]}
        if kind == "checks":
            key[kind][question_id] = {"item": question["right"], "pictures": sorted(names), "right": ids[place, 0]}
        else:
            key[kind][question_id] = {**question["case"], "pictures": names}
    return study, key
