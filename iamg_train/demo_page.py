"""The demo's page: one file, pictures embedded, that shows what the pack does, and then how."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path

from PIL import Image

from iamg_train.page_pictures import image_tag, small_file
from iamg_train.page_style import STYLE
from iamg_train.whole_files import write_whole

TOKENS = 75  # CLIP's window without its start and end tokens
LARGE, SMALL = 512, 256  # pixels, the longest side of an item's picture

OWN_STYLE = """
main { max-width: 1180px; }
.lead { font-size: 1.15rem; max-width: 52rem; }
.pixels { image-rendering: pixelated; }
.story { display: grid; grid-template-columns: minmax(0, 1fr) auto minmax(0, 270px) auto minmax(0, 270px); gap: 0 1.4rem;
  padding: 1.2rem 1.6rem; }
.story > * { align-self: start; } .story h2, .story figcaption b { font-size: 1.25rem; line-height: 1.3; }
.story h2, .story figcaption { margin: 0 0 .6rem; } .story figcaption { order: -1; }
.story figure { display: flex; flex-direction: column; }
.liked { display: grid; gap: .5rem; grid-template-columns: repeat(3, minmax(0, 1fr));
  max-width: 21rem; }
.arrow { align-self: center; font-size: 2.2rem; color: var(--accent); }
.found { grid-column: 1 / -1; margin: 1rem 0 0; max-width: none; }
.tag { display: inline-block; padding: .05rem .6rem; margin: 0 .25rem .25rem 0; border-radius: 99px; font-size: .9rem;
  background: var(--second-tint); color: var(--second); }
.tag.interest, mark.interest { background: var(--tint); color: var(--accent); }
mark { background: var(--second-tint); color: var(--second); border-radius: 4px; padding: 0 .2em; }
.cut { text-decoration: line-through; opacity: .6; }
.columns { display: grid; gap: .5rem 2.2rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); }
.columns h3, .strip-name { margin: 1.2rem 0 .6rem; } h4 { margin: 1.1rem 0 .2rem; font-size: .95rem; }
.strip { display: grid; gap: .9rem; grid-template-columns: repeat(6, minmax(0, 1fr)); }
.pair { display: grid; gap: .9rem; grid-template-columns: repeat(2, minmax(0, 1fr)); max-width: 420px; }
.usual img { outline: 3px solid var(--accent); outline-offset: 2px; }
td:first-child { width: 46px; } td img { width: 38px; border-radius: 4px; } .number { width: 6.2rem; white-space: nowrap; }
.bar { display: inline-block; height: .5rem; border-radius: 99px; background: var(--second); margin-right: .4rem; }
.bar.attention { background: var(--accent); }
@media (max-width: 760px) {
  section { padding: 1.1rem; }
  .story { grid-template-columns: minmax(0, 1fr) auto minmax(0, 1fr); gap: .8rem .5rem; }
  .story > div { grid-column: 1 / -1; } .story > div + .arrow { display: none; }
  .liked { grid-template-columns: repeat(5, minmax(0, 1fr)); gap: .35rem; max-width: none; }
  .story figcaption b { font-size: 1rem; } .arrow { font-size: 1.4rem; }
  .strip { grid-template-columns: repeat(3, minmax(0, 1fr)); }
}
"""

HOW_TO = """
<p>With your own items and the real weights of Stable Diffusion 1.5:</p>
<pre>iamg-train demo --items my_posters --interactions my_posters/interactions.csv \\
    --checkpoint v1-5-pruned-emaonly-fp16.safetensors \\
    --clip-vision CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors --ip-adapter ip-adapter_sd15.safetensors</pre>
<p><code>my_posters</code> holds pictures and a <code>metadata.jsonl</code> (<code>file_name</code>, <code>item_id</code>,
<code>title</code>, <code>text</code>); <code>interactions.csv</code> says who liked what (<code>user_id</code>,
<code>item_id</code>, <code>rating</code>, <code>timestamp</code>).</p>
<p>In ComfyUI, open a workflow from <b>Templates → Extensions → ComfyUI-IAMG</b>: <code>mini_poster</code> is what drew
this page, <code>personalise_from_pictures</code> needs no catalogue, only four pictures that somebody likes.
<code>iamg-train fit</code> trains the adapter on what your own users liked.</p>
"""

Weights = tuple[float, float]  # λ1, λ2
Picture = Callable[[str], Image.Image]  # of an item


@dataclass(frozen=True)
class Result:
    """What the nodes told of one person, as they put it in ComfyUI's history, and what was drawn, as PNG files."""

    name: str
    told: dict[str, dict]  # by node: IAMGUserHistory, InterestRewrite, IRAFuse
    usual: Weights  # the workflow's own
    pictures: Mapping[Weights, bytes]
    other_name: str
    other_picture: bytes | None  # with the other's history in place of the own, at the usual weights

    @property
    def objective(self) -> dict:
        return self.told["IAMGUserHistory"]["objective"]

    @property
    def main_picture(self) -> bytes:
        return self.pictures[self.usual]


