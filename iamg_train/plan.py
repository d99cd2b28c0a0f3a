"""What `iamg-train fit` would do, worked out without doing it: --dry-run."""

import os
from dataclasses import dataclass

import torch
from rich.table import Table
from rich.text import Text

from iamg.adapter import Adapter
from iamg.pool import EmbeddingPool
from iamg_train.config import Config
from iamg_train.diffusion_files import LATENT_CHANNELS
from iamg_train.personalised_unet import TRAINED, PersonalisedUNet, load_model
from iamg_train.prepare import SKIPPED, plan_counts
from iamg_train.prepared import TEST, TRAIN

TOKENS = 77
FLOAT32 = 4  # bytes
PIXELS_A_LATENT = 8  # a side, in SD1.5's VAE

# Numbers kept for the backward pass, for each latent pixel and channel of the U-Net's first block. Counted on SD1.5's
# shapes through `saved_tensors_hooks`, with fused attention; checkpointed: the blocks' inputs, and the largest block.
KEPT, KEPT_CHECKPOINTED = 300, 165

ADAM_BYTES = {"adamw": 8, "adamw8bit": 2}  # a parameter: both moments


@dataclass(frozen=True)
class Plan:
    """Titles, each with what is told below it; rich prints it."""

    sections: dict[str, dict[str, str]]

    def __rich__(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for title, rows in self.sections.items():
            if not rows:
                continue
            table.add_row(Text(title, style="bold"))
            for name, told in rows.items():
                table.add_row(Text(f"  {name}"), Text(told))
        return table


def plan(config: Config) -> Plan:
    """Reads interactions, ids and the weights' shapes; writes nothing.

    FileNotFoundError or ValueError for what would stop the run: files that are missing or do not fit each other,
    no entries to train on.
    """
    config.require_files()
    counts = plan_counts(config.data)
    left_out = {words: f"{counts[name]:,}" for name, words in SKIPPED.items() if counts.get(name)}
    if not counts[TRAIN]:
        found = ", ".join(f"{n} {words}" for words, n in left_out.items())
        raise ValueError(
            f"{config.data.interactions} gives nothing to train on: {found}; `iamg-train data check` shows why"
        )
    with EmbeddingPool.open(config.data.pool) as pool:
        pool_items = len(pool)
    model = fitting_model(config)
    adapter = model.adapter
    trained = trainable_parameters(adapter)
    frozen = sum(parameter.numel() for parameter in model.unet.parameters())
    memory = training_memory(config, frozen, trained, model.unet.config.block_out_channels[0])
    caches = cache_sizes(config, counts[TRAIN], counts[TEST], pool_items, adapter.width, adapter.image_width)
    return Plan(
        {
            "Entries, at most": {"to train on": f"{counts[TRAIN]:,}", "held out": f"{counts[TEST]:,}"},
            "Left out": left_out,
            "Training": _training(config, counts[TRAIN])
            | {"trainable parameters": f"{trained:,}", "frozen in the U-Net": f"{frozen:,}"},
            "Memory while training, estimated": {name: size_text(n) for name, n in memory.items()}
            | {"in all": f"{size_text(sum(memory.values()))} a process, and what torch itself takes"},
            "Disk, at most": {name: size_text(n) for name, n in caches.items()}
            | {"checkpoints": _checkpoints(config, trained)},
            "Files": files(config),
        }
    )


def fitting_model(config: Config) -> PersonalisedUNet:
    """What would be trained, its frozen tensors still in their file; ValueError where the run's files do not fit."""
    model = load_model(config.model, config.method)
    with EmbeddingPool.open(config.data.pool) as pool:
        model.adapter.project_image(torch.zeros(1, pool.image_width))
    return model


def trainable_parameters(adapter: Adapter) -> int:
    """IRA's three matrices, and to_k_ip and to_v_ip of every block."""
    return sum(parameter.numel() for name, parameter in adapter.named_parameters() if name.startswith(TRAINED))


def training_memory(config: Config, frozen: int, trained: int, channels: int) -> dict[str, int]:
    """Bytes a process. frozen, trained: parameters. channels: of the U-Net's first block."""
    settings, each = config.train, _bytes_of_frozen(config)
    kept = KEPT_CHECKPOINTED if settings.gradient_checkpointing else KEPT
    latent_pixels = (settings.resolution // PIXELS_A_LATENT) ** 2
    return {
        "the U-Net, frozen": frozen * each,
        "weights, gradients and optimizer": trained * (FLOAT32 + _bytes_of_state(config)),
        f"activations of {settings.batch_size} pictures": settings.batch_size * kept * latent_pixels * channels * each,
    }


def cache_sizes(config: Config, train: int, test: int, pool_items: int, width: int, image_width: int) -> dict[str, int]:
    """Bytes on the disk, if no two entries share a text or a picture; test entries come with another user's text."""
    number = {"float16": 2, "float32": 4}[config.data.cache_dtype]
    latent_pixels = (config.train.resolution // PIXELS_A_LATENT) ** 2
    entries = train + test
    retrieved = min(config.data.top_k * (entries + test), pool_items)
    texts = entries + entries + test + retrieved + 1  # T_i, T* twice for test entries, Φ, the empty prompt
    return {
        "cached texts": texts * TOKENS * width * number,
        "cached pictures": entries * (2 * LATENT_CHANNELS * latent_pixels + image_width) * number,
    }


def files(config: Config) -> dict[str, str]:
    """What is written, and where."""
    out = config.run.out
    return {
        "entries": str(config.data.prepared),
        "cache": str(config.data.cache),
        "settings": str(out / "config.toml"),
        "losses": f"{out / 'log.csv'}, {out / 'held_out.csv'}",
        "checkpoints": str(out / "checkpoints"),
        "grids": str(out / "samples"),
        "weights": str(out / "weights.safetensors"),
        "summary": str(out / "summary.html"),
    }


def size_text(count: int) -> str:
    """Bytes, in words."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def _training(config: Config, entries: int) -> dict[str, str]:
    settings = config.train
    processes = int(os.environ.get("WORLD_SIZE", "1"))  # set by accelerate launch
    step = settings.batch_size * settings.accumulation * processes
    pictures = settings.steps * step
    how = f"{settings.batch_size} × {settings.accumulation} accumulated × {processes} processes"
    return {
        "steps": f"{settings.steps:,}",
        "pictures a step": f"{step:,} ({how})",
        "pictures in all": f"{pictures:,}, which is {pictures / entries:.1f} times every entry",
    }


def _checkpoints(config: Config, trained: int) -> str:
    size = trained * _bytes_of_state(config)
    keep = config.watch.keep_checkpoints
    return f"{size_text(size * keep)} ({keep} of {size_text(size)})"


def _bytes_of_state(config: Config) -> int:
    """What a checkpoint keeps of a trainable parameter: weight, moments and moving average."""
    return FLOAT32 + ADAM_BYTES[config.train.optimizer] + (FLOAT32 if config.train.ema_decay else 0)


def _bytes_of_frozen(config: Config) -> int:
    precision = config.train.precision
    if precision == "auto":
        precision = "16" if torch.cuda.is_available() and config.train.device != "cpu" else "fp32"
    return 4 if precision == "fp32" else 2
