"""A run's summary: one HTML file that needs no other, with its curves, grids, settings and weights."""

import base64
import csv
import json
import math
import tomllib
from html import escape
from pathlib import Path

from iamg_train.charts import ACCENT, SECOND, Curve, line_chart
from iamg_train.export import WEIGHTS
from iamg_train.held_out import CERTAIN, HeldOut
from iamg_train.page_style import STYLE
from iamg_train.prepare import SKIPPED
from iamg_train.prepared import MANIFEST, TEST, TRAIN
from iamg_train.run_log import HELD_OUT, LOG
from iamg_train.watch import GRIDS
from iamg_train.whole_files import write_whole

SUMMARY, CONFIG = "summary.html", "config.toml"  # in a run's folder
SMOOTHED_SHARE = 0.03  # of the curve, that a smoothed loss averages over

OWN_STYLE = """
.facts { display: flex; flex-wrap: wrap; gap: 1rem 2.6rem; margin: 1.4rem 0 0; }
.facts dt { font-size: .8rem; color: var(--soft); } .facts dd { margin: 0; font-size: 1.4rem; letter-spacing: -.01em; }
.charts { display: grid; gap: 1.4rem 2rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); }
.charts h3 { margin: .8rem 0 .4rem; }
svg { width: 100%; height: auto; display: block; }
[hidden] { display: none; }
input[type=range] { width: 100%; accent-color: var(--accent); margin: .3rem 0 1rem; }
summary { cursor: pointer; }
"""

CHOOSE_GRID = """
const slider = document.getElementById("grid"), grids = [...document.querySelectorAll("img.grid")];
slider.addEventListener("input", () => {
  grids.forEach((grid, place) => { grid.hidden = place !== Number(slider.value); });
  document.getElementById("shown").textContent = grids[slider.value].dataset.step;
});
"""

Rows = dict[str, list[float]]  # the columns of a log


def write_summary(run: Path) -> Path:
    """Write <run>/summary.html from what lies in the run's folder, whole or not at all; what is missing is left out."""
    log, held_out = _read_log(run / LOG), _read_log(run / HELD_OUT)
    name = escape(run.resolve().name)
    body = "".join(
        [
            f"<h1>{name}</h1><p class='soft'>A fine-tuning run of I-AM-G.</p>",
            _facts(log, held_out),
            _verdict(held_out),
            _section("Losses", _charts(log, held_out)),
            _section("Held-out users", _grids(run / GRIDS)),
            _section("Data", _data(run / CONFIG)),
            _section("Weights", _weights(run / WEIGHTS)),
            _section("Settings", _settings(run / CONFIG)),
            "<footer>Made by ComfyUI-IAMG with <code>iamg-train fit</code>.</footer>",
        ]
    )
    page = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>I-AM-G: {name}</title><style>{STYLE}{OWN_STYLE}</style></head><body><main>{body}</main></body></html>"
    )
    path = run / SUMMARY
    write_whole(path, page.encode())
    return path


def _read_log(path: Path) -> Rows:
    """The columns of a CSV of numbers; a row that was cut short by a crash is passed over."""
    if not path.is_file():
        return {}
    rows = []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        for row in reader:
            try:
                rows.append({column: float(row[column]) for column in reader.fieldnames})
            except (TypeError, ValueError):
                continue
    return {column: [row[column] for row in rows] for column in reader.fieldnames} if rows else {}


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>" if content else ""


def _facts(log: Rows, held_out: Rows) -> str:
    facts = []
    if log:
        facts += [("steps", f"{log['step'][-1]:,.0f}"), ("loss at the end", f"{_smoothed(log['loss'])[-1]:.4f}")]
    if held_out:
        facts.append(("held-out loss", f"{held_out['held_out'][-1]:.4f}"))
    if log:
        facts.append(("pictures a second", f"{_middle(log['samples_per_second']):.3g}"))
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    return f"<dl class='facts'>{items}</dl>" if items else ""


def _verdict(held_out: Rows) -> str:
    if not held_out:
        return ""
    verdict = HeldOut(*(held_out[column][-1] for column in HeldOut._fields)).verdict()
    return f"<p class='note'>{escape(verdict)}</p>"


