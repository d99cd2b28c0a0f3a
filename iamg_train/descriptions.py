"""T_i of items without a text, by a model that sees their pictures (section 5.1)."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from PIL import Image

from iamg.items import DESCRIPTIONS, Problem, read_items
from iamg.pictures import resolve_inside
from iamg.scenarios import Scenario
from iamg.tagging import make_tagger
from iamg_train.console import progress_bar
from iamg_train.item_batches import item_batches
from iamg_train.jsonl_log import JsonLinesLog
from iamg_train.tagger_arguments import tagger_models


class Describer(Protocol):
    def describe(self, images: Sequence[Image.Image | None], scenario: Scenario) -> list[str]:
        """One text a picture, empty where no answer could be used."""
        ...


def make_describer(arguments: Namespace) -> Describer:
    """The model that sees of the tagger asked for; ValueError where that has none."""
    tagger = make_tagger(arguments.tagger.removesuffix(" + keywords"), tagger_models(arguments))
    if not hasattr(tagger, "describe"):
        raise ValueError(
            f"the {arguments.tagger!r} tagger cannot describe pictures; choose transformers or endpoint with --tagger"
        )
    return tagger


def describe_items(folder: Path, describer: Describer, scenario: Scenario, batch_size: int, on_problem: Problem) -> int:
    """Appends to the folder's descriptions.jsonl, which `read_items` reads; gives the number of texts written.

    Items with a text are left as they are, those described before among them. Each batch is on the disk before the
    next is asked for.
    """
    items = [item for item in read_items(folder, lambda place, reason: None) if not item.text]
    written = 0
    with progress_bar() as bar, JsonLinesLog(resolve_inside(folder, DESCRIPTIONS)) as log:
        task = bar.add_task("describing items", total=len(items))
        for batch, count in item_batches(folder, items, batch_size, on_problem):
            texts = describer.describe([picture for _, picture in batch], scenario)
            rows = [{"item_id": item.item_id, "text": text} for (item, _), text in zip(batch, texts, strict=True)]
            for row in rows:
                if not row["text"]:
                    on_problem(row["item_id"], "no description of it could be used")
            described = [row for row in rows if row["text"]]
            log.append(described)
            written += len(described)
            bar.advance(task, count)
    return written
