"""`iamg-train evaluate`: methods' pictures measured, compared, and reported."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress
from rich.table import Column, Table
from rich.text import Text

from iamg_train.console import console, plain, progress_bar, tell_problems
from iamg_train.evaluation.catalogue import find_histories, read_catalogue
from iamg_train.evaluation.evaluation_metrics import Metrics, choose_metrics
from iamg_train.evaluation.measuring import Advance, measure_items, measure_pictures
from iamg_train.evaluation.method_arguments import methods_of
from iamg_train.evaluation.methods import SHUFFLED, Method, in_common
from iamg_train.evaluation.metric_settings import MetricSettings, metric_settings_of
from iamg_train.evaluation.results import RESULTS, Sweeps, summarise, write_results
from iamg_train.evaluation.scores import SCORES, ScoreFile
from iamg_train.shown_command import shown_command


def run(arguments: Namespace) -> int:
    methods = methods_of(arguments)
    reference = arguments.reference or methods[0].group
    settings, command = metric_settings_of(arguments), shown_command(arguments)
    evaluate(methods, reference, arguments.items, arguments.out, settings, command)
    return 0


def evaluate(
    methods: Sequence[Method],
    reference: str,
    items: Path,
    out: Path,
    settings: MetricSettings,
    command: str,
    sweeps: Sweeps | None = None,
) -> dict:
    """Measures what all methods have pictures of, and writes scores, results and the report; gives the results.

    What is in `out` already is not computed again. ValueError where the reference is no method, the methods have nothing
    in common, or a model cannot be used.
    """
    own = next((method for method in methods if method.group == reference), None)  # of several runs the first
    if own is None:
        names = ", ".join(dict.fromkeys(method.group for method in methods))
        raise ValueError(f"the reference '{reference}' is not among the methods {names}; name one of them")
    pairs = set(in_common(methods))
    left_out = [
        (x.name, f"{len(x.pairs()) - len(pairs)} users and objectives") for x in methods if set(x.pairs()) > pairs
    ]
    tell_problems("methods have pictures that others have not, and that are left out", left_out)
    methods, own = [method.only(pairs) for method in methods], own.only(pairs)

    catalogue = read_catalogue(items)
    histories = find_histories(own, catalogue, settings)
    metrics = choose_metrics(settings, catalogue, histories, methods, out)
    metrics.warnings += [f"{what} of '{name}' are left out: not every method has them" for name, what in left_out]
    if missing := len(pairs) - len(histories):
        metrics.warnings.append(f"{missing} of {len(pairs)} users and objectives have no history that is known")
    tell_problems("warnings", [("evaluation", warning) for warning in metrics.warnings])
    with ScoreFile(out / SCORES) as scores, progress_bar() as bar:
        _measure(methods, own, metrics, scores, bar)
    results = summarise(
        scores.finish(),
        metrics.definitions(),
        methods,
        reference,
        settings.seed,
        command=command,
        items=items,
        interactions=settings.interactions,
        sweeps=sweeps,
    )
    results["warnings"] = metrics.warnings
    write_results(out / RESULTS, results)
    _write_report(results, out, items)
    _tell(results)
    return results


def _measure(methods: Sequence[Method], own: Method, metrics: Metrics, scores: ScoreFile, bar: Progress) -> None:
    def stage(what: str, method: Method) -> Advance:
        task = bar.add_task(what, total=len(method.shots))
        return lambda count: bar.advance(task, count)

    for method in methods:
        measure_pictures(method, metrics.of_pictures, scores, stage(f"measuring {plain(method.name)}", method))
        measure_items(method, metrics.of_items, scores, stage(f"items of {plain(method.name)}", method))
    if metrics.of_shuffled:
        measure_pictures(own, metrics.of_shuffled, scores, stage(SHUFFLED, own), SHUFFLED)


def _write_report(results: dict, out: Path, items: Path) -> None:
    from iamg_train.evaluation.report import write_report

    write_report(results, out, items)
    console.print(f"evaluation: {out / 'report.html'}", markup=False, soft_wrap=True)


def _tell(results: dict) -> None:
    methods = list(dict.fromkeys(method for of_metric in results["estimates"].values() for method in of_metric))
    table = Table("", *(Column(Text(plain(name))) for name in methods), show_edge=False)
    for name, of_metric in results["estimates"].items():
        table.add_row(name, *(_estimate(of_metric.get(method)) for method in methods))
    console.print(table)


def _estimate(estimate: dict | None) -> str:
    if estimate is None or estimate["mean"] is None:
        return ""
    interval = f" ({estimate['low']:z.3f} to {estimate['high']:z.3f})" if estimate["low"] is not None else ""
    return f"{estimate['mean']:z.3f}{interval}"
