"""The prepared folder: samples in which everything is decided but the encodings.

prepared.json (format version, parameters, counts, checksums), samples.jsonl (one sample a line),
retrieved.safetensors (the image embeddings that some sample retrieved), foregrounds/ (masks).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import xxhash
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from iamg.foreground import on_white
from iamg.pictures import open_picture, resolve_inside
from iamg_train.whole_files import file_hash, write_whole

FORMAT_VERSION = 1
MANIFEST, SAMPLES, RETRIEVED = "prepared.json", "samples.jsonl", "retrieved.safetensors"
TRAIN, TEST, CONTROL = "train", "test", "control"


@dataclass(frozen=True)
class Sample:
    """One user's history and objective. control[i] is test[i]'s objective with another user's history."""

    split: str
    user_id: str
    objective: str
    history: tuple[str, ...]  # newest first
    text: str  # T*
    item_text: str  # T_i, fitted to one window
    retrieved_texts: tuple[str, ...]  # Φ: fitted to one window, nearest first
    retrieved_ids: tuple[str, ...]  # Ψ: the items, nearest first
    retrieved_text_ids: tuple[str, ...]  # the items that Φ's texts are of
    picture: str  # relative to the items' folder
    picture_hash: str  # xxh3_128 of the file's bytes
    foreground: str | None  # a mask, relative to the prepared folder; None: the whole picture

    def as_seen(self, rewritten: bool, foreground: bool) -> "Sample":
        """What the U-Net sees of it under a variant: T* or T_i, and the foreground or the whole picture."""
        text = self.text if rewritten else self.item_text
        return replace(self, text=text, foreground=self.foreground if foreground else None)


class Prepared:
    """A prepared folder that was opened; pictures are read when asked for."""

    def __init__(
        self, folder: Path, items: Path, manifest: dict, samples: list[Sample], retrieved: Mapping[str, torch.Tensor]
    ):
        self.folder, self.items = folder, items
        self.parameters: dict[str, object] = manifest["parameters"]
        self.counts: dict[str, int] = manifest["counts"]
        self.data_hash: str = manifest["data_hash"]
        self.history_length: int = self.parameters["history_length"]  # k
        self.interest_tags: int = self.parameters["interest_tags"]  # H
        self.top_k: int = self.parameters["top_k"]  # K
        self._samples, self._retrieved = samples, retrieved

    @classmethod
    def open(cls, folder: Path, items: Path) -> "Prepared":
        """Opens what `write_prepared` wrote from the items in the folder `items`.

        Raises FileNotFoundError, or ValueError naming the folder, where it is not as it was written.
        """
        if not (folder / MANIFEST).is_file():
            raise FileNotFoundError(
                f"{folder} holds no prepared data (no {MANIFEST}); run `iamg-train data prepare` first"
            )
        try:
            manifest = json.loads((folder / MANIFEST).read_bytes())
            if manifest["format_version"] != FORMAT_VERSION:
                raise ValueError(f"its format is {manifest['format_version']}, this I-AM-G reads {FORMAT_VERSION}")
            for name, checksum in manifest["files"].items():
                if file_hash(folder / name) != checksum:
                    raise ValueError(f"{name} does not hold what was written")
            samples = [_sample(line) for line in (folder / SAMPLES).read_bytes().splitlines()]
            return cls(folder, items, manifest, samples, _read_retrieved(folder / RETRIEVED))
        except (ValueError, LookupError, TypeError, AttributeError, OSError, SafetensorError) as error:
            raise ValueError(
                f"prepared folder {folder} cannot be used: {error}; run `iamg-train data prepare` again"
            ) from error

    def samples(self, split: str) -> list[Sample]:
        """The samples of "train", "test" or "control"."""
        return [sample for sample in self._samples if sample.split == split]

    def image_embeds(self, ids: Sequence[str]) -> torch.Tensor:
        """Ψ: the image embeddings of retrieved items, (n, image width) float32."""
        return torch.stack([self._retrieved[item_id] for item_id in ids])

    @property
    def image_width(self) -> int:
        return len(next(iter(self._retrieved.values())))

    def open_picture(self, sample: Sample) -> Image.Image:
        """I_i."""
        return open_picture(resolve_inside(self.items, sample.picture))

    def condition_picture(self, sample: Sample) -> Image.Image:
        """I*: the foreground on white, as the IAMGForeground node makes it; without a mask the whole picture."""
        picture = self.open_picture(sample)
        if sample.foreground is None:
            return picture
        mask = open_picture(resolve_inside(self.folder, sample.foreground)).convert("L")
        foreground = on_white(_in_unit_range(picture)[None], _in_unit_range(mask)[None])[0]
        return Image.fromarray((foreground * 255).round().clamp(0, 255).to(torch.uint8).numpy())


def write_prepared(
    folder: Path,
    samples: Iterable[Sample],
    parameters: Mapping[str, object],
    counts: Mapping[str, int],
    image_embeds: Mapping[str, np.ndarray],
) -> None:
    """Writes the folder's files, the manifest last.

    parameters: all that the samples depend on, as JSON. image_embeds: by item, (image width,) float32.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = b"".join(json.dumps(asdict(sample)).encode() + b"\n" for sample in samples)
    embeds = {"image_embeds": torch.from_numpy(np.stack(list(image_embeds.values())))}
    write_whole(folder / SAMPLES, lines)
    write_whole(folder / RETRIEVED, save(embeds, {"ids": json.dumps(list(image_embeds))}))
    manifest = {
        "format_version": FORMAT_VERSION,
        "parameters": parameters,
        "counts": counts,
        "data_hash": xxhash.xxh3_128_hexdigest(json.dumps(parameters, sort_keys=True).encode() + b"\n" + lines),
        "files": {name: file_hash(folder / name) for name in (SAMPLES, RETRIEVED)},
    }
    write_whole(folder / MANIFEST, json.dumps(manifest, indent=1).encode())


def _sample(line: bytes) -> Sample:
    values = json.loads(line)
    return Sample(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def _read_retrieved(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, "pt") as file:
        ids, embeds = json.loads(file.metadata()["ids"]), file.get_tensor("image_embeds")
    return dict(zip(ids, embeds, strict=True))


def _in_unit_range(picture: Image.Image) -> torch.Tensor:
    """(H, W, 3), or (H, W) of a picture in grey."""
    return torch.from_numpy(np.asarray(picture).astype(np.float32) / 255)
