"""A run's inputs encoded, or found in its cache, with a bar for each encoder."""

from collections.abc import Sequence

import torch
from rich.progress import Progress

from iamg_train.config import Config
from iamg_train.input_cache import InputCache, fill_caches
from iamg_train.prepare import stage
from iamg_train.prepared import Prepared, Sample


def encode(
    config: Config, prepared: Prepared, samples: Sequence[Sample], device: torch.device, bar: Progress
) -> InputCache:
    """What these samples need of the encoders, which have left memory again; errors are those of `fill_caches`."""
    stages = {}

    def show(inputs: str, done: int, total: int) -> None:
        stages.setdefault(inputs, stage(bar, f"encoding {inputs}"))(done, total)

    return fill_caches(
        prepared,
        samples,
        config.model.checkpoint,
        config.model.clip_vision,
        prepared.parameters["crop"],
        config.data.cache,
        config.train.resolution,
        getattr(torch, config.data.cache_dtype),
        device,
        progress=show,
    )
