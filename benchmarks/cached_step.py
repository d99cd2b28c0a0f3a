"""Our side of the training step's benchmark: fit's own trainer over caches of the real shapes, and its floor."""

from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from diffusers import DDPMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from torch.utils.data import default_collate

from benchmarks.seeded_models import Size, make_adapter
from iamg_train.config import load_config
from iamg_train.held_out import on_device
from iamg_train.input_cache import InputCache, TextCache, text_key
from iamg_train.loop import Trainer
from iamg_train.personalised_unet import PersonalisedUNet
from iamg_train.pool_commands import console
from iamg_train.prepared import TRAIN, Prepared, Sample
from iamg_train.row_cache import RowCache
from iamg_train.run_log import RunLog
from iamg_train.sampling import NOISE
from iamg_train.training_samples import SampleReader, TrainingSamples

SAMPLES, TOP_K = 64, 5
PIXELS_A_LATENT = 8


class AfterRounds:
    """Stands where the trainer has its Watcher: called after every so many steps, it measures."""

    def __init__(self, steps: int, call: Callable[[], None]):
        self.steps, self.call = steps, call

    def due(self, step: int, last: bool) -> bool:
        return step % self.steps == 0 and not last

    def look(self, *_: object) -> None:
        self.call()


class Floor:
    """Forward and backward of the U-Net alone, every key and value there already: no data, no optimizer."""

    def __init__(self, trainer: Trainer):
        size, device = trainer.settings.batch_size, trainer.accelerator.device
        batch = on_device(default_collate([trainer.examples[n] for n in range(size)]), device)
        self.model, self.noise, self.timesteps = trainer.model, batch.noise, batch.timestep
        self.noisy = trainer.noise_schedule.add_noise(batch.latents, batch.noise, batch.timestep)
        with torch.no_grad():
            self.guidance = self.model.guide(batch.conditions)
        pairs = [*self.guidance.image, *self.guidance.interest]
        self.leaves = [tensor.requires_grad_() for pair in pairs for tensor in pair]

    def __call__(self) -> None:
        predicted = self.model.predict(self.noisy, self.timesteps, self.guidance)
        torch.autograd.grad((predicted - self.noise).square().mean(), self.leaves)


def make_trainer(
    unet: UNet2DConditionModel,
    size: Size,
    batch_size: int,
    resolution: int,
    device: torch.device,
    steps: int,
    folder: Path,
) -> Trainer:
    """fit's trainer with the `paper` preset; the frozen parts compute in the U-Net's own type. Its files go to `folder`."""
    nowhere = dict.fromkeys(("items", "pool", "checkpoint", "clip_vision", "ip_adapter"), "not read")
    train = {"batch_size": batch_size, "resolution": resolution, "steps": steps, "checkpoint_every": 0}
    config = load_config(None, {**nowhere, **train, "out": folder / "run", "keep_checkpoints": 1})
    adapter = make_adapter(size, unet)
    samples, reader = _cached_samples(size, resolution, folder)
    noise_schedule = DDPMScheduler(**NOISE, clip_sample=False)
    timesteps = noise_schedule.config.num_train_timesteps
    examples = TrainingSamples(samples, reader, config.drop, config.method.interest_weight, 0, timesteps)
    accelerator = Accelerator(
        cpu=device.type == "cpu", dataloader_config=DataLoaderConfiguration(non_blocking=True), project_dir=folder
    )
    model = PersonalisedUNet(unet, adapter).to(device)
    return Trainer(config, model, examples, noise_schedule, accelerator, {})


def run_trainer(trainer: Trainer, steps_a_round: int, after_round: Callable[[], None]) -> None:
    """Train to the last step; `after_round` is called before the first step and after every `steps_a_round`."""
    trainer.config.run.out.mkdir(parents=True)
    log = RunLog(trainer.config.run.out, trainer.accelerator, 0)
    console.quiet = True
    try:
        trainer.train(log, AfterRounds(steps_a_round, after_round))
    finally:
        console.quiet = False


def _cached_samples(size: Size, resolution: int, folder: Path) -> tuple[list[Sample], SampleReader]:
    """Samples whose rows are random numbers, in caches as `fill_caches` makes them."""
    random = torch.Generator().manual_seed(3)
    texts = [f"item {n}" for n in range(SAMPLES)]  # T_i, and the item's id as well
    samples = []
    for n, text in enumerate(texts):
        near = tuple(texts[(n + k) % SAMPLES] for k in range(1, TOP_K + 1))
        picture, rewritten = text_key(text), f"{text}, rewritten"
        samples.append(Sample(TRAIN, text, text, near, rewritten, text, near, near, near, text, picture, None))
    pictures = [sample.picture_hash for sample in samples]

    width, image_width, side = size.text.hidden_size, size.vision.projection_dim, resolution // PIXELS_A_LATENT
    tower = folder / "text_tower.safetensors"  # the cache reads its width alone
    save_file({"text_model.final_layer_norm.weight": torch.ones(width)}, tower)
    text_cache = TextCache(folder, tower)
    latents = RowCache.open(folder / "latents", (2, 4, side, side), torch.float16)
    images = RowCache.open(folder / "images", (image_width,), torch.float16)
    text_keys = [text_key(text) for text in ("", *texts, *(sample.text for sample in samples))]
    for rows, keys in ((text_cache.rows, text_keys), (latents, pictures), (images, pictures)):
        rows.append(keys, torch.rand(len(keys), *rows.shape, generator=random))
    inputs = InputCache(text_cache, latents, images, {(picture, None): picture for picture in pictures})

    parameters = {"history_length": TOP_K, "interest_tags": 8, "top_k": TOP_K}
    manifest = {"parameters": parameters, "counts": {}, "data_hash": ""}
    retrieved = dict(zip(texts, torch.randn(SAMPLES, image_width, generator=random), strict=True))
    return samples, SampleReader(Prepared(folder, folder, manifest, samples, retrieved), inputs, TOP_K, "tokens")
