"""`iamg-train ablate` and `iamg-train sweep`: a run's variants drawn, each into a folder of its own, and compared."""

from argparse import Namespace
from collections.abc import Sequence

from iamg_train.config import Config, load_config
from iamg_train.config_flags import overrides_of
from iamg_train.console import console
from iamg_train.evaluation.evaluate import evaluate
from iamg_train.evaluation.methods import original_item, read_method
from iamg_train.evaluation.metric_settings import MetricSettings, measuring_of
from iamg_train.evaluation.results import Sweeps
from iamg_train.generate import drawing_of, generate
from iamg_train.shown_command import shown_command
from iamg_train.variants import FULL, NUMBERS, SYMBOLS, Variant, own_value, parse_variant, vary
from iamg_train.wanted import read_wanted


def ablate(arguments: Namespace) -> int:
    config = _config(arguments)
    variants = []
    for variant in map(parse_variant, dict.fromkeys(arguments.variants)):
        if variant.is_run(config):
            console.print(f"{variant.name} is what the run does anyway, and is left out", markup=False)
        else:
            variants.append(variant)
    if not variants:
        raise ValueError("no variant differs from the run; name others with --variants")
    _compare(arguments, config, variants)
    return 0


def sweep(arguments: Namespace) -> int:
    config, variants, sweeps = _config(arguments), [], {}
    for name, key in NUMBERS.items():
        given = getattr(arguments, name)
        points = (
            {value: vary(name, value) for value in sorted({*given, float(own_value(config, key))})} if given else {}
        )
        variants += [variant for variant in points.values() if not variant.is_run(config)]
        if points:
            of = {value: FULL if variant.is_run(config) else variant for value, variant in points.items()}
            sweeps[SYMBOLS.get(name, name)] = {value: variant.name for value, variant in of.items()}
    if not variants:
        raise ValueError("no number differs from the run's; give --lambda1, --lambda2, --H or --K other values")
    _compare(arguments, config, variants, sweeps)
    return 0


def _config(arguments: Namespace) -> Config:
    config = load_config(arguments.config, overrides_of(arguments))
    config.require_files()
    return config


def _compare(arguments: Namespace, config: Config, variants: Sequence[Variant], sweeps: Sweeps | None = None) -> None:
    """Draws what is missing of the run and the variants, and evaluates all together; the run is the reference."""
    wanted, drawing, out = read_wanted(arguments.users, arguments.objective), drawing_of(arguments), arguments.folder
    varied = [(x, x.config(arguments.config, overrides_of(arguments))) for x in (FULL, *variants)]
    methods = []
    for variant, its_config in varied:
        folder = out / variant.name
        console.print(f"[bold]{variant.name}[/]")
        generate(its_config, wanted, drawing, folder, skip=True, variant=variant)
        methods.append(read_method(variant.name, folder))
    methods.append(original_item(config.data.items, methods[0]))
    data = config.data
    settings = MetricSettings(
        **measuring_of(arguments),
        interest_tags=data.interest_tags,
        interactions=data.interactions,
        history_length=data.history_length,
        min_rating=data.min_rating,
        seed=drawing.seed,
    )
    evaluate(methods, FULL.name, data.items, out, settings, shown_command(arguments), sweeps)
