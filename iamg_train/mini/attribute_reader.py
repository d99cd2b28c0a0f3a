"""An independent eye: a small network that reads a poster's attributes off its picture, trained on rendered posters only."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iamg_train.mini.posters import COLOURS, HELD_OUT, SUBJECTS, VALUES, Poster, draw, random_poster
from iamg_train.mini.stage import Plan, train_stage

ONE_OF = tuple(name for name in VALUES if name != "charm")
"""The attributes of which a poster shows one value; of charms it shows one or two."""

NEVER_TRAINED = len(HELD_OUT) / (len(SUBJECTS) * len(COLOURS))  # the share that even chances give them
CHANNELS = (32, 64, 128, 128)
WINDOWS = 4  # a side: what is seen is averaged over each
TRAINING_POSTERS = 6000
TOGETHER = 128  # pictures read at once
PLAN = Plan(steps=900, batch_size=64, learning_rate=2e-3, ema_decay=0.998)


@dataclass(frozen=True)
class Readings:
    """What n pictures show."""

    values: dict[str, np.ndarray]  # of each attribute of ONE_OF: (n,), places in its VALUES
    charms: np.ndarray  # (n, 6) bool

    def shows(self, attribute: str, value: str) -> np.ndarray:
        """(n,) bool"""
        place = VALUES[attribute].index(value)
        return self.charms[:, place] if attribute == "charm" else self.values[attribute] == place


class AttributeReader(nn.Module):
    """A head for each attribute: a softmax over its values, for charms a sigmoid each."""

    def __init__(self):
        super().__init__()
        layers, width = [], 3
        for place, channels in enumerate(CHANNELS):
            stride = 2 if place < 3 else 1
            layers += [nn.Conv2d(width, channels, 3, stride, 1), nn.GroupNorm(8, channels), nn.SiLU()]
            width = channels
        self.seen = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(WINDOWS), nn.Flatten())
        self.heads = nn.ModuleDict({name: nn.Linear(width * WINDOWS**2, len(x)) for name, x in VALUES.items()})

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Logits (n, values) of each attribute; pixels (n, 3, 64, 64) in -1..1."""
        seen = self.seen(pixels)
        return {name: head(seen) for name, head in self.heads.items()}

    @torch.inference_mode()
    def read(self, pictures: np.ndarray) -> Readings:
        """Of pictures (n, 64, 64, 3) uint8."""
        parts = [self(as_pixels(pictures[start : start + TOGETHER])) for start in range(0, len(pictures), TOGETHER)]
        logits = {name: torch.cat([part[name] for part in parts]).numpy() for name in VALUES}
        return Readings({name: logits[name].argmax(axis=1) for name in ONE_OF}, logits["charm"] > 0)


def train_reader(folder: Path, seed: int, plan: Plan = PLAN) -> AttributeReader:
    torch.manual_seed(seed)
    model = AttributeReader()

    @cache
    def training() -> tuple[np.ndarray, Readings]:
        posters = reader_posters(f"training {seed}", TRAINING_POSTERS)
        return pictures_of(posters), truth(posters)

    def loss_at(step: int) -> Tensor:
        pictures, known = training()
        rows = random.Random(f"{seed} {step}").sample(range(len(pictures)), plan.batch_size)
        logits = model(disturbed(as_pixels(pictures[rows]), torch.Generator().manual_seed(step)))
        losses = [F.cross_entropy(logits[name], torch.from_numpy(known.values[name][rows])) for name in ONE_OF]
        charms = torch.from_numpy(known.charms[rows]).float()
        return sum(losses) + F.binary_cross_entropy_with_logits(logits["charm"], charms)

    train_stage("attribute reader", folder, model, plan, loss_at)
    return model


def reader_posters(name: str, count: int) -> list[Poster]:
    """Posters of every combination, those that nothing else is trained on included."""
    chance = random.Random(f"attribute reader {name}")
    return [random_poster(chance, held_out=chance.random() < NEVER_TRAINED) for _ in range(count)]


def pictures_of(posters: Sequence[Poster]) -> np.ndarray:
    """(n, 64, 64, 3) uint8"""
    return np.stack([np.asarray(draw(poster)[0]) for poster in posters])


def truth(posters: Sequence[Poster]) -> Readings:
    """What a reader without fault reads."""
    values = {name: np.array([VALUES[name].index(getattr(x, name)) for x in posters]) for name in ONE_OF}
    return Readings(values, np.array([[x.has("charm", charm) for charm in VALUES["charm"]] for x in posters]))


def disturbed(pixels: Tensor, chance: torch.Generator) -> Tensor:
    """As generated pictures are: moved by up to a pixel, soft, faded, noisy, of more or less contrast."""
    count, side = len(pixels), pixels.shape[-1]

    def between(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=chance)

    moves = torch.eye(2, 3).repeat(count, 1, 1)
    moves[:, :, 2] = between(-2 / side, 2 / side, 2)
    grid = F.affine_grid(moves, pixels.shape, align_corners=False)
    pixels = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    for size in (3, 5):
        soft = F.avg_pool2d(pixels, size, stride=1, padding=size // 2, count_include_pad=False)
        pixels = torch.lerp(pixels, soft, between(0, 0.8, 1, 1, 1))
    pixels = torch.lerp(pixels, pixels.mean(dim=1, keepdim=True), between(0, 0.4, 1, 1, 1))
    pixels = pixels * between(0.85, 1.15, 1, 1, 1) + between(-0.1, 0.1, 3, 1, 1)
    noise = torch.randn(pixels.shape, generator=chance) * between(0, 0.08, 1, 1, 1)
    return (pixels + noise).clamp(-1, 1)


def as_pixels(pictures: np.ndarray) -> Tensor:
    """(n, 3, 64, 64) in -1..1, of pictures (n, 64, 64, 3) uint8."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
