"""The evaluation as a section of a Markdown page: tables, plots, and what the intervals say."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from iamg_train.evaluation.statistics import LEVEL, RESAMPLES, sign
from iamg_train.mini.evaluation_plots import Example, write_plots
from iamg_train.mini.measures import FIDELITY, KNOWN, MEASURES, NEW, OTHER, OWN, SSIM, SUBJECT, of_loved, of_objectives
from iamg_train.mini.variants import FULL, HISTORY, ITEM, STOCK, SWEEPS, TEXTS, TRAINED, TRAINED_PAPER
from iamg_train.mini.world import LOVABLE
from iamg_train.whole_files import write_whole

BEGIN, END = "<!-- evaluation:begin -->", "<!-- evaluation:end -->"
ADAPTERS = {STOCK: "stock IP-Adapter", TRAINED: "fine-tuned", TRAINED_PAPER: "fine-tuned without leave-one-out"}
PICTURES = {
    ITEM: "nearest to the item's picture",
    TEXTS: "the pictures of Φ's items",
    HISTORY: "the history's pictures",
}
COMPARED = (FIDELITY, OWN, SUBJECT, SSIM)  # with the full method, in words

HOW = """\
Read by a classifier that was trained on rendered posters only. **{own}** is the share of the values that a user loves
which their pictures show, **{other}** the same share for pictures drawn of the same item from the same noise with
another user's history, and **{fidelity}** the first minus the second: what of the picture is owed to this user. The
users are held out, and so are the items, which the users have not met. {users} users with {seeds} pictures each,
{sweep_seeds} at each point of a sweep; {steps} DDIM steps, guidance {guidance_scale:g}. A user's pictures are averaged
first, then the users; in brackets {level:.0%} intervals by bootstrap over users ({resamples:,} resamples, the same
ones for every number, so that differences are paired). What does not depend on the history has an interest fidelity of
0 by construction."""
MOVES = """\
How far z̃ moves when another user's history takes the place of the own (squared distances; from one objective to
another it moves by 1), by whose pictures Ψ is:"""
NO_PAPER = """\
No adapter was fine-tuned without leave-one-out: "without leave-one-out" changes what is retrieved, not the weights."""


def check_page(page: Path) -> None:
    """ValueError where the page has no place for the section."""
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise ValueError(f"{page} has no place for the evaluation; put the lines {BEGIN} and {END} where it belongs")


def write_report(page: Path, results: Mapping, examples: Sequence[Example]) -> None:
    """Writes what stands between the page's markers anew, and the plots into a folder of the page's name."""
    plots = write_plots(page.parent / page.stem, results, examples)
    section = _section(results, [f"{page.stem}/{name}" for name in plots])
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    write_whole(page, f"{before}{BEGIN}\n{section}\n{END}{after}".encode())


def _section(results: Mapping, plots: Sequence[str]) -> str:
    variants, settings = results["variants"], results["settings"]
    names = {"own": MEASURES[1], "other": MEASURES[2], "fidelity": FIDELITY}
    parts = [
        f"Made by\n\n```\n{results['command']}\n```",
        _paragraph(HOW.format(**names, **settings, level=LEVEL, resamples=RESAMPLES)),
        _reader_table(results["reader"]),
        "**How each is drawn.**",
        _recipes(results["drawn"]) + ("" if TRAINED_PAPER in results["weights"] else f"\n\n{NO_PAPER}"),
        "**What is measured.**",
        _table("", MEASURES, {x: _estimates(y["estimates"], MEASURES) for x, y in variants.items()}),
        f"![{FIDELITY} and what is left of the item, by variant]({plots[0]})",
        f"**The same minus the {FULL.name}.**",
        _table("", MEASURES, _differences(variants)),
        "**What the intervals say.**",
        "\n".join(f"- {sentence}" for sentence in _verdicts(results)),
        f"![{FIDELITY} and what is left of the item, over the sweeps]({plots[1]})",
        f"![The first users' pictures under every variant]({plots[2]})",
    ]
    for sweep in SWEEPS:
        points = results["sweeps"][sweep.symbol]
        parts += [
            f"**{sweep.symbol}** (the full method has {sweep.full:g}).",
            _table(sweep.symbol, MEASURES, {x: _estimates(y["estimates"], MEASURES) for x, y in points.items()}),
            f"Minus {sweep.symbol} = {sweep.full:g}:",
            _table(sweep.symbol, MEASURES, _differences(points)),
        ]
    loved = [of_loved(name) for name in LOVABLE]
    retrieved = (FIDELITY, OWN, OTHER)
    parts += [
        "**What IRA is given.** How much of what a user loves is on the posters of their history and on those retrieved:",
        _table("", retrieved, {x: _estimates(y["estimates"], retrieved) for x, y in results["loved"].items()}),
        _paragraph(MOVES),
        _table("", PICTURES.values(), {ADAPTERS[x]: _estimates(y, PICTURES) for x, y in results["moves"].items()}),
        f"**{FIDELITY.capitalize()} by what is loved**, each of the users who love a value of it.",
        _table("", LOVABLE, {x: _estimates(y["estimates"], loved) for x, y in variants.items()}),
        f"**The {FULL.name} by the objective**: whether its subject and colour meet on posters that anything was trained on.",
        _table("", MEASURES, {kind: _objectives(variants[FULL.name]["estimates"], kind) for kind in (KNOWN, NEW)}),
        "Weights: " + "; ".join(f"{x} `{y['file']}` {y['xxh3_128']}" for x, y in results["weights"].items()) + ".",
    ]
    return "\n\n".join(parts)


def _verdicts(results: Mapping) -> Iterable[str]:
    """Sentences that follow from the intervals alone."""
    variants = results["variants"]
    signs = {name: sign(x["estimates"][FIDELITY]) for name, x in variants.items()}
    yield f"{FIDELITY}: " + _grouped(signs, "above 0", "not different from 0", "below 0")
    for measure in COMPARED:
        signs = {name: sign(x["differences"][measure]) for name, x in variants.items() if "differences" in x}
        yield f"{measure}, against the {FULL.name}: " + _grouped(signs)
    for sweep in SWEEPS:
        points = results["sweeps"][sweep.symbol]
        for measure in (FIDELITY, SUBJECT):
            best = max(points, key=lambda value: points[value]["estimates"][measure]["mean"])
            signs = {value: sign(x["differences"][measure]) for value, x in points.items() if "differences" in x}
            against = f"against {sweep.symbol} = {sweep.full:g}"
            yield f"{measure} over {sweep.symbol}: greatest at {best}; {against} " + _grouped(signs)


def _grouped(signs: Mapping[str, int], above: str = "higher", same: str = "not different", below: str = "lower") -> str:
    """The names by what their intervals say."""
    words = {1: above, 0: same, -1: below}
    groups = {words[x]: [name for name in signs if signs[name] == x] for x in words}
    return "; ".join(f"*{word}* {', '.join(names)}" for word, names in groups.items() if names) + "."


def _reader_table(reader: Mapping[str, Mapping[str, float]]) -> str:
    attributes = list(next(iter(reader.values())))
    rows = {f"{name} posters": [f"{shares[x]:.2%}" for x in attributes] for name, shares in reader.items()}
    return _table("the classifier's accuracy", attributes, rows)


def _recipes(drawn: Mapping[str, Mapping]) -> str:
    rows = {}
    for name, x in drawn.items():
        picture = "foreground" if x["foreground"] else "whole picture"
        rows[name] = (
            "T*" if x["rewritten"] else "T_i",
            picture if x["image_weight"] else "none",
            f"{x['interest_weight']:g}",
            "training items" if x["leave_one_out"] else "all items, the objective too",
            PICTURES[x["pictures_of"]] if x["interest_weight"] else "none",
            ADAPTERS[x["weights"]],
        )
    return _table("", ("text", "picture", "λ2", "retrieved from", "Ψ", "adapter"), rows)


def _estimates(estimates: Mapping[str, Mapping[str, float]], measures: Iterable[str], form: str = ".3f") -> list[str]:
    cells = []
    for name in measures:
        x = estimates.get(name)
        cells.append(f"{x['mean']:{form}} [{x['low']:{form}}, {x['high']:{form}}]" if x else "-")
    return cells


def _differences(compared: Mapping[str, Mapping]) -> dict[str, list[str]]:
    return {x: _estimates(y["differences"], MEASURES, "+.3f") for x, y in compared.items() if "differences" in y}


def _objectives(estimates: Mapping[str, Mapping[str, float]], kind: str) -> list[str]:
    return _estimates(estimates, [of_objectives(name, kind) for name in MEASURES])


def _table(corner: str, head: Iterable[str], rows: Mapping[str, Iterable[str]]) -> str:
    head = [corner, *head]
    lines = [head, ["---"] * len(head), *([name, *cells] for name, cells in rows.items())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _paragraph(text: str) -> str:
    return " ".join(text.split())
