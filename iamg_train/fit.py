"""`iamg-train fit`: from a catalogue to the weights that the nodes load."""

from argparse import Namespace
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator, DataLoaderConfiguration, InitProcessGroupKwargs
from diffusers import DDPMScheduler

from iamg.adapter import read_adapter
from iamg_train import checkpoints
from iamg_train.config import Config, Drop, load_config
from iamg_train.config_flags import overrides_of
from iamg_train.diffusion_files import load_vae
from iamg_train.encoders import text_fingerprint, vision_fingerprint
from iamg_train.encoding import encode
from iamg_train.export import WEIGHTS, export, projection_fingerprint
from iamg_train.grids import GridMaker
from iamg_train.input_cache import InputCache
from iamg_train.loop import Trainer
from iamg_train.personalised_unet import frozen_dtype, load_model
from iamg_train.plan import fitting_model, plan
from iamg_train.pool_commands import console, progress_bar
from iamg_train.prepare import prepare
from iamg_train.prepared import CONTROL, TEST, TRAIN, Prepared
from iamg_train.run_log import RunLog
from iamg_train.sampling import NOISE
from iamg_train.summary import CONFIG, write_summary
from iamg_train.training_samples import SampleReader, TrainingSamples
from iamg_train.watch import Watcher
from iamg_train.whole_files import write_whole

WAIT = timedelta(hours=12)  # of the other processes, while one encodes
HELD_OUT_SEED = 2**32  # beyond every seed that a run may have


def run(arguments: Namespace) -> int:
    config = load_config(arguments.config, overrides_of(arguments))
    config.require_files()
    if arguments.dry_run:
        console.print(plan(config))
    else:
        fit(config, arguments.resume)
    return 0


def fit(config: Config, resume: str | None = None) -> None:
    """Prepare, cache, train, export, summarise. resume: "latest", or a checkpoint of the run."""
    folder = config.run.out
    fitting_model(config)
    checkpoint = _starting_point(config, resume)
    if checkpoint:
        _check_settings(checkpoint, config.identity())
    accelerator = _accelerator(config)
    prepared, inputs = _data(config, accelerator)
    train = prepared.samples(TRAIN)
    values = {
        "identity": config.identity(),
        "data_hash": prepared.data_hash,
        "export": _metadata(config, prepared),
    }
    if checkpoint:
        _check_data(checkpoint, prepared.data_hash)
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / CONFIG, config.to_toml().encode())

    dtype = frozen_dtype(config.train.precision, accelerator.device.type)
    model = load_model(config.model, config.method, dtype).to(accelerator.device)
    if config.train.gradient_checkpointing:
        model.unet.enable_gradient_checkpointing()
    reader = SampleReader(prepared, inputs, config.data.top_k, config.method.query)
    noise_schedule = DDPMScheduler(**NOISE, clip_sample=False)
    timesteps = noise_schedule.config.num_train_timesteps
    weight, seed = config.method.interest_weight, config.train.seed
    examples = TrainingSamples(train, reader, config.drop, weight, seed, timesteps)
    trainer = Trainer(config, model, examples, noise_schedule, accelerator, values)
    if checkpoint:
        trainer.restore(checkpoint)
        console.print(f"going on from {checkpoint}", markup=False)
    log = RunLog(folder, accelerator, trainer.step)
    trainer.train(log, _watcher(config, prepared, reader, inputs, noise_schedule, log))
    if accelerator.is_main_process:
        weights = export(folder, folder / WEIGHTS)
        console.print(f"weights for the nodes: [bold]{weights}[/]; summary: [bold]{write_summary(folder)}[/]")
    accelerator.end_training()


def _accelerator(config: Config) -> Accelerator:
    device = config.train.device
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError('train.device is "cuda", but torch sees no GPU; use "auto" or "cpu"')
    trackers = [name for name in config.watch.loggers if name != "csv"]
    kind = "cuda" if torch.cuda.is_available() and device != "cpu" else "cpu"
    dtype = frozen_dtype(config.train.precision, kind)
    accelerator = Accelerator(
        cpu=device == "cpu",
        mixed_precision="fp16" if dtype == torch.float16 else "no",  # the other precisions need no loss scaling
        gradient_accumulation_steps=config.train.accumulation,
        dataloader_config=DataLoaderConfiguration(non_blocking=True),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=WAIT)],
        log_with=trackers or None,
        project_dir=config.run.out,
    )
    if trackers:
        settings = {key: str(value) for key, value in config.identity().items()}
        accelerator.init_trackers("iamg", settings, {"wandb": {"dir": config.run.out}})
    return accelerator