def _charts(log: Rows, held_out: Rows) -> str:
    charts: list[tuple[str, str]] = []
    if log:
        steps, loss = log["step"], log["loss"]
        curves = [Curve("each logged step", steps, loss, SECOND, faint=True)]
        curves.append(Curve("smoothed", steps, _smoothed(loss), SECOND))
        charts.append(("Training loss", line_chart(curves, "loss")))
        rate = [Curve("learning rate", steps, log["learning_rate"], SECOND)]
        charts.append(("Learning rate", line_chart(rate, "learning rate")))
    if held_out:
        steps = held_out["step"]
        curves = [
            Curve("own history", steps, held_out["held_out"], SECOND),
            Curve("another user's history", steps, held_out["control"], ACCENT),
        ]
        charts.append(("Held-out loss, on the same noise every time", line_chart(curves, "loss")))
        band = [CERTAIN * error if math.isfinite(error) else 0.0 for error in held_out["standard_error"]]
        curves = [Curve("difference", steps, held_out["difference"], ACCENT, band=band)]
        title = f"How much worse another user's history is, ± {CERTAIN:g} standard errors"
        charts.append((title, line_chart(curves, "difference in loss", zero=True)))
    figures = "".join(f"<figure><h3>{escape(title)}</h3>{svg}</figure>" for title, svg in charts)
    return f"<div class='charts'>{figures}</div>" if figures else ""


def _grids(folder: Path) -> str:
    """The newest grid, and a slider to those before it; without scripts all of them."""
    files = sorted(folder.glob("step_*.png"))
    if not files:
        return ""
    steps = [f"{int(file.stem.removeprefix('step_')):,}" for file in files]
    newest = len(files) - 1
    pictures = "".join(
        f"<img class='grid' data-step='{step}' alt='pictures at step {step}' "
        f"src='data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}'{'' if last else ' hidden'}>"
        for last, step, file in zip([False] * newest + [True], steps, files, strict=True)
    )
    slider = (
        f"<label for='grid'>Step <output id='shown'>{steps[-1]}</output></label>"
        f"<input id='grid' type='range' min='0' max='{newest}' value='{newest}'>"
    )
    script = (
        f"<noscript><style>img.grid {{ display: block !important; }}</style></noscript><script>{CHOOSE_GRID}</script>"
    )
    return (slider if newest else f"<p>Step {steps[0]}</p>") + pictures + (script if newest else "")


def _data(config: Path) -> str:
    """How many entries there were, and what was left out of them."""
    try:
        manifest = Path(tomllib.loads(config.read_text(encoding="utf-8"))["data"]["prepared"]) / MANIFEST
        counts = json.loads(manifest.read_bytes())["counts"]
    except (OSError, ValueError, KeyError):
        return ""
    skipped = [f"{counts[name]:,} {what}" for name, what in SKIPPED.items() if counts.get(name)]
    return (
        f"<p>{counts[TRAIN]:,} users to train on, {counts[TEST]:,} held out.</p>"
        f"<p>Left out: {escape(', '.join(skipped) or 'nothing')}.</p>"
    )


def _weights(path: Path) -> str:
    if not path.is_file():
        return ""
    size = f"{path.stat().st_size / 2**20:.1f} MiB"
    code = (
        f'pipeline.load_ip_adapter("{path.parent.as_posix()}", subfolder="", weight_name="{path.name}",\n'
        "                         image_encoder_folder=None)"
    )
    return (
        f"<p><code>{escape(str(path))}</code>, {size}.</p>"
        "<p>ComfyUI: copy it into <code>models/ipadapter/</code> and choose it in <b>Load Adapter (I-AM-G)</b>. "
        "diffusers, without the interest branch:</p>"
        f"<pre>{escape(code)}</pre>"
    )


def _settings(config: Path) -> str:
    if not config.is_file():
        return ""
    text = escape(config.read_text(encoding="utf-8"))
    return f"<details><summary><code>{CONFIG}</code>, every setting of this run</summary><pre>{text}</pre></details>"


def _smoothed(values: list[float]) -> list[float]:
    """The mean of each value and those before it within a share of the curve."""
    window = max(round(SMOOTHED_SHARE * len(values)), 1)
    return [sum(values[max(n - window, 0) : n]) / min(n, window) for n in range(1, len(values) + 1)]


def _middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
