"""What an evaluation reads of a catalogue: pictures, texts, tags, and what users liked."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from iamg.interactions import liked_before, read_interactions
from iamg.interests import interest_tags
from iamg.items import read_items
from iamg.pictures import resolve_inside
from iamg.tagging import ItemTags
from iamg_train.evaluation.methods import Method, Pair
from iamg_train.evaluation.metric_settings import MetricSettings
from iamg_train.jsonl_log import read_log

TAGS = "tags.jsonl"

Histories = dict[Pair, tuple[str, ...]]
"""By user and objective: ids of the items that the user liked before, newest first."""


@dataclass(frozen=True)
class Catalogue:
    """Each by item."""

    pictures: dict[str, Path]
    texts: dict[str, str]  # T_i; an item without a text is not in it
    tags: dict[str, ItemTags]

    def interests(self, history: Iterable[str], limit: int) -> tuple[str, ...]:
        """Eq 5: the most frequent tags of the history."""
        return interest_tags([self.tags[item] for item in history if item in self.tags], limit)


def read_catalogue(folder: Path) -> Catalogue:
    """The items of a folder; tags are those that `iamg-train tag` left there, else those of the metadata."""
    pictures, texts, tags = {}, {}, {}
    for item in read_items(folder, lambda *_: None):
        pictures[item.item_id] = folder / item.picture
        if item.description:
            texts[item.item_id] = item.description
        if item.tags:
            tags[item.item_id] = ItemTags(text=item.tags)
    for row in read_log(resolve_inside(folder, TAGS)):
        try:
            tags[str(row["item_id"])] = ItemTags(tuple(map(str, row["image_tags"])), tuple(map(str, row["text_tags"])))
        except (LookupError, TypeError):
            raise ValueError(f"{folder / TAGS} is not as `iamg-train tag` writes it; run it again") from None
    return Catalogue(pictures, texts, tags)


def find_histories(method: Method, catalogue: Catalogue, settings: MetricSettings) -> Histories:
    """What the manifest says, else the last k items that the interactions have before the objective.

    Items that the catalogue lacks are left out, and so are users of whom nothing is known.
    """
    found = {shot.pair: tuple(x for x in shot.history if x in catalogue.pictures) for shot in method.shots}
    if settings.interactions and not all(found.values()):
        users, _ = read_interactions(settings.interactions)
        known = catalogue.pictures.__contains__
        for user_id, objective in (pair for pair, history in found.items() if not history):
            _, items = liked_before(users.get(user_id, ()), known, objective, settings.min_rating)
            found[user_id, objective] = tuple(items[: settings.history_length])
    return {pair: history for pair, history in found.items() if history}
