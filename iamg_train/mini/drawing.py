"""Draws the evaluation's pictures, each once, into a cache in which a stopped run leaves what it has drawn."""

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import xxhash
from torch import Tensor
from torch.utils.data import default_collate

from iamg.adapter import load_adapter, read_adapter
from iamg_train.diffusion_files import LATENT_CHANNELS, Vae, load_unet, load_vae
from iamg_train.mini.case_samples import CaseSamples
from iamg_train.mini.posters import SIDE
from iamg_train.mini.variants import Variant
from iamg_train.personalised_unet import PersonalisedUNet
from iamg_train.prepared import Sample
from iamg_train.row_cache import RowCache
from iamg_train.sampling import draw_latents, to_pictures
from iamg_train.training_samples import SampleReader
from iamg_train.whole_files import file_hash

TOGETHER = 64  # pictures drawn at once


class Drawing(NamedTuple):
    """How every picture is drawn."""

    steps: int  # DDIM
    guidance_scale: float
    seed: int  # of the noise; a user's pictures have noise of their own, the same under every variant


class Recipe(NamedTuple):
    """One picture. Recipes of one key make the same."""

    key: str
    variant: Variant
    sample: Sample  # what the U-Net sees
    asking: Sample  # what IRA sees
    noise: str  # a seed's name


class CasePictures:
    """The cases' pictures, (64, 64, 3) uint8, under any variant."""

    def __init__(self, folder: Path, samples: CaseSamples, drawing: Drawing, weights: Mapping[str, Path]):
        """weights: checkpoint, clip_vision, and the adapters by the names that variants give them."""
        self._samples, self._drawing, self._weights = samples, drawing, weights
        self._drawn = RowCache.open(folder, (SIDE, SIDE, 3), torch.uint8)
        self._hashes = {name: file_hash(path) for name, path in weights.items()}

    def of(self, variant: Variant, seeds: int, own: bool) -> np.ndarray:
        """(cases, seeds, 64, 64, 3) with the cases' own histories or the others'; they must have been drawn."""
        rows = [self._drawn[recipe.key].numpy() for recipe in self._recipes(variant, seeds, own)]
        return np.stack(rows).reshape(-1, seeds, SIDE, SIDE, 3)

    def missing(self, wanted: Sequence[tuple[Variant, int]]) -> list[Recipe]:
        """What is not drawn yet of these variants at so many seeds, with both histories; each picture once."""
        found = {}
        for variant, seeds in wanted:
            for own in (True, False):
                found |= {x.key: x for x in self._recipes(variant, seeds, own) if x.key not in self._drawn}
        return list(found.values())

    def draw(self, recipes: Sequence[Recipe], progress: Callable[[int], None]) -> None:
        """Draws and keeps these; `progress` is told how many are done."""
        vae, done = load_vae(self._weights["checkpoint"]), 0
        for _, group in groupby(sorted(recipes, key=_one_model), key=_one_model):
            group = list(group)
            draw = self._painter(group[0].variant, vae)
            for start in range(0, len(group), TOGETHER):
                batch = group[start : start + TOGETHER]
                self._drawn.append([recipe.key for recipe in batch], draw(batch))
                done += len(batch)
                progress(done)

    def _painter(self, variant: Variant, vae: Vae) -> Callable[[Sequence[Recipe]], Tensor]:
        """Draws recipes of variants that differ from this one only in what conditions each picture."""
        prepared, inputs, path = self._samples.prepared, self._samples.inputs, self._weights[variant.weights]
        unet = load_unet(self._weights["checkpoint"], torch.float32)
        model = PersonalisedUNet(unet, load_adapter(path), variant.image_weight, variant.text_weight)
        reader = SampleReader(prepared, inputs, variant.top_k, read_adapter(path)[1].get("query", "tokens"))
        size = LATENT_CHANNELS, SIDE // vae.factor, SIDE // vae.factor
        how = self._drawing.steps, self._drawing.guidance_scale

        def draw(batch: Sequence[Recipe]) -> Tensor:
            """(n, 64, 64, 3) uint8; RuntimeError where the numbers overflow."""
            conditions = [reader.conditions(x.sample, x.variant.interest_weight, x.asking) for x in batch]
            noise = torch.stack([_noise(x.noise, size) for x in batch])
            latents = draw_latents(model, default_collate(conditions), inputs.tokens(""), noise, *how)
            if not latents.isfinite().all():
                raise RuntimeError(
                    f"with {path.name} pictures of '{batch[0].variant.name}' are not finite; train it again"
                )
            pictures = to_pictures(vae.decode(latents))
            return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))

        return draw

    def _recipes(self, variant: Variant, seeds: int, own: bool) -> list[Recipe]:
        """For each case, and each of its seeds."""
        recipes = []
        # The noise is the user's for whom is drawn, whoever's history it is.
        users = [sample.user_id for sample, _ in self._samples.of(variant, own=True)]
        for user_id, (sample, asking) in zip(users, self._samples.of(variant, own), strict=True):
            content = self._content(variant, sample, asking)
            for number in range(seeds):
                noise = f"{self._drawing.seed} {user_id} {number}"
                key = xxhash.xxh3_128_hexdigest(json.dumps([content, noise]).encode())
                recipes.append(Recipe(key, variant, sample, asking, noise))
        return recipes

    def _content(self, variant: Variant, sample: Sample, asking: Sample) -> list:
        """Everything that makes a picture, but its noise; what has no weight makes no difference."""
        interest = None
        if variant.interest_weight:
            ids = asking.retrieved_ids[: variant.top_k]
            embeds = xxhash.xxh3_128_hexdigest(self._samples.prepared.image_embeds(ids).numpy().tobytes())
            interest = [variant.interest_weight, asking.text, asking.retrieved_texts[: variant.top_k], embeds]
        picture = [variant.image_weight, sample.picture_hash, sample.foreground] if variant.image_weight else None
        text = [variant.text_weight, sample.text]
        weights = [self._hashes[name] for name in ("checkpoint", "clip_vision", variant.weights)]
        return [text, picture, interest, weights, self._drawing.steps, self._drawing.guidance_scale]


def _one_model(recipe: Recipe) -> tuple[str, float, float, int]:
    """What the recipes of a batch have in common."""
    variant = recipe.variant
    return variant.weights, variant.image_weight, variant.text_weight, variant.top_k


def _noise(name: str, size: tuple[int, ...]) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(xxhash.xxh3_64_intdigest(name.encode())))
