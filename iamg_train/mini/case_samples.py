"""The cases as samples: texts rewritten, neighbours retrieved and everything encoded, for each variant that asks for it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from rich.progress import Progress

from iamg.pool import EmbeddingPool
from iamg_train.config import Config
from iamg_train.encoding import encode
from iamg_train.histories import Entry
from iamg_train.input_cache import InputCache
from iamg_train.mini.cases import Case
from iamg_train.mini.variants import HISTORY, ITEM, TEXTS, Variant
from iamg_train.objectives import Objectives
from iamg_train.prepare import make_samples, retrieved_embeds, text_cache
from iamg_train.prepared import CONTROL, TEST, Prepared, Sample

EVERY_ITEM = 0.0  # the held-out fraction of a pool from which anything may be retrieved


@dataclass(frozen=True)
class CaseSamples:
    """Samples of the cases' own and other histories, and what the encoders make of them."""

    prepared: Prepared
    inputs: InputCache
    _samples: dict[tuple[int, bool], tuple[list[Sample], list[Sample]]]  # by H and leave-one-out: own, other

    def of(self, variant: Variant, own: bool) -> list[tuple[Sample, Sample]]:
        """For each case the sample that the U-Net sees, and the one with which IRA asks."""
        samples = self._samples[_asks_for(variant)][0 if own else 1]
        return [(x.as_seen(variant.rewritten, variant.foreground), _as_asked(x, variant)) for x in samples]


def prepare_cases(
    config: Config,
    cases: Sequence[Case],
    variants: Sequence[Variant],
    pool: EmbeddingPool,
    objectives: Objectives,
    bar: Progress,
) -> CaseSamples:
    """Retrieval is from the items that are not held out (D15); without leave-one-out, from all."""
    texts = text_cache(config.data, config.model.checkpoint, config.train.device, pool)
    entries = [Entry(TEST, case.own) for case in cases] + [Entry(CONTROL, case.other) for case in cases]
    samples = {}
    for interest_tags, leave_one_out in dict.fromkeys(map(_asks_for, variants)):
        changes = {"interest_tags": interest_tags, "leave_one_out": leave_one_out}
        changes["test_fraction"] = config.data.test_fraction if leave_one_out else EVERY_ITEM
        made = make_samples(config.data.model_copy(update=changes), pool, texts, entries, objectives, bar)
        samples[interest_tags, leave_one_out] = made[: len(cases)], made[len(cases) :]
    whole = [replace(x, foreground=None) for x in next(iter(samples.values()))[0]]
    made = [sample for pair in samples.values() for half in pair for sample in half]
    others = [replace(x, retrieved_ids=(*x.retrieved_text_ids, *x.history)) for x in made]
    every = [*made, *whole, *others]
    embeds = {item_id: torch.from_numpy(x) for item_id, x in retrieved_embeds(pool, every).items()}
    manifest = {"parameters": config.data.model_dump() | {"crop": pool.crop}, "counts": {}, "data_hash": ""}
    prepared = Prepared(config.data.prepared, config.data.items, manifest, every, embeds)
    inputs = encode(config, prepared, every, torch.device(config.train.device), bar)
    return CaseSamples(prepared, inputs, samples)


def _asks_for(variant: Variant) -> tuple[int, bool]:
    """What of a variant the samples depend on."""
    return variant.interest_tags, variant.leave_one_out


def _as_asked(sample: Sample, variant: Variant) -> Sample:
    ids = {ITEM: sample.retrieved_ids, TEXTS: sample.retrieved_text_ids, HISTORY: sample.history}
    return replace(sample, retrieved_ids=ids[variant.pictures_of])