def _starting_point(config: Config, resume: str | None) -> Path | None:
    folder = config.run.out
    if resume:
        return checkpoints.find_checkpoint(folder, resume)
    if any((folder / checkpoints.FOLDER).glob("step_*.safetensors")):
        raise ValueError(
            f"run '{folder}' has checkpoints already; go on with --resume latest, or give another folder as --out"
        )
    return None


def _check_settings(checkpoint: Path, identity: dict) -> None:
    then = checkpoints.read_values(checkpoint)["identity"]
    changed = [
        f"{key} was {then.get(key)!r}, is {value!r}" for key, value in identity.items() if then.get(key) != value
    ]
    if changed:
        raise ValueError(
            f"'{checkpoint}' belongs to a run with other settings: {'; '.join(changed)}. Set them back, or start a run "
            "of its own with another --out"
        )


def _check_data(checkpoint: Path, data_hash: str) -> None:
    then = checkpoints.read_values(checkpoint)["data_hash"]
    if then != data_hash:
        raise ValueError(
            f"the items, interactions or pool changed since '{checkpoint}' was written (data {then[:12]}, "
            f"now {data_hash[:12]}); put them back, or start a run of its own with another --out"
        )


def _data(config: Config, accelerator: Accelerator) -> tuple[Prepared, InputCache]:
    """The main process prepares and encodes; the others then find everything done."""
    if accelerator.is_main_process:
        prepared = prepare(config.data, config.model.checkpoint, config.train.device)
        inputs = _encode(config, prepared, accelerator.device)
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        prepared = Prepared.open(config.data.prepared, config.data.items)
        inputs = _encode(config, prepared, accelerator.device)
    return prepared, inputs


def _encode(config: Config, prepared: Prepared, device: torch.device) -> InputCache:
    samples = [sample for split in (TRAIN, TEST, CONTROL) for sample in prepared.samples(split)]
    with progress_bar() as bar:
        return encode(config, prepared, samples, device, bar)


def _watcher(
    config: Config,
    prepared: Prepared,
    reader: SampleReader,
    inputs: InputCache,
    noise_schedule: DDPMScheduler,
    log: RunLog,
) -> Watcher:
    """Looks at the held-out users, always the same ones with the same noise."""
    watch, samples, controls = config.watch, prepared.samples(TEST), prepared.samples(CONTROL)
    if not samples:
        console.print("[yellow]no held-out user has a history: no held-out loss, and no grids[/]")
        return Watcher(watch, None, None, 0, None, noise_schedule, log, config.run.out, 1)
    weight = config.method.drawn_interest_weight
    timesteps = noise_schedule.config.num_train_timesteps
    fixed = (reader, Drop(joint=0.0), weight, HELD_OUT_SEED, timesteps)
    grid = None
    if watch.sample_every:
        shown = samples[: watch.sample_users]
        pictures = [prepared.open_picture(sample) for sample in shown]
        empty, vae = inputs.tokens(""), load_vae(config.model.checkpoint)
        grid = GridMaker(
            shown, controls[: len(shown)], pictures, reader, empty, vae, weight, watch.sample_steps, config.train.seed
        )
    return Watcher(
        watch,
        own=TrainingSamples(samples, *fixed),
        control=TrainingSamples(samples, *fixed, asking=controls),
        count=min(watch.validate_samples, len(samples)),
        grid=grid,
        noise_schedule=noise_schedule,
        log=log,
        run=config.run.out,
        batch_size=config.train.batch_size,
    )


def _metadata(config: Config, prepared: Prepared) -> dict:
    """What the exported file says about itself."""
    method = config.method
    state, _ = read_adapter(config.model.ip_adapter)
    return {
        "ip_adapter": str(config.model.ip_adapter),
        "ip_adapter_fingerprint": projection_fingerprint(state),
        "heads": method.heads,
        "top_k": config.data.top_k,
        "interest_tags": config.data.interest_tags,
        "history_length": config.data.history_length,
        "image_weight": method.image_weight,
        "text_weight": method.text_weight,
        "interest_weight": method.interest_weight,
        "query": method.query,
        "text_encoder": text_fingerprint(config.model.checkpoint),
        "image_encoder": vision_fingerprint(config.model.clip_vision),
        "data_hash": prepared.data_hash,
        "base_model": config.model.checkpoint.stem,
    }
