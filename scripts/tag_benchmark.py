"""Items a second of each tagger, beside the paper's 4 to 5 s an item, as a Markdown table.

    python scripts/tag_benchmark.py
    python scripts/tag_benchmark.py --items posters --vision-model llava-1.5-7b-hf --language-model llama-3-8b --only transformers

Without models of your own, transformers runs tiny ones and the endpoint is a server here that answers at once: those
rows say what the pack itself costs around a model, not what a model costs. Needs iamg[train], and the repository.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "small")]

from iamg.items import read_items  # noqa: E402
from iamg.pictures import open_picture, resolve_inside  # noqa: E402
from iamg.scenarios import Scenario, load_scenarios  # noqa: E402
from iamg.tagging import MINI_CLIP, Tagger, TaggerModels, make_tagger  # noqa: E402
from iamg_train.tag_report import MANY, duration  # noqa: E402

PAPER = (4.0, 5.0)  # seconds an item, appendix D
PICTURE = (500, 750)  # pixels, of a film poster on the web
ANSWER = "red, blue, dark tones, drama, calm"


@dataclass(frozen=True)
class Subject:
    tagger: Tagger
    model: str
    scenario: Scenario


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--items", type=Path, metavar="DIR", help="pictures with metadata (default: drawn ones)")
    parser.add_argument("--count", type=int, default=64, help="items, at most")
    parser.add_argument("--batch-size", type=int, default=8, help="items tagged together")
    parser.add_argument("--scenario", default="movie poster", help="what the items are")
    parser.add_argument("--only", nargs="+", metavar="TAGGER", help="measure these alone")
    parser.add_argument("--clip-model", type=Path, metavar="DIR", help="an open_clip model's folder")
    parser.add_argument("--vision-model", type=Path, metavar="DIR", help="a folder of transformers")
    parser.add_argument("--language-model", type=Path, metavar="DIR", help="a folder of transformers")
    parser.add_argument("--device", default="auto", help="where transformers run")
    parser.add_argument("--endpoint", type=Path, metavar="FILE", help="settings of a real endpoint")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse(argv)
    items = list(_items(arguments.items, arguments.count))
    print(f"{len(items)} items, {arguments.batch_size} together\n")
    print(f"| tagger | model | items/s | s an item | {MANY} items |\n| --- | --- | --- | --- | --- |")
    with ExitStack() as stack:
        subjects = {
            "visual + keywords": lambda: Subject(make_tagger("visual + keywords"), "none", scenario),
            "clip": lambda: _clip(arguments, scenario),
            "transformers": lambda: _transformers(arguments, scenario, items[0], stack),
            "endpoint": lambda: _endpoint(arguments, scenario, stack),
        }
        scenario = load_scenarios()[arguments.scenario]
        for name in arguments.only or subjects:
            subject = subjects[name]()
            each = _seconds_an_item(subject, items, arguments.batch_size)
            print(f"| {name} | {subject.model} | {1 / each:.3g} | {each:.3g} | {duration(each * MANY)} |", flush=True)
    fast, slow = PAPER
    times = f"{duration(fast * MANY)} to {duration(slow * MANY)}"
    print(f"| the paper's | LLaVA-1.5-7B and Llama-3-8B | {1 / slow:.3g} to {1 / fast:.3g} | 4 to 5 | {times} |")


def _items(folder: Path | None, count: int) -> Iterator[tuple[Image.Image, str]]:
    """Pictures and texts."""
    if folder:
        for item, _ in zip(read_items(folder, lambda *_: None), range(count), strict=False):
            yield open_picture(resolve_inside(folder, item.picture)), item.description
        return
    random = np.random.default_rng(0)
    for number in range(count):
        small = random.integers(0, 256, (6, 4, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize(PICTURE, Image.Resampling.BICUBIC)
        yield picture, f"Film {number}. A keeper and his daughter find locked room {number} above the lamp."


def _seconds_an_item(subject: Subject, items: Sequence[tuple[Image.Image, str]], batch_size: int) -> float:
    """Without the time that a model takes to be read: one item is tagged before."""
    images, texts = zip(*items, strict=True)
    subject.tagger.tag(images[:1], texts[:1], subject.scenario)
    start = time.perf_counter()
    for place in range(0, len(items), batch_size):
        batch = slice(place, place + batch_size)
        subject.tagger.tag(images[batch], texts[batch], subject.scenario)
    return (time.perf_counter() - start) / len(items)


def _clip(arguments: argparse.Namespace, scenario: Scenario) -> Subject:
    if arguments.clip_model:
        return Subject(
            make_tagger("clip", TaggerModels(clip=arguments.clip_model)), arguments.clip_model.name, scenario
        )
    tagger = make_tagger("clip", TaggerModels(clip=MINI_CLIP))
    return Subject(tagger, f"{MINI_CLIP}, the small one of the pack", load_scenarios()["mini poster"])


def _transformers(
    arguments: argparse.Namespace, scenario: Scenario, item: tuple[Image.Image, str], stack: ExitStack
) -> Subject:
    vision, language = arguments.vision_model, arguments.language_model
    model = " and ".join(path.name for path in (vision, language) if path)
    if not model:
        vision, language = _tiny_models(Path(stack.enter_context(tempfile.TemporaryDirectory())), scenario, item)
        model = "a tiny LLaVA and a tiny Llama: two layers of width 32"
    models = TaggerModels(vision=vision, language=language, device=arguments.device, batch_size=arguments.batch_size)
    return Subject(make_tagger("transformers", models), model, scenario)


def _tiny_models(folder: Path, scenario: Scenario, item: tuple[Image.Image, str]) -> tuple[Path, Path]:
    """A vision-language and a language model that answer with some tags, and are too small for anything else."""
    from tiny_language_models import teach, write_llama, write_llava

    image, text = item
    known = {"tag_limit": scenario.tag_limit, "phi": scenario.phi}
    vision, language = write_llava(folder / "vision"), write_llama(folder / "language")
    teach(vision, [(image, scenario.image_prompt.format(**known), ANSWER)])
    teach(language, [(None, scenario.text_prompt.format(text=text, **known), ANSWER)])
    return vision, language


def _endpoint(arguments: argparse.Namespace, scenario: Scenario, stack: ExitStack) -> Subject:
    settings, model = arguments.endpoint, "as its settings say"
    if not settings:
        from fake_endpoint import FakeEndpoint

        server = stack.enter_context(FakeEndpoint(tags=lambda request: ANSWER.split(", ")))
        settings = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "endpoint.toml"
        settings.write_text(f'url = "{server.url}"\nvision_model = "none"\nlanguage_model = "none"\n')
        model = "none: a server here that answers at once"
    return Subject(make_tagger("endpoint", TaggerModels(endpoint=settings)), model, scenario)


if __name__ == "__main__":
    main()
