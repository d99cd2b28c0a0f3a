"""What the base models are trained on: posters of no catalogue, drawn once and kept."""

import random
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from iamg_train.mini.posters import SIDE, Poster, draw, random_poster
from iamg_train.mini.texts import caption_of, few_tags, redraw_caption, tag_of

COUNT = 24_000


class BasePosters:
    """Posters and their pictures; every draw of a batch is decided by the seed and the step alone."""

    def __init__(self, folder: Path, seed: int, count: int = COUNT):
        chance = random.Random(seed)
        self.seed = seed
        self.posters: list[Poster] = [random_poster(chance) for _ in range(count)]
        path = folder / f"posters_{seed}_{count}.npy"
        if not path.is_file():
            pixels = np.stack([np.asarray(draw(poster)[0]) for poster in self.posters])
            beside = path.with_suffix(".part.npy")
            np.save(beside, pixels)
            beside.replace(path)
        self._pixels = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.posters)

    def choose(self, step: int, size: int) -> list[int]:
        """The posters of a step's batch."""
        return random.Random(f"{self.seed} {step}").sample(range(len(self)), size)

    def pixels(self, rows: list[int]) -> Tensor:
        """(n, 3, 64, 64) in -1..1."""
        assert self._pixels.shape[1] == SIDE
        return torch.from_numpy(self._pixels[rows]).permute(0, 3, 1, 2).float() / 127.5 - 1

    def captions(
        self, rows: list[int], step: int, redrawn: float = 0.0, pattern: float = 0.0, short: float = 0.0, most: int = 3
    ) -> list[str]:
        """What is said of posters; redrawn, pattern, short: the shares of captions that are another item's and tell what
        the poster has instead, that name the pattern alone, and that are one to `most` tags; all others are whole."""
        chance = random.Random(f"captions {self.seed} {step}")

        def caption(poster: Poster) -> str:
            kind = chance.random()
            if kind < redrawn:
                return redraw_caption(poster, chance)
            if kind < redrawn + pattern:
                return tag_of("pattern", poster.pattern)
            if kind < redrawn + pattern + short:
                return few_tags(poster, chance, most)
            return caption_of(poster, chance)

        return [caption(self.posters[row]) for row in rows]
