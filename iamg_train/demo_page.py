"""The demo's page: one file, pictures embedded, that shows what each step found for each user."""

import base64
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from io import BytesIO
from pathlib import Path

from PIL import Image

TOKENS = 75  # CLIP's window without its start and end tokens

STYLE = """
:root { color-scheme: light dark; --ink: #1c1b22; --soft: #6a6775; --page: #f6f4ef; --card: #fff; --line: #e4e0d8;
  --accent: #b4472b; --tint: #fbe9e2; --second: #2d6a6a; --second-tint: #e0f0ef; }
@media (prefers-color-scheme: dark) { :root { --ink: #ece9f2; --soft: #a19db0; --page: #16151b; --card: #201e27;
  --line: #35323f; --accent: #f08a68; --tint: #3b2620; --second: #74c2bf; --second-tint: #1d3433; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: clamp(1.7rem, 5vw, 2.6rem); line-height: 1.15; margin: 0 0 .6rem; letter-spacing: -.02em; }
h2 { font-size: 1.5rem; margin: 0 0 .25rem; letter-spacing: -.01em; }
h3 { font-size: .8rem; text-transform: uppercase; letter-spacing: .09em; color: var(--soft); margin: 2rem 0 .7rem; }
p { margin: 0 0 .8rem; max-width: 46rem; }
.soft { color: var(--soft); }
.note { background: var(--tint); border-left: 4px solid var(--accent); padding: .8rem 1rem; border-radius: 0 8px 8px 0;
  margin: 1.4rem 0; max-width: none; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 1.6rem; margin-top: 1.6rem; }
figure { margin: 0; } img { width: 100%; height: auto; display: block; border-radius: 8px; }
figcaption { font-size: .85rem; margin-top: .4rem; line-height: 1.35; }
.row { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(112px, 1fr)); }
.pictures { display: grid; gap: 1.2rem; grid-template-columns: repeat(auto-fit, minmax(140px, 256px)); }
.columns { display: grid; gap: 1rem 2.2rem; grid-template-columns: repeat(auto-fit, minmax(290px, 1fr)); }
.columns h3 { margin-bottom: .3rem; }
.tag { display: inline-block; padding: .1rem .6rem; margin: 0 .3rem .35rem 0; border-radius: 99px; font-size: .88rem;
  background: var(--second-tint); color: var(--second); }
.tag.interest { background: var(--tint); color: var(--accent); }
.cut { text-decoration: line-through; opacity: .6; }
.text { font-size: 1.08rem; border-left: 3px solid var(--line); padding-left: 1rem; }
.text b { font-weight: 600; color: var(--second); } .text b.interest { color: var(--accent); }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
td, th { padding: .3rem .5rem .3rem 0; text-align: left; vertical-align: middle; }
th { font-weight: 500; color: var(--soft); font-size: .8rem; }
td:first-child { width: 42px; } td img { width: 34px; border-radius: 4px; } .number { width: 6.5rem; white-space: nowrap; }
.bar { display: inline-block; height: .5rem; border-radius: 99px; background: var(--second); margin-right: .4rem; }
.bar.attention { background: var(--accent); }
footer { margin-top: 2.5rem; font-size: .85rem; color: var(--soft); }
"""


@dataclass(frozen=True)
class Drawing:
    """The pictures drawn at one interest weight, as PNG files."""

    interest_weight: float
    pictures: Sequence[bytes]


@dataclass(frozen=True)
class UserResult:
    """What the nodes found for one user, as they put it in ComfyUI's history, and what was drawn."""

    history: dict  # IAMGUserHistory: user_id, objective, history
    rewrite: dict  # InterestRewrite: text_kept, text_cut, item_tags, interest_tags, ..., tokens
    fused: dict  # IRAFuse: text and image, each with item_id, title, similarity, attention
    drawings: Sequence[Drawing]
    thumbnail: Callable[[str], Image.Image]  # of an item


def write_page(path: Path, results: Sequence[UserResult], pool_size: int, random_weights: bool) -> None:
    """Write the page for these users, whole or not at all."""
    objectives = list(dict.fromkeys(result.history["objective"]["title"] for result in results))
    users = _listed([result.history["user_id"] for result in results])
    body = [
        f"<h1>{_listed(objectives)}, redrawn for {users}</h1>",
        f"<p class='soft'>I-AM-G rewrites an item's text with the interests of one user, retrieves what is near among "
        f"{pool_size} items, fuses it by attention, and lets it steer Stable Diffusion with an interest weight λ2. "
        f"The same noise was used for every picture of this page.</p>",
        _about_weights(results, random_weights),
        *map(_user_section, results),
        "<footer>Made by ComfyUI-IAMG with <code>iamg-train demo</code>. Similarity is the cosine of embeddings; "
        "attention is the share of the mass that an item got in its stage of Interest Retrieve Attention.</footer>",
    ]
    page = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>I-AM-G: {_listed(objectives)} for {users}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>"
    )
    beside = path.with_name(path.name + ".part")
    beside.write_text(page, encoding="utf-8")
    os.replace(beside, path)