@dataclass(frozen=True)
class Page:
    results: Sequence[Result]
    pool_size: int
    drawn: bool  # the catalogue is the demo's own
    mini: bool  # so are the weights


def write_page(path: Path, page: Page, picture: Picture) -> None:
    """Write the page, whole or not at all."""
    results, names = page.results, _listed([result.name for result in page.results])
    title = f"One poster, redrawn for {names}" if page.drawn else f"{_titles(results)}, redrawn for {names}"
    body = [
        f"<h1>{title}</h1>",
        "<p class='lead'>I-AM-G looks at what somebody liked, and redraws another picture for that person. "
        "All drawings here start from the same noise; only the person is another.</p>",
        *(_story(result, picture) for result in results),
        _untrained(results),
        _section(
            "The text, rewritten",
            "The picture is drawn from words. I-AM-G adds the <mark>item's own tags</mark> and "
            "<mark class='interest'>the interests that the liked items show</mark>.",
            _columns(results, lambda result: _rewritten(result.told["InterestRewrite"])),
        ),
        _section(
            "What else counts",
            f"The rewritten text and the item's picture look up what is near among {page.pool_size:,} items. Attention "
            "decides how much each of these adds to the drawing.",
            _columns(results, lambda result: _both_neighbours(result.told["IRAFuse"], picture)),
        ),
        _sweep(
            results,
            picture,
            1,
            "More or less of what was looked up",
            "λ2 (<code>interest_weight</code>) is how much the looked-up items add; the rewritten text counts in all "
            "of these. The paper found 0.1 to 0.3 best.",
        ),
        _sweep(
            results,
            picture,
            0,
            "More or less of the text",
            "λ1 (<code>text_weight</code>) is how much the rewritten text says. At 0 only the item's picture and the "
            "looked-up items speak.",
        ),
        _swapped(results, picture),
        _section("With your own pictures", "", HOW_TO),
        f"<footer>{_footer(page)}</footer>",
    ]
    html = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>I-AM-G: {title}</title><style>{STYLE}{OWN_STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>"
    )
    write_whole(path, html.encode())


def _story(result: Result, picture: Picture) -> str:
    """The first look: what was liked, the item, and the item redrawn."""
    name, title = escape(result.name), escape(result.objective["title"])
    liked = "".join(_item(item, picture, SMALL) for item in result.told["IAMGUserHistory"]["history"])
    tags = _tags(result.told["InterestRewrite"]["interest_tags"], "interest")
    return f"""<section class="story" aria-label="{name}">
<div><h2>What {name} liked</h2><div class="liked">{liked}</div><p class="found">Interests found: {tags}</p></div>
<span class="arrow" aria-hidden="true">→</span>
<figure>{_item(result.objective, picture, LARGE)}<figcaption><b>{title}</b></figcaption></figure>
<span class="arrow" aria-hidden="true">→</span>
<figure>{_drawn(result.main_picture, f"{title}, redrawn for {name}")}<figcaption><b>Redrawn for {name}</b></figcaption></figure>
</section>"""


def _untrained(results: Sequence[Result]) -> str:
    if results[0].told["IRAFuse"]["trained"]:
        return ""
    return "<p class='note'>This adapter holds no trained IRA weights: interests are fused by its untrained start.</p>"


def _section(title: str, about: str, content: str) -> str:
    told = f"<p class='soft'>{about}</p>" if about else ""
    return f"<section><h2>{title}</h2>{told}{content}</section>"


def _columns(results: Sequence[Result], render: Callable[[Result], str]) -> str:
    columns = "".join(f"<div><h3>{escape(result.name)}</h3>{render(result)}</div>" for result in results)
    return f"<div class='columns'>{columns}</div>"


def _rewritten(rewrite: dict) -> str:
    """T*, the tags in it marked, then what did not fit into CLIP's window."""
    marked = escape(rewrite["text"].removeprefix(rewrite["text_kept"]))
    for kind in ("item", "interest"):
        tags = escape(", ".join(rewrite[f"{kind}_tags"]))
        if tags:
            marked = marked.replace(tags, f"<mark class='{kind}'>{tags}</mark>", 1)
    cut = [part for part in (rewrite["text_cut"], *rewrite["item_tags_cut"], *rewrite["interest_tags_cut"]) if part]
    left_out = f" Cut: <span class='cut'>{escape(', '.join(cut))}</span>" if cut else ""
    return (
        f"<p>{escape(rewrite['text_kept'])}{marked}</p>"
        f"<p class='soft'>{rewrite['tokens']} of {TOKENS} tokens.{left_out}</p>"
    )


