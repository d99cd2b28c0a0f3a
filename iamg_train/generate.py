"""`iamg-train generate`: personalised pictures of a catalogue's users, without ComfyUI."""

from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from rich.progress import Progress
from torch.utils.data import default_collate

from iamg.device import find_device
from iamg.pool import EmbeddingPool
from iamg_train.config import Config
from iamg_train.config_flags import overrides_of
from iamg_train.diffusion_files import LATENT_CHANNELS, Vae, load_vae
from iamg_train.encoding import encode
from iamg_train.gallery import Gallery
from iamg_train.histories import Entry
from iamg_train.objectives import Objectives
from iamg_train.personalised_unet import PersonalisedUNet, frozen_dtype, load_model
from iamg_train.picture_settings import Drawing, Picture, plan_pictures
from iamg_train.pool_commands import console, progress_bar, tell_problems
from iamg_train.prepare import make_samples, retrieved_embeds, text_cache
from iamg_train.prepared import TEST, Prepared
from iamg_train.sampling import draw_latents, to_pictures
from iamg_train.training_samples import SampleReader
from iamg_train.variants import Variant, parse_variant
from iamg_train.wanted import Wanted, find_histories, read_wanted

TOGETHER = 4  # pictures drawn at once (D17)


def run(arguments: Namespace) -> int:
    variant = parse_variant(arguments.variant)
    config = variant.config(arguments.config, overrides_of(arguments))
    config.require_files()
    if arguments.users:
        wanted = read_wanted(arguments.users, arguments.objective)
    else:
        wanted = [Wanted(user_id, arguments.objective) for user_id in dict.fromkeys(arguments.user)]
    skip = arguments.users is not None
    generate(config, wanted, drawing_of(arguments), arguments.gallery, skip, variant)
    return 0


def drawing_of(arguments: Namespace) -> Drawing:
    """What the flags of `drawing_arguments` say."""
    return Drawing(
        arguments.pictures,
        arguments.ddim_steps,
        arguments.guidance_scale,
        arguments.first_seed,
        arguments.width,
        arguments.height,
    )


def generate(
    config: Config, wanted: Sequence[Wanted], drawing: Drawing, folder: Path, skip: bool, variant: Variant
) -> None:
    """Draw what the folder lacks, and write its manifest.

    config: with the variant's changes. skip: leave users out who cannot be drawn for, and say so. Raises ValueError where they may not be left out or nobody is left, and where a picture of other settings is there.
    """
    device = find_device(config.train.device)
    dtype = frozen_dtype(config.train.precision, device.type)
    gallery = Gallery(folder)
    with progress_bar() as bar:
        prepared = _prepare(config, wanted, skip, bar)
        pictures = plan_pictures(config, prepared, drawing, dtype, variant)
        missing = [picture for picture in pictures if not gallery.holds(picture.name, picture.settings)]
        gallery.write_manifest()
        if missing:
            painter = _painter(config, prepared, missing, device, dtype, bar)
            _draw(painter, missing, gallery, bar)
    told = f"pictures in {folder}: {len(missing)} drawn, {len(pictures) - len(missing)} there already"
    console.print(told, markup=False, soft_wrap=True)


class Painter:
    """Draws pictures, several users' together: a picture's noise and conditions are its own."""

    def __init__(self, model: PersonalisedUNet, vae: Vae, reader: SampleReader, empty_text: torch.Tensor):
        """Model, VAE and the empty prompt's tokens (77, d) are on one device."""
        self._model, self._vae, self._reader, self._empty_text = model, vae, reader, empty_text

    def draw(self, pictures: Sequence[Picture], progress: Callable[[int], None]) -> list[Image.Image]:
        """Pictures of one size, steps and guidance; RuntimeError where the numbers overflow."""
        settings = pictures[0].settings
        device = self._empty_text.device
        conditions = default_collate(
            [self._reader.conditions(x.seen, x.settings["interest_weight"], x.asking) for x in pictures]
        )
        noise = torch.stack([self._noise(x.settings) for x in pictures]).to(device)
        how = settings["steps"], settings["guidance_scale"]
        latents = draw_latents(self._model, conditions.on(device), self._empty_text, noise, *how, progress)
        if not latents.isfinite().all():
            raise RuntimeError(
                f"{pictures[0].name} became no picture: its numbers are not finite in {settings['precision']}; try "
                "--precision fp32, or a lower --guidance-scale"
            )
        return [to_pictures(self._vae.decode(latent[None]))[0] for latent in latents]

    def _noise(self, settings: dict) -> torch.Tensor:
        size = LATENT_CHANNELS, settings["height"] // self._vae.factor, settings["width"] // self._vae.factor
        return torch.randn(size, generator=torch.Generator().manual_seed(settings["seed"]))


def _prepare(config: Config, wanted: Sequence[Wanted], skip: bool, bar: Progress) -> Prepared:
    """What `prepare` writes, for these users and in memory; any item of the pool may be retrieved."""
    data = config.data.model_copy(update={"test_fraction": 0.0})
    with EmbeddingPool.open(data.pool) as pool:
        objectives = Objectives(data.items, pool)
        histories, problems = find_histories(wanted, data, pool, objectives)
        if problems and not (skip and histories):
            who, problem = problems[0]
            raise ValueError(
                f"user {who!r} cannot be drawn for: {problem}; choose another user or objective, or lower history_length"
            )
        tell_problems(f"of {len(wanted)} users skipped", problems)
        entries = [Entry(TEST, history) for history in histories]
        texts = text_cache(data, config.model.checkpoint, config.train.device, pool)
        samples = make_samples(data, pool, texts, entries, objectives, bar)
        embeds = {item_id: torch.from_numpy(x) for item_id, x in retrieved_embeds(pool, samples).items()}
        manifest = {"parameters": data.model_dump() | {"crop": pool.crop}, "counts": {}, "data_hash": ""}
    return Prepared(data.prepared, data.items, manifest, samples, embeds)


def _painter(
    config: Config,
    prepared: Prepared,
    missing: Sequence[Picture],
    device: torch.device,
    dtype: torch.dtype,
    bar: Progress,
) -> Painter:
    """Encodes what the pictures need; then the encoders leave memory, and what draws is loaded."""
    samples = list(dict.fromkeys(picture.asking for picture in missing))  # a variant sees nothing that these lack
    inputs = encode(config, prepared, samples, device, bar)
    model = load_model(config.model, config.method, dtype).to(device)
    reader = SampleReader(prepared, inputs, config.data.top_k, config.method.query)
    return Painter(model, load_vae(config.model.checkpoint).to(device), reader, inputs.tokens("").to(device))


def _draw(painter: Painter, missing: Sequence[Picture], gallery: Gallery, bar: Progress) -> None:
    task, steps = bar.add_task("drawing", total=len(missing)), missing[0].settings["steps"]
    for start in range(0, len(missing), TOGETHER):
        batch = missing[start : start + TOGETHER]

        def show(done: int, start: int = start, count: int = len(batch)) -> None:
            bar.update(task, completed=start + count * done / steps)

        drawn = painter.draw(batch, show)
        for picture, image in zip(batch, drawn, strict=True):
            gallery.add(picture.name, image, picture.settings)
        gallery.write_manifest()