def _about_weights(results: Sequence[UserResult], random_weights: bool) -> str:
    if random_weights:
        return (
            "<p class='note'><b>The weights are random, so the pictures are texture.</b> They show that every step ran and "
            "that the interest weight steers the drawing, and nothing about quality. Histories, tags, rewritten texts and "
            "the retrieval are real: the random encoders tell words and colours apart.</p>"
        )
    if not results[0].fused["trained"]:
        return (
            "<p class='note'>This adapter holds no trained IRA weights: interests are fused by its untrained start.</p>"
        )
    return ""


def _user_section(result: UserResult) -> str:
    history, objective = result.history, result.history["objective"]
    thumbnail = partial(_thumbnail, result)
    liked = "".join(
        f"<figure>{thumbnail(item)}<figcaption>{escape(item['title'])}</figcaption></figure>"
        for item in history["history"]
    )
    return f"""<section>
<h2>{escape(history["user_id"])}</h2>
<p class="soft">What the last {len(history["history"])} liked items have in common is what is redrawn into
<b>{escape(objective["title"])}</b>.</p>
<h3>History, newest first</h3><div class="row">{liked}</div>
<h3>Interests of the history</h3><div>{_tags(result.rewrite, "interest")}</div>
<h3>The rewritten text</h3>{_rewritten(result.rewrite)}
<div class="columns">
<div><h3>Nearest texts</h3>{_neighbours(result.fused["text"], thumbnail)}</div>
<div><h3>Nearest pictures</h3>{_neighbours(result.fused["image"], thumbnail)}</div>
</div>
<h3>The pictures</h3><div class="pictures">
<figure>{thumbnail(objective)}<figcaption>the item itself</figcaption></figure>{_drawings(result.drawings)}</div>
</section>"""


def _tags(rewrite: dict, kind: str) -> str:
    kept = [f"<span class='tag {kind}'>{escape(tag)}</span>" for tag in rewrite[f"{kind}_tags"]]
    cut = [f"<span class='tag {kind} cut'>{escape(tag)}</span>" for tag in rewrite[f"{kind}_tags_cut"]]
    return "".join([*kept, *cut]) or "<span class='soft'>none</span>"


def _rewritten(rewrite: dict) -> str:
    """T*, the tags in it marked, then what did not fit into CLIP's window."""
    marked = escape(rewrite["text"].removeprefix(rewrite["text_kept"]))
    for kind in ("item", "interest"):
        tags = escape(", ".join(rewrite[f"{kind}_tags"]))
        if tags:
            marked = marked.replace(tags, f"<b class='{kind}'>{tags}</b>", 1)
    text = escape(rewrite["text_kept"]) + marked
    cut = [part for part in (rewrite["text_cut"], ", ".join(rewrite["item_tags_cut"])) if part]
    left_out = f"<p class='soft'>Cut: <span class='cut'>{escape('; '.join(cut))}</span></p>" if cut else ""
    return f"<p class='text'>{text}</p><p class='soft'>{rewrite['tokens']} of {TOKENS} tokens.</p>{left_out}"


def _neighbours(found: Sequence[dict], thumbnail: Callable[[dict], str]) -> str:
    most = max(item["attention"] for item in found)
    rows = "".join(
        f"<tr><td>{thumbnail(item)}</td><td>{escape(item['title'])}</td>"
        f"<td class='number'>{_bar(max(item['similarity'], 0), '')}{item['similarity']:.2f}</td>"
        f"<td class='number'>{_bar(item['attention'] / most, 'attention')}{item['attention']:.0%}</td></tr>"
        for item in found
    )
    return f"<table><tr><th></th><th>item</th><th>similarity</th><th>attention</th></tr>{rows}</table>"


def _bar(share: float, kind: str) -> str:
    return f"<span class='bar {kind}' style='width:{3.2 * share:.2f}rem'></span>"


def _drawings(drawings: Sequence[Drawing]) -> str:
    return "".join(
        f"<figure><img src='{_embedded(picture, 'png')}' alt='drawn with interest weight {drawing.interest_weight:g}'>"
        f"<figcaption>interest weight λ2 = {drawing.interest_weight:g}</figcaption></figure>"
        for drawing in drawings
        for picture in drawing.pictures
    )


def _thumbnail(result: UserResult, item: dict) -> str:
    file = BytesIO()
    result.thumbnail(item["item_id"]).save(file, "JPEG", quality=85)
    return f"<img src='{_embedded(file.getvalue(), 'jpeg')}' alt='{escape(item['title'])}' loading='lazy'>"


def _embedded(file: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}"


def _listed(words: Sequence[str]) -> str:
    return escape(" and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words))
