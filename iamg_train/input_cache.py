"""What a training step reads instead of the encoders: text tokens, VAE posteriors and image embeddings, encoded once.

A folder of the cache is named after the encoder's weights and the settings, and a row after its content: another
encoder fills another folder, and a changed input recomputes only itself.
"""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import xxhash
from PIL import Image

from iamg.fingerprint import probe_image
from iamg.pictures import resolve_inside
from iamg_train.clip_files import TEXT_PREFIXES, read_weights, text_tower, vision_tower
from iamg_train.diffusion_files import LATENT_CHANNELS, load_vae, pixels_a_latent, vae_weights
from iamg_train.encoders import ClipTokenizer, TextEncoder, VisionEncoder, weights_fingerprint
from iamg_train.prepared import Prepared, Sample
from iamg_train.row_cache import RowCache
from iamg_train.whole_files import file_hash

Input = TypeVar("Input")
Encode = Callable[[list[Input]], torch.Tensor]  # n inputs into rows (n, *shape)
Progress = Callable[[str, int, int], None]  # the stage, how many are done, how many there are to do

TEXT_BATCH = 32
PROBE_KEY = xxhash.xxh3_128_hexdigest(b"the fingerprint's picture")


class TextCache:
    """The text tower's rows of every text seen before, in `folder`; the tower is loaded only for new texts."""

    def __init__(
        self,
        folder: Path,
        checkpoint: Path,
        dtype: torch.dtype = torch.float16,
        device: str | torch.device = "cpu",
    ):
        self.checkpoint, self.device = checkpoint, device
        tower = text_tower(read_weights(checkpoint, TEXT_PREFIXES), checkpoint.name)
        self.width = len(tower["text_model.final_layer_norm.weight"])
        name = _folder_name("texts", weights_fingerprint(tower), dtype)
        self.rows = RowCache.open(folder / name, (ClipTokenizer.length, self.width), dtype)

    def ensure(self, texts: Sequence[str], progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Encode each text that is not there yet, once; `progress` is told how many of them are done."""
        missing = {key: text for text in texts if (key := text_key(text)) not in self.rows}
        _fill(self.rows, missing, self._load, TEXT_BATCH, progress)

    def tokens(self, text: str) -> torch.Tensor:
        """(77, width) float32."""
        return self.rows[text_key(text)].float()

    def pooled(self, text: str) -> np.ndarray:
        """(width,) float32: the end token's row, the text's key in a pool."""
        return self.tokens(text)[self._tokenizer.end_of([text])[0]].numpy()

    def _load(self) -> Encode[str]:
        return TextEncoder(self.checkpoint, self.device).encode_tokens

    @cached_property
    def _tokenizer(self) -> ClipTokenizer:
        return ClipTokenizer()


@dataclass
class InputCache:
    """The encoded inputs of the samples that it was filled for."""

    texts: TextCache
    latents: RowCache  # mean and standard deviation, (2, 4, h, w)
    images: RowCache
    image_keys: dict[tuple[str, str | None], str]  # by picture and mask

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(4, h, w)."""
        return self.latents.shape[1:]

    def posterior(self, sample: Sample) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of I_i's latents, each (4, h, w) float32, in the U-Net's units."""
        mean, deviation = self.latents[sample.picture_hash].float()
        return mean, deviation

    def image_embeds(self, sample: Sample) -> torch.Tensor:
        """CLIP Vision's embedding of I*, (image width,) float32."""
        return self.images[self.image_keys[sample.picture_hash, sample.foreground]].float()

    def tokens(self, text: str) -> torch.Tensor:
        """(77, width) float32."""
        return self.texts.tokens(text)

    def pooled(self, text: str) -> np.ndarray:
        """(width,) float32."""
        return self.texts.pooled(text)


def fill_caches(
    prepared: Prepared,
    samples: Sequence[Sample],
    checkpoint: Path,
    clip_vision: Path,
    crop: str,
    folder: Path,
    resolution: int,
    dtype: torch.dtype = torch.float16,
    device: str | torch.device = "cpu",
    batch_size: int = 16,
    progress: Progress = lambda stage, done, total: None,
) -> InputCache:
    """Encode what the samples need and `folder` lacks; one encoder at a time is in memory, and none after.

    Raises ValueError for files that hold no such encoder and for pictures that cannot be read, OSError on a full
    disk; what was encoded until then is kept.
    """
    texts = TextCache(folder, checkpoint, dtype, device)
    wanted = dict.fromkeys(x for s in samples for x in (s.text, s.item_text, *s.retrieved_texts))
    texts.ensure(["", *wanted], partial(progress, "texts"))

    vae = vae_weights(checkpoint)
    side = resolution // pixels_a_latent(vae)
    name = _folder_name("latents", weights_fingerprint(vae), resolution, dtype)
    latents = RowCache.open(folder / name, (2, LATENT_CHANNELS, side, side), dtype)
    missing = {s.picture_hash: s for s in samples if s.picture_hash not in latents}
    load = partial(_posteriors, prepared, checkpoint, resolution, device)
    _fill(latents, missing, load, batch_size, partial(progress, "latents"))

    images = _image_rows(folder, clip_vision, crop, dtype)
    keys = {(s.picture_hash, s.foreground): image_key(prepared, s) for s in samples}
    missing = {
        key: partial(prepared.condition_picture, s)
        for s in samples
        if (key := keys[s.picture_hash, s.foreground]) not in images
    }
    load = partial(_image_embeds, clip_vision, crop, device)
    _fill(images, missing, load, batch_size, partial(progress, "image embeddings"))
    return InputCache(texts, latents, images, keys)


def image_probe(
    clip_vision: Path, crop: str, folder: Path, dtype: torch.dtype, device: str | torch.device
) -> np.ndarray:
    """What this CLIP Vision makes of the fingerprint's picture, (image width,) float32, by which a pool is recognised."""
    images = _image_rows(folder, clip_vision, crop, dtype)
    missing = {} if PROBE_KEY in images else {PROBE_KEY: probe_image}
    _fill(images, missing, partial(_image_embeds, clip_vision, crop, device), 1, lambda done, total: None)
    return images[PROBE_KEY].float().numpy()


def training_pixels(image: Image.Image, resolution: int) -> torch.Tensor:
    """(3, resolution, resolution) in -1..1: the shortest side resized, the middle square cut out."""
    scale = resolution / min(image.size)
    width, height = (max(resolution, round(scale * side)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    left, top = (width - resolution) // 2, (height - resolution) // 2
    image = image.crop((left, top, left + resolution, top + resolution))
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)


def text_key(text: str) -> str:
    return xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass"))


def image_key(prepared: Prepared, sample: Sample) -> str:
    """The key of I*: of the picture's bytes and the mask's."""
    if sample.foreground is None:
        return sample.picture_hash
    mask = file_hash(resolve_inside(prepared.folder, sample.foreground))
    return xxhash.xxh3_128_hexdigest(f"{sample.picture_hash} {mask}".encode())


def _posteriors(prepared: Prepared, checkpoint: Path, resolution: int, device: str | torch.device) -> Encode[Sample]:
    vae = load_vae(checkpoint).to(device)

    def encode(samples: list[Sample]) -> torch.Tensor:
        """(n, 2, 4, h, w); one picture at a time, because a VAE needs about 2 GB for one of 512x512."""
        pixels = (training_pixels(prepared.open_picture(sample), resolution) for sample in samples)
        return torch.cat([torch.stack(vae.posterior(x[None]), dim=1).cpu() for x in pixels])

    return encode


def _image_rows(folder: Path, clip_vision: Path, crop: str, dtype: torch.dtype) -> RowCache:
    vision = vision_tower(read_weights(clip_vision), clip_vision.name)
    name = _folder_name("images", weights_fingerprint(vision), crop, dtype)
    return RowCache.open(folder / name, (len(vision["visual_projection.weight"]),), dtype)


def _image_embeds(clip_vision: Path, crop: str, device: str | torch.device) -> Encode[Callable[[], Image.Image]]:
    encoder = VisionEncoder(clip_vision, crop, device)
    return lambda pictures: torch.from_numpy(encoder.encode_images([open_one() for open_one in pictures]))


def _folder_name(kind: str, fingerprint: str, *settings: object) -> str:
    return "-".join([kind, fingerprint[:12], *(str(x).removeprefix("torch.") for x in settings)])


def _fill(
    cache: RowCache,
    missing: dict[str, Input],
    load: Callable[[], Encode[Input]],
    batch_size: int,
    progress: Callable[[int, int], None],
) -> None:
    """Encode the missing inputs into the cache; the encoder is loaded if there are any, and leaves memory after."""
    if not missing:
        return
    cache.check_room(len(missing))
    encode, keys = load(), list(missing)
    for start in range(0, len(keys), batch_size):
        batch = keys[start : start + batch_size]
        rows = encode([missing[key] for key in batch]).to(cache.dtype)
        if not rows.isfinite().all():
            raise ValueError(
                f"an encoder gives numbers that {cache.dtype} cannot hold, for {cache.folder}; set cache_dtype to float32, "
                "or, if it is that already, use other weights"
            )
        cache.append(batch, rows)
        progress(start + len(batch), len(keys))
    del encode
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
