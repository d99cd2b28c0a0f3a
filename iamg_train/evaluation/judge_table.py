"""A judge's ranking as a terminal shows it."""

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from iamg_train.console import console, plain


def tell(results: Mapping) -> None:
    """results: what ranking.json holds."""
    console.print()
    console.print(_standings(results["methods"]))
    console.print()
    console.print(_duels(results["duels"]))
    answers, first = results["answers"], results["first_slot"]
    console.print(
        f"\n{results['users']} users, {results['cases']} cases; {answers['usable']} of {answers['wanted']} answers usable\n"
        f"the slot orders agree on two methods: {_share(results['order_consistency'])}\n"
        f"the first picture shown is ranked first: {_share(first)}, by chance {first['chance']:.1%}",
        markup=False,
        highlight=False,
    )
    for problem, count in answers["problems"].items():
        console.print(f"  {count} times: {plain(problem)}", markup=False, highlight=False)


def _standings(methods: Mapping[str, Mapping]) -> Table:
    table = Table("method", "mean rank", "ranked first", "strength (log)", show_edge=False)
    for name, standing in sorted(methods.items(), key=lambda x: -x[1]["strength"]["mean"]):
        rank, best = standing["mean_rank"], standing["best"]
        table.add_row(
            Text(plain(name)),
            _interval(rank, "{:.2f}") if rank else "",
            _share(best) if best else "",
            _interval(standing["strength"], "{:+.2f}"),
        )
    return table


def _duels(duels: list[Mapping]) -> Table:
    table = Table("method", "against", "won", "tied", "lost", "won + tied / 2", "p (Holm)", show_edge=False)
    for duel in duels:
        shares = (f"{duel[key]:.1%}" for key in ("won", "tied", "lost"))
        names = Text(plain(duel["one"])), Text(plain(duel["other"]))
        table.add_row(*names, *shares, _share(duel["preferred"]), f"{duel['p_holm']:.4f}")
    return table


def _share(estimate: Mapping[str, float]) -> str:
    return _interval(estimate, "{:.1%}")


def _interval(estimate: Mapping[str, float], form: str) -> str:
    mean, low, high = (form.format(estimate[end]) for end in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"
