"""How far a user's interests reach: into what is retrieved, and into what IRA makes of it. Nothing is drawn for this."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from iamg.adapter import load_adapter
from iamg_train.mini.case_samples import CaseSamples
from iamg_train.mini.measures import FIDELITY, OTHER, OWN, Values
from iamg_train.mini.posters import Poster
from iamg_train.mini.variants import FULL, HISTORY, ITEM, STOCK, TEXTS, TRAINED
from iamg_train.mini.world import Taste
from iamg_train.prepared import Sample
from iamg_train.training_samples import SampleReader

THEIR_OWN, PHI, PSI = "the history", "Φ, the nearest texts", "Ψ, the nearest pictures"


def loved_shares(samples: CaseSamples, tastes: Sequence[Taste], posters: Mapping[str, Poster]) -> dict[str, Values]:
    """How much of what each user loves the posters of their history, of Φ and of Ψ carry; (users,) by measure.

    Measured as on pictures: with the user's own history, with another user's, and the first minus the second.
    """
    ids: dict[str, Callable[[Sample], tuple[str, ...]]] = {
        THEIR_OWN: lambda sample: sample.history,
        PHI: lambda sample: sample.retrieved_text_ids[: FULL.top_k],
        PSI: lambda sample: sample.retrieved_ids[: FULL.top_k],
    }
    shares = {}
    for name, ids_of in ids.items():
        own, other = (
            np.array(
                [
                    _share(taste, [posters[x] for x in ids_of(asking)])
                    for taste, (_, asking) in zip(tastes, of, strict=True)
                ]
            )
            for of in (samples.of(FULL, own) for own in (True, False))
        )
        shares[name] = {OWN: own, OTHER: other, FIDELITY: own - other}
    return shares


def interest_moves(samples: CaseSamples, weights: Mapping[str, Path]) -> dict[str, Values]:
    """How far z̃ (Eq 11) moves when another user's history takes the place of the own, by adapter and by Ψ; (users,).

    In squared distances, of which the one to the next case's z̃, another item for another user, is 1 on average.
    """
    moves = {}
    for name in (STOCK, TRAINED):
        adapter = load_adapter(weights[name]).float()
        moves[name] = {}
        for pictures_of in (ITEM, TEXTS, HISTORY):
            variant = replace(FULL, pictures_of=pictures_of)
            own, other = (_interests(samples, adapter, samples.of(variant, own)) for own in (True, False))
            between_cases = (own - own.roll(1, 0)).square().mean()
            moves[name][pictures_of] = ((own - other).square().mean(dim=(1, 2)) / between_cases).numpy()
    return moves


def _share(taste: Taste, posters: Sequence[Poster]) -> float:
    return float(np.mean([taste.count(poster) for poster in posters])) / len(taste.loved)


@torch.inference_mode()
def _interests(samples: CaseSamples, adapter: torch.nn.Module, pairs: Sequence[tuple[Sample, Sample]]) -> Tensor:
    """z̃ of each, (cases, tokens, width)."""
    reader = SampleReader(samples.prepared, samples.inputs, FULL.top_k, "tokens")
    found = []
    for _, asking in pairs:
        x = reader.conditions(asking, FULL.interest_weight)
        images = adapter.image_proj(x.retrieved_image)
        found.append(adapter.ira(x.query[None], x.retrieved_text[None], images[None]).tokens[0])
    return torch.stack(found)
