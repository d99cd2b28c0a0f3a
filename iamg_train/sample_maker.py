"""From a history to a sample: T*, and its neighbours in the pool."""

from collections.abc import Callable, Sequence
from functools import cache

from iamg.interests import rewrite
from iamg.pool import EmbeddingPool
from iamg.prompt_text import fit_text
from iamg.scenarios import Scenario
from iamg_train.encoders import ClipTokenizer
from iamg_train.histories import Entry
from iamg_train.input_cache import TextCache
from iamg_train.neighbours import Neighbours
from iamg_train.objectives import Objectives
from iamg_train.prepared import Sample

Progress = Callable[[int, int], None]


class SampleMaker:
    """Rewrites the objectives' texts and looks their neighbours up."""

    def __init__(
        self, pool: EmbeddingPool, neighbours: Neighbours, texts: TextCache, scenario: Scenario, interest_tags: int
    ):
        """interest_tags: H."""
        self.pool, self.neighbours, self.texts = pool, neighbours, texts
        self.scenario, self.interest_tags = scenario, interest_tags
        self.count_tokens = ClipTokenizer().count
        self._fitted = cache(lambda item_id: fit_text(pool.item(item_id).description, self.count_tokens))
        self._near_pictures = cache(lambda item_id: [x.item_id for x in neighbours.pictures(pool.item(item_id))])

    def rewrite(self, entries: Sequence[Entry], progress: Progress) -> list[str]:
        """T* of each entry."""
        rewritten = []
        for entry in entries:
            item, *history = (self.pool.item(x) for x in (entry.history.objective, *entry.history.items))
            tags = [x.tags for x in history]
            made = rewrite(item.description, item.tags, tags, self.scenario, self.count_tokens, self.interest_tags)
            rewritten.append(made.text)
            progress(len(rewritten), len(entries))
        return rewritten

    def samples(
        self,
        entries: Sequence[Entry],
        rewritten: Sequence[str],
        objectives: Objectives,
        foregrounds: dict[str, str],
        progress: Progress,
    ) -> list[Sample]:
        """The samples, T* of each being encoded. foregrounds: masks by objective."""
        samples = []
        for entry, text in zip(entries, rewritten, strict=True):
            objective = objectives[entry.history.objective]
            near_texts = self.neighbours.texts(self.pool.item(objective.item_id), self.texts.pooled(text))
            sample = Sample(
                split=entry.split,
                user_id=entry.history.user_id,
                objective=objective.item_id,
                history=entry.history.items,
                text=text,
                item_text=self._fitted(objective.item_id),
                retrieved_texts=tuple(self._fitted(item.item_id) for item in near_texts),
                retrieved_ids=tuple(self._near_pictures(objective.item_id)),
                retrieved_text_ids=tuple(item.item_id for item in near_texts),
                picture=objective.picture,
                picture_hash=objective.picture_hash,
                foreground=foregrounds.get(objective.item_id),
            )
            samples.append(sample)
            progress(len(samples), len(entries))
        return samples
