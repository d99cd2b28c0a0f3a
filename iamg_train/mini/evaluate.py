"""`iamg-train mini evaluate`: what each part of the method does, measured on held-out users and items."""

import json
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path

import numpy as np
from rich.progress import Progress

from iamg.pictures import open_picture, resolve_inside
from iamg.pool import EmbeddingPool
from iamg_train.config import Config, load_config
from iamg_train.evaluation.statistics import Bootstrap
from iamg_train.histories import Split
from iamg_train.mini.attribute_reader import AttributeReader, train_reader
from iamg_train.mini.case_samples import prepare_cases
from iamg_train.mini.cases import Case, choose_cases
from iamg_train.mini.drawing import CasePictures, Drawing
from iamg_train.mini.evaluation_arguments import COUNTS, check_arguments, command_of, weights_of
from iamg_train.mini.evaluation_plots import Example
from iamg_train.mini.evaluation_report import BEGIN, END, check_page, write_report
from iamg_train.mini.interest_reach import THEIR_OWN, interest_moves, loved_shares
from iamg_train.mini.measures import OTHER, Truth, Values, measure
from iamg_train.mini.posters import SIDE
from iamg_train.mini.reader_accuracy import RENDERED, check_accuracy, measure_accuracy
from iamg_train.mini.texts import tag_of
from iamg_train.mini.variants import FULL, LONGEST_K, STOCK, SWEEPS, Variant, variants_of
from iamg_train.mini.world import MASKS, TEST_FRACTION, World, read_world
from iamg_train.objectives import Objectives
from iamg_train.pool_commands import console, progress_bar
from iamg_train.prepare import stage
from iamg_train.whole_files import file_hash, write_whole

RESULTS, PAGE = "evaluation.json", "evaluation.md"
ORIGINAL = "original item"
EXAMPLES = 4  # users whose pictures are shown


def run(arguments: Namespace) -> int:
    check_arguments(arguments)
    if arguments.docs:
        check_page(arguments.docs)
    out, weights = arguments.out, weights_of(arguments)
    hashes = {name: {"file": path.name, "xxh3_128": file_hash(path)} for name, path in weights.items()}
    world = read_world(arguments.world)
    reader = train_reader(out / f"reader_{arguments.seed}", arguments.seed)
    accuracies = measure_accuracy(reader, weights["checkpoint"], arguments.seed)
    check_accuracy(accuracies[RENDERED])
    with EmbeddingPool.open(arguments.pool) as pool, progress_bar() as bar:
        variants, sweeps, loved, moves, examples = _measure(arguments, pool, weights, world, reader, bar)
    bootstrap = Bootstrap(arguments.users, arguments.seed)
    results = {
        "command": command_of(arguments),
        "settings": {name: getattr(arguments, name) for name in (*COUNTS, "guidance_scale", "seed")},
        "weights": hashes,
        "reader": accuracies,
        "drawn": {x.name: asdict(x) for x in variants_of(weights)},
        "variants": bootstrap.compare(variants, FULL.name),
        "sweeps": {x.symbol: bootstrap.compare(sweeps[x.symbol], f"{x.full:g}") for x in SWEEPS},
        "loved": bootstrap.compare(loved, THEIR_OWN),
        "moves": {name: {key: asdict(bootstrap.estimate(x)) for key, x in of.items()} for name, of in moves.items()},
    }
    write_whole(out / RESULTS, json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False).encode())
    write_whole(out / PAGE, f"{BEGIN}\n{END}\n".encode())
    for page in filter(None, (out / PAGE, arguments.docs)):
        write_report(page, results, examples)
        console.print(f"evaluation: {page}", markup=False, soft_wrap=True)
    return 0