def _both_neighbours(fused: dict, picture: Picture) -> str:
    return (
        f"<h4>Near to the text</h4>{_neighbours(fused['text'], picture)}"
        f"<h4>Near to the picture</h4>{_neighbours(fused['image'], picture)}"
    )


def _neighbours(found: Sequence[dict], picture: Picture) -> str:
    most = max(item["attention"] for item in found)
    rows = "".join(
        f"<tr><td>{_item(item, picture, SMALL)}</td><td>{escape(item['title'])}</td>"
        f"<td class='number'>{_bar(max(item['similarity'], 0), '')}{item['similarity']:.2f}</td>"
        f"<td class='number'>{_bar(item['attention'] / most, 'attention')}{item['attention']:.0%}</td></tr>"
        for item in found
    )
    heads = "".join(f"<th scope='col'>{name}</th>" for name in ("", "item", "similarity", "attention"))
    return f"<table><tr>{heads}</tr>{rows}</table>"


def _bar(share: float, kind: str) -> str:
    return f"<span class='bar {kind}' style='width:{3 * share:.2f}rem'></span>"


def _sweep(results: Sequence[Result], picture: Picture, place: int, title: str, about: str) -> str:
    """A strip for each person of the pictures in which that one of the weights differs, the item first."""
    strips = []
    for result in results:
        fixed = result.usual[1 - place]
        swept = sorted((weights[place], png) for weights, png in result.pictures.items() if weights[1 - place] == fixed)
        if len(swept) > 1:
            figures = "".join(
                _figure(
                    _drawn(
                        png, f"{escape(result.objective['title'])} for {escape(result.name)}, λ{place + 1} = {weight:g}"
                    ),
                    f"λ{place + 1} = {weight:g}",
                    "usual" if weight == result.usual[place] else "",
                )
                for weight, png in swept
            )
            item = _figure(_item(result.objective, picture, SMALL), "the item")
            strips.append(f"<h3 class='strip-name'>{escape(result.name)}</h3><div class='strip'>{item}{figures}</div>")
    return _section(title, about, "".join(strips)) if strips else ""


def _swapped(results: Sequence[Result], picture: Picture) -> str:
    compared = [result for result in results if result.other_picture]
    if not compared:
        return ""

    def pair(result: Result) -> str:
        title, name, other = (escape(x) for x in (result.objective["title"], result.name, result.other_name))
        own = _figure(
            _drawn(result.main_picture, f"{title}, with what {name} liked"), f"with what {name} liked", "usual"
        )
        swapped = _drawn(result.other_picture, f"{title}, with what {other} liked")
        return f"<div class='pair'>{own}{_figure(swapped, f'with what {other} liked')}</div>"

    return _section(
        "With the wrong history",
        "The same item and the same noise, with what somebody else liked. If the history did nothing, the two would be alike.",
        _columns(compared, pair),
    )


def _footer(page: Page) -> str:
    parts = ["Made by ComfyUI-IAMG with <code>iamg-train demo</code>, drawn in ComfyUI."]
    if page.drawn:
        parts.append(
            "The catalogue is drawn by code, with invented users. These two were chosen by their tastes alone, before "
            "anything was drawn, and the item because it has nothing that either of them loves."
        )
    if page.mini:
        parts.append(
            "The model is the small one that comes with the pack: it draws 64 × 64 pixels, and knows such posters only."
        )
    parts.append("Similarity is the cosine of embeddings; attention is an item's share of the mass in its stage.")
    return " ".join(parts)


def _tags(tags: Sequence[str], kind: str) -> str:
    return "".join(f"<span class='tag {kind}'>{escape(tag)}</span>" for tag in tags) or "nothing"


def _figure(image: str, caption: str, kind: str = "") -> str:
    return f"<figure class='{kind}'>{image}<figcaption>{caption}</figcaption></figure>"


def _item(item: dict, picture: Picture, side: int) -> str:
    """An item's own picture; small ones stay as they are."""
    return image_tag(*small_file(picture(item["item_id"]), side), escape(item["title"]))


def _drawn(png: bytes, alt: str) -> str:
    return image_tag(png, "png", Image.open(BytesIO(png)).size, alt)


def _titles(results: Sequence[Result]) -> str:
    return _listed(list(dict.fromkeys(result.objective["title"] for result in results)))


def _listed(words: Sequence[str]) -> str:
    return escape(" and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words))
