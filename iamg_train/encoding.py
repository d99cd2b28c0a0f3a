"""A run's inputs encoded, or found in its cache, with a bar for each encoder."""

from collections.abc import Sequence

import torch
from rich.progress import Progress

from iamg.pool import EmbeddingPool
from iamg_train.config import Config
from iamg_train.input_cache import InputCache, fill_caches, image_probe
from iamg_train.prepare import stage
from iamg_train.prepared import Prepared, Sample


def encode(
    config: Config, prepared: Prepared, samples: Sequence[Sample], device: torch.device, bar: Progress
) -> InputCache:
    """What these samples need of the encoders, which have left memory again; errors are those of `fill_caches`,
    and ValueError where the pool's pictures were encoded by another CLIP Vision."""
    dtype, crop = getattr(torch, config.data.cache_dtype), prepared.parameters["crop"]
    with EmbeddingPool.open(config.data.pool) as pool:
        probe = image_probe(config.model.clip_vision, crop, config.data.cache, dtype, device)
        pool.check_encoders(pool.text_probe, probe)  # whose text encoder it is was seen when the data was prepared
    stages = {}

    def show(inputs: str, done: int, total: int) -> None:
        stages.setdefault(inputs, stage(bar, f"encoding {inputs}"))(done, total)

    return fill_caches(
        prepared,
        samples,
        config.model.checkpoint,
        config.model.clip_vision,
        crop,
        config.data.cache,
        config.train.resolution,
        dtype,
        device,
        progress=show,
    )