def _measure(
    arguments: Namespace,
    pool: EmbeddingPool,
    weights: dict[str, Path],
    world: World,
    reader: AttributeReader,
    bar: Progress,
) -> tuple[dict[str, Values], dict[str, dict[str, Values]], dict[str, Values], dict[str, Values], list[Example]]:
    """What is measured by variant, by sweep and value, by what is retrieved, and by adapter; and pictures to look at.

    What is not there yet is drawn.
    """
    config = _config(arguments, pool.scenario)
    variants = {x.name: x for x in variants_of(weights)}
    sweeps = {sweep.symbol: {f"{value:g}": sweep.variant(value) for value in sweep.values} for sweep in SWEEPS}
    points = [point for sweep in sweeps.values() for point in sweep.values()]
    objectives = Objectives(config.data.items, pool)
    split = Split(config.data.test_fraction)
    cases = choose_cases(config.data, world, pool, objectives, split, arguments.users, arguments.seed)
    samples = prepare_cases(config, cases, [*variants.values(), *points], pool, objectives, bar)
    drawing = Drawing(arguments.steps, arguments.guidance_scale, arguments.seed)
    pictures = CasePictures(arguments.out / "pictures", samples, drawing, weights)
    wanted = [(x, arguments.seeds) for x in variants.values()] + [(x, arguments.sweep_seeds) for x in points]
    missing, show = pictures.missing(wanted), stage(bar, "drawing")
    pictures.draw(missing, lambda done: show(done, len(missing)))

    truths = [_truth(case, world, pool, config) for case in cases]
    originals = np.stack([x.original for x in truths])[:, None]
    show_read, read = stage(bar, "reading pictures"), count(1)

    def values(variant: Variant, seeds: int) -> Values:
        own, other = (pictures.of(variant, seeds, of_own) for of_own in (True, False))
        show_read(next(read), len(wanted))
        return measure(reader, truths, own, other)

    by_variant = {ORIGINAL: measure(reader, truths, originals, originals)}
    by_variant |= {name: values(variant, arguments.seeds) for name, variant in variants.items()}
    by_sweep = {
        symbol: {value: values(point, arguments.sweep_seeds) for value, point in points.items()}
        for symbol, points in sweeps.items()
    }
    loved = loved_shares(samples, [x.taste for x in truths], world.posters)
    return by_variant, by_sweep, loved, interest_moves(samples, weights), _examples(pictures, variants, truths)


def _examples(pictures: CasePictures, variants: dict[str, Variant], truths: Sequence[Truth]) -> list[Example]:
    """The first users' first pictures."""
    shown = {name: pictures.of(variant, 1, own=True)[:, 0] for name, variant in variants.items()}
    shown[f"{FULL.name}, {OTHER}"] = pictures.of(FULL, 1, own=False)[:, 0]
    examples = []
    for user, truth in enumerate(truths[:EXAMPLES]):
        loved = ", ".join(tag_of(*value) for value in truth.taste.loved)
        drawn = {name: of_users[user] for name, of_users in shown.items()}
        examples.append(Example(f"loves {loved}", {ORIGINAL: truth.original} | drawn))
    return examples


def _truth(case: Case, world: World, pool: EmbeddingPool, config: Config) -> Truth:
    picture = open_picture(resolve_inside(config.data.items, pool.item(case.own.objective).picture))
    return Truth(world.tastes[case.own.user_id], world.posters[case.own.objective], np.asarray(picture))


def _config(arguments: Namespace, scenario: str) -> Config:
    """The run's settings, but for what variants change."""
    given = {name: getattr(arguments, name) for name in ("pool", "checkpoint", "clip_vision", STOCK, "out")}
    return load_config(
        None,
        given
        | {
            "items": arguments.world,
            "masks": arguments.world / MASKS,
            "foreground": "masks",
            "prepared": arguments.out / "prepared",
            "cache": arguments.out / "cache",
            "cache_dtype": "float32",
            "scenario": scenario,
            "top_k": LONGEST_K,
            "test_fraction": TEST_FRACTION,
            "resolution": SIDE,
            "device": "cpu",
        },
    )
