"""What one training step reads: the cached tensors of a prepared sample, and all that is drawn at random for it."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from iamg_train.config import Drop
from iamg_train.input_cache import InputCache
from iamg_train.personalised_unet import Conditions
from iamg_train.prepared import Prepared, Sample

ORDER, EXAMPLE = 0, 1  # streams of random numbers


class Example(NamedTuple):
    """One row of a training batch."""

    index: int  # which of the samples
    latents: Tensor  # x_0, (4, height, width)
    noise: Tensor  # ε, the same shape
    timestep: int
    conditions: Conditions  # without the batch's dimension


class SampleReader:
    """A sample's conditions out of the caches."""

    def __init__(self, prepared: Prepared, inputs: InputCache, top_k: int, query: str):
        """top_k: K, at most what was prepared. query: what IRA asks with, every token or the pooled vector."""
        self._prepared, self._inputs, self._top_k, self._pooled = prepared, inputs, top_k, query == "pooled"

    def conditions(self, sample: Sample, interest_weight: float, asking: Sample | None = None) -> Conditions:
        """asking: the sample whose text and neighbours IRA sees, if not this one's own."""
        asking = asking or sample
        if self._pooled:
            query = torch.from_numpy(self._inputs.pooled(asking.text))[None]
        else:
            query = self._inputs.tokens(asking.text)
        return Conditions(
            text=self._inputs.tokens(sample.text),
            image_embeds=self._inputs.image_embeds(sample),
            query=query,
            retrieved_text=torch.stack([self._inputs.tokens(x) for x in asking.retrieved_texts[: self._top_k]]),
            retrieved_image=self._prepared.image_embeds(asking.retrieved_ids[: self._top_k]),
            interest_weight=torch.tensor(float(interest_weight)),
        )

    def without(self, conditions: Conditions, text: bool, image: bool, interest: bool) -> Conditions:
        """The conditions with these dropped (D9)."""
        return conditions._replace(
            text=self._inputs.tokens("") if text else conditions.text,
            image_embeds=torch.zeros_like(conditions.image_embeds) if image else conditions.image_embeds,
            interest_weight=torch.tensor(0.0) if interest else conditions.interest_weight,
        )

    def posterior(self, sample: Sample) -> tuple[Tensor, Tensor]:
        return self._inputs.posterior(sample)


class TrainingSamples(Dataset):
    """Example n of an endless run: the seed and n alone decide what it is, on however many processes it runs.

    Each pass over the samples has an order of its own.
    """

    def __init__(
        self,
        samples: list[Sample],
        reader: SampleReader,
        drop: Drop,
        interest_weight: float | tuple[float, float],
        seed: int,
        timesteps: int,
        asking: list[Sample] | None = None,
    ):
        """interest_weight: λ2, or the ends of the range that it is drawn from. asking: see `SampleReader.conditions`."""
        self.samples, self._reader, self._drop = samples, reader, drop
        self._weights = interest_weight if isinstance(interest_weight, tuple) else (interest_weight, interest_weight)
        self._seed, self._timesteps, self._asking = seed, timesteps, asking
        self._epoch, self._order = -1, []

    def __getitem__(self, n: int) -> Example:
        index = self.sample_index(n)
        sample, random = self.samples[index], _generator(self._seed, EXAMPLE, n)
        mean, std = self._reader.posterior(sample)
        latents = mean + std * torch.randn(mean.shape, generator=random)
        noise = torch.randn(mean.shape, generator=random)
        timestep = int(torch.randint(self._timesteps, (), generator=random))
        share, chance = torch.rand(2, generator=random).tolist()
        low, high = self._weights
        asking = self._asking[index] if self._asking else None
        conditions = self._reader.conditions(sample, low + (high - low) * share, asking)
        return Example(index, latents, noise, timestep, self._reader.without(conditions, *self._dropped(chance)))

    def sample_index(self, n: int) -> int:
        """Which sample is example n's."""
        epoch, place = divmod(n, len(self.samples))
        if epoch != self._epoch:
            random = _generator(self._seed, ORDER, epoch)
            self._epoch, self._order = epoch, torch.randperm(len(self.samples), generator=random).tolist()
        return self._order[place]

    def _dropped(self, chance: float) -> tuple[bool, bool, bool]:
        """Whether text, image and interest are dropped (D10); chance: between 0 and 1, even."""
        drop = self._drop
        for probability, dropped in (
            (drop.joint, (True, True, True)),
            (drop.text, (True, False, False)),
            (drop.image, (False, True, False)),
            (drop.interest, (False, False, True)),
        ):
            if chance < probability:
                return dropped
            chance -= probability
        return False, False, False


def _generator(*path: int) -> torch.Generator:
    state = np.random.SeedSequence(path).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state))
