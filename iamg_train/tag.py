"""`iamg-train tag`: Eq 2 and Eq 3 for every item of a folder; what was answered is not asked again."""

import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from rich.progress import Progress, TextColumn

from iamg.items import Item, Problem, read_items
from iamg.pictures import resolve_inside
from iamg.scenarios import Scenario, load_scenarios
from iamg.tagging import ItemTags, Tagger
from iamg_train.console import console, progress_bar
from iamg_train.descriptions import describe_items, make_describer
from iamg_train.item_batches import item_batches
from iamg_train.jsonl_log import json_lines
from iamg_train.tag_report import TagReport, tell
from iamg_train.tagger_arguments import tagger_of
from iamg_train.whole_files import write_whole

TAGS, TAG_CACHE, SYNONYMS = "tags.jsonl", "tags.sqlite", "synonyms.jsonl"


class TimedTagger:
    """A tagger that counts the items it was asked for and the seconds it took."""

    def __init__(self, tagger: Tagger):
        self._tagger = tagger
        self.name, self.parameters = tagger.name, tagger.parameters
        self.items, self.seconds = 0, 0.0

    def tag(
        self, images: Sequence[Image.Image | None], texts: Sequence[str | None], scenario: Scenario
    ) -> list[ItemTags]:
        start = time.perf_counter()
        tags = self._tagger.tag(images, texts, scenario)
        self.seconds += time.perf_counter() - start
        self.items += len(tags)
        return tags

    def rate(self) -> str:
        return f"{self.items / self.seconds:.2f} items/s" if self.items else ""


def run(arguments: Namespace) -> int:
    """1 where no item could be tagged."""
    folder, scenario = arguments.items, load_scenarios()[arguments.scenario]
    problems: list[tuple[str, str]] = []

    def on_problem(place: str, reason: str) -> None:
        problems.append((place, reason))

    next(read_items(folder, lambda place, reason: None))
    written = {name: resolve_inside(folder, name) for name in (TAGS, TAG_CACHE, SYNONYMS)}
    arguments.tag_cache = arguments.tag_cache or written[TAG_CACHE]
    embed = _embedder(arguments.merge_synonyms, written[SYNONYMS]) if arguments.merge_synonyms else None
    asked: list[TimedTagger] = []

    def watch(tagger: Tagger) -> Tagger:
        asked.append(TimedTagger(tagger))
        return asked[0]

    tagger = tagger_of(arguments, watch)
    if arguments.describe:
        count = describe_items(folder, make_describer(arguments), scenario, arguments.tagger_batch_size, on_problem)
        console.print(f"{count} descriptions written")
    items = list(read_items(folder, on_problem))
    tags = _tag(folder, items, tagger, asked[0], scenario, arguments.tagger_batch_size, on_problem)
    rows = ({"item_id": one, "image_tags": found.image, "text_tags": found.text} for one, found in tags.items())
    write_whole(written[TAGS], json_lines(rows))
    report = TagReport(tags, list(dict.fromkeys(problems)), asked[0].items, asked[0].seconds)
    tell(report)
    console.print(f"tags of {len(tags)} items: {written[TAGS]}", markup=False, soft_wrap=True)
    if embed:
        _merge(report, embed, arguments.similarity, written[SYNONYMS])
    return int(not tags)


def _tag(
    folder: Path,
    items: Sequence[Item],
    tagger: Tagger,
    asked: TimedTagger,
    scenario: Scenario,
    batch_size: int,
    on_problem: Problem,
) -> dict[str, ItemTags]:
    """Tags by item. A batch is in the cache before the next is begun."""
    tags: dict[str, ItemTags] = {}
    with Progress(*progress_bar().columns, TextColumn("{task.fields[rate]}"), console=console) as bar:
        task = bar.add_task("tagging items", total=len(items), rate="")
        for batch, count in item_batches(folder, items, batch_size, on_problem):
            texts = [item.description or None for item, _ in batch]
            found = tagger.tag([picture for _, picture in batch], texts, scenario)
            tags |= {item.item_id: of_item for (item, _), of_item in zip(batch, found, strict=True)}
            bar.update(task, advance=count, rate=asked.rate())
    return tags


def _embedder(model: Path, synonyms: Path):
    """What embeds tags; ValueError before anything is tagged where it cannot, or a list of synonyms is there."""
    from iamg.tagging.synonyms import sentence_embedder

    if synonyms.exists():
        raise ValueError(f"{synonyms} is there already; use it with --synonyms, or move it away")
    return sentence_embedder(model)


def _merge(report: TagReport, embed, similarity: float, path: Path) -> None:
    """Writes which tags are near-synonyms, for people to look over."""
    from iamg.tagging.synonyms import near_synonyms, write_synonyms

    synonyms = near_synonyms(report.counts, embed, similarity)
    write_synonyms(path, synonyms)
    for synonym in synonyms[:20]:
        console.print(f"  {synonym.tag} = {synonym.merged_into} ({synonym.cosine:.2f})", markup=False)
    console.print(f"{len(synonyms)} near-synonyms: {path}; merge them with --synonyms", markup=False, soft_wrap=True)
