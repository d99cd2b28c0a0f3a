"""What pictures and texts are compared with: CLIP, DINO, and small grey copies, which need no weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image

from iamg.mini.family import read_family
from iamg.mini.places import FAMILY
from iamg.tagging import MINI_CLIP
from iamg.tagging.mini_clip import mini_clip
from iamg.tagging.model_folder import check_folder, fingerprint
from iamg.tagging.open_clip_files import WEIGHTS, OpenClip, open_clip_folder
from iamg_train.encoders import vision_fingerprint, weights_fingerprint
from iamg_train.evaluation.pictures import middle_square

GREY_SIDE = 32  # pixels


class ImageEncoder(Protocol):
    """Makes a row of numbers of a picture."""

    name: str
    fingerprint: str  # other weights, other fingerprint
    dtype: torch.dtype

    def embed_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """(n, width)."""
        ...


class Clip:
    """CLIP's two towers: the pack's own small one, or the folder of an open_clip model."""

    dtype = torch.float32

    def __init__(self, chosen: str | Path):
        mini = str(chosen) == MINI_CLIP
        self._model: OpenClip = mini_clip() if mini else open_clip_folder(Path(chosen))
        self.name = MINI_CLIP if mini else Path(chosen).resolve().name
        self.fingerprint = self._model.fingerprint
        self._weights = None if mini else Path(chosen) / WEIGHTS

    def embed_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        return self._model.embed_images(images)

    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """(n, width); a text longer than the tower's window is cut."""
        return self._model.embed_texts(texts)

    def vision_fingerprint(self) -> str | None:
        """Of the vision tower, as manifests have it; None for a tower in no form that a CLIP Vision file has."""
        if self._weights is None:
            return weights_fingerprint(read_family(FAMILY).clip_vision)
        try:
            return vision_fingerprint(self._weights)
        except ValueError:
            return None


class Dino:
    """A self-supervised image model (DINO, DINOv2) from a folder as transformers saves it: the class token."""

    dtype = torch.float32

    def __init__(self, folder: Path):
        check_folder(folder)
        self.name, self.fingerprint, self._folder = folder.resolve().name, fingerprint(folder), folder
        self._loaded = None

    def embed_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        processor, model = self._load()
        with torch.inference_mode():
            found = model(**processor(images=list(images), return_tensors="pt")).last_hidden_state[:, 0]
        return torch.nn.functional.normalize(found, dim=1)

    def _load(self):
        if self._loaded is None:
            from transformers import AutoImageProcessor, AutoModel

            how = {"local_files_only": True, "trust_remote_code": False}
            try:
                processor = AutoImageProcessor.from_pretrained(self._folder, **how)
                model = AutoModel.from_pretrained(self._folder, use_safetensors=True, **how).eval()
            except Exception as error:  # transformers' own are of many kinds
                raise ValueError(f"{self._folder} cannot be loaded as an image model: {error}") from error
            self._loaded = processor, model
        return self._loaded


@dataclass(frozen=True)
class Grey:
    """The middle square in grey, which tells near-duplicates."""

    name: str = "grey"
    fingerprint: str = f"middle square, {GREY_SIDE} x {GREY_SIDE}, bicubic"
    dtype: torch.dtype = torch.uint8

    def embed_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        return torch.tensor(np.stack([middle_square(x, GREY_SIDE, "L").reshape(-1) for x in images]))
