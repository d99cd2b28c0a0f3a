"""`iamg-train mini train`: the whole family from nothing but a seed, and the adapter fine-tuned by `iamg-train fit`."""

from argparse import Namespace
from pathlib import Path

import torch

from iamg.adapter import write_adapter
from iamg.items import read_items
from iamg.mini.family import family_bytes
from iamg.mini.places import FAMILY, family_files
from iamg.pool_builder import build_pool
from iamg.scenarios import load_scenarios
from iamg.tagging.clip import ClipTagger
from iamg.tagging.combined import CombinedTagger
from iamg.tagging.keywords import KeywordTagger
from iamg.tagging.mini_clip import mini_clip
from iamg_train import fit
from iamg_train.checkpoints import FOLDER as CHECKPOINTS
from iamg_train.config import load_config
from iamg_train.encoders import ClipEncoders
from iamg_train.export import WEIGHTS, in_dtype
from iamg_train.mini.assemble import assemble
from iamg_train.mini.autoencoder import train_autoencoder
from iamg_train.mini.base_adapter import train_adapter
from iamg_train.mini.base_data import BasePosters
from iamg_train.mini.base_inputs import BaseInputs
from iamg_train.mini.base_unet import train_unet
from iamg_train.mini.files import MiniFiles, unpack, write_family_files
from iamg_train.mini.install import install
from iamg_train.mini.towers import train_towers
from iamg_train.mini.vocabulary import known_words
from iamg_train.mini.world import MASKS, TEST_FRACTION, invent_world, write_world
from iamg_train.pool_commands import console, progress_bar
from iamg_train.prepare import stage
from iamg_train.whole_files import write_whole

SCENARIO = "mini poster"
SETTINGS = {  # of the fine-tuning, beside the files
    "preset": "robust",
    "scenario": SCENARIO,
    "foreground": "masks",
    "test_fraction": TEST_FRACTION,
    "interest_tags": 3,
    "max_entries": 3000,
    "resolution": 64,
    "steps": 400,
    "batch_size": 32,
    "learning_rate": 5e-4,
    "schedule": "cosine",
    "warmup_steps": 50,
    "min_snr_gamma": 5.0,
    "ema_decay": 0.995,
    "validate_every": 200,
    "validate_samples": 256,
    "sample_every": 200,
    "sample_steps": 20,
    "checkpoint_every": 200,
    "cache_dtype": "float32",
}


def run(arguments: Namespace) -> int:
    out = arguments.out.resolve()
    files = train_base(out, arguments.seed)
    world, pool = make_catalogue(out, files, out / "family" / FAMILY.name, arguments.seed)
    adapter = fine_tune(out / "fit", files, world, pool, arguments.seed)
    console.print(f"the family: {files.checkpoint.parent}; the fine-tuned adapter: {adapter}", markup=False)
    if arguments.install:
        install(out, files, f"iamg-train mini train --seed {arguments.seed}", arguments.seed)
    return 0


def write_shipped(arguments: Namespace) -> int:
    """`iamg-train mini world`: what fine-tuning, drawing and evaluating with the shipped family need."""
    out = arguments.out.resolve()
    files = unpack(out / "family")
    world, pool = make_catalogue(out, files, FAMILY, arguments.seed)
    console.print(f"items and interactions: {world}; their pool: {pool}", markup=False)
    for name, path in files._asdict().items():
        console.print(f"  --{name.replace('_', '-')} {path}", markup=False, soft_wrap=True)
    return 0


def train_base(out: Path, seed: int) -> MiniFiles:
    """Everything that a user of I-AM-G would download: U-Net, VAE, both towers, a stock IP-Adapter."""
    out.mkdir(parents=True, exist_ok=True)
    family = out / "family"
    files = MiniFiles(*family_files(family), family / "ip_adapter.safetensors", out / "fit" / WEIGHTS)
    if files.ip_adapter.is_file():
        return files
    with console.status("drawing posters"):
        base = BasePosters(out, seed)
    towers = train_towers(out / "towers", base, known_words(), seed)
    vae = train_autoencoder(out / "autoencoder", base, seed)
    inputs = BaseInputs(out, base, vae, towers)
    unet = train_unet(out / "unet", inputs, vae, seed)
    adapter = train_adapter(out / "ip_adapter", inputs, unet, vae, seed)
    metadata = {"command": f"iamg-train mini train --seed {seed}", "seed": str(seed), "torch": torch.__version__}
    made = assemble(vae, towers, unet, metadata)
    write_family_files(family, made)
    write_whole(family / FAMILY.name, family_bytes(made))
    state = {key: x for key, x in adapter.state_dict().items() if not key.startswith("ira.")}
    write_adapter(files.ip_adapter, in_dtype(state, "float16"), {})
    return files


def make_catalogue(out: Path, files: MiniFiles, family: Path, seed: int) -> tuple[Path, Path]:
    """The catalogue that users choose from, and its pool; family: the towers that tag it."""
    world, pool = out / "world", out / "pool"
    with progress_bar() as bar:
        write_world(world, invent_world(seed), seed, stage(bar, "drawing the catalogue"))
        if not pool.is_dir():
            show = stage(bar, "embedding the catalogue")
            build_pool(
                pool,
                read_items(world, lambda name, reason: None),
                world,
                ClipEncoders(files.checkpoint, files.clip_vision),
                CombinedTagger((ClipTagger(mini_clip(family)), KeywordTagger())),
                load_scenarios()[SCENARIO],
                batch_size=64,
                progress=lambda done, total: show(done, total or 0),
            )
    return world, pool


def fine_tune(out: Path, files: MiniFiles, world: Path, pool: Path, seed: int, **changes: object) -> Path:
    """The adapter as `iamg-train fit` leaves it, which is gone on with where it was stopped."""
    weights = out / WEIGHTS
    if not weights.is_file():
        paths = {"items": world, "masks": world / MASKS, "pool": pool, "out": out}
        paths |= {"prepared": out / "prepared", "cache": out / "cache"}
        config = load_config(None, files.as_settings() | paths | SETTINGS | {"seed": seed} | changes)
        begun = any((out / CHECKPOINTS).glob("step_*.safetensors"))
        fit.fit(config, "latest" if begun else None)
    return weights
