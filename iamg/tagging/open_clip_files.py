"""CLIP models for the clip tagger, run by open_clip, from folders as open_clip publishes its models.

A folder holds open_clip_config.json and open_clip_model.safetensors. It may come from a stranger: weights of other
formats are refused, and so is a configuration that names a part to be fetched from elsewhere.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ..pool_files import checksum

if TYPE_CHECKING:
    from torch import Tensor, nn

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
FROM_ELSEWHERE = ("hf_model_name", "hf_tokenizer_name", "tokenizer_kwargs")  # of text_cfg: transformers loads these


@dataclass(frozen=True)
class Towers:
    """What open_clip makes of a file."""

    model: "nn.Module"
    tokenize: Callable[[list[str]], "Tensor"]  # (n, context length)
    pixels: Callable[[Image.Image], "Tensor"]  # (3, height, width)


class OpenClip:
    """Embeddings by open_clip in float32 on the CPU; the weights are loaded when the first is asked for."""

    def __init__(self, fingerprint: str, load: Callable[[], Towers]):
        if find_spec("open_clip") is None:
            raise ValueError("the clip tagger needs open_clip, which is not there; run `pip install open_clip_torch`")
        self.fingerprint, self._load = fingerprint, load

    @cached_property
    def _towers(self) -> Towers:
        return self._load()

    @property
    def logit_scale(self) -> float:
        return self._towers.model.logit_scale.exp().item()

    def embed_texts(self, texts: Sequence[str]) -> "Tensor":
        import torch

        with torch.inference_mode():
            return self._towers.model.encode_text(self._towers.tokenize(list(texts)), normalize=True)

    def embed_images(self, images: Sequence[Image.Image]) -> "Tensor":
        import torch

        with torch.inference_mode():
            pixels = torch.stack([self._towers.pixels(image.convert("RGB")) for image in images])
            return self._towers.model.encode_image(pixels, normalize=True)


def open_clip_folder(folder: Path) -> OpenClip:
    """The model of a folder; FileNotFoundError or ValueError, naming it, where it is no folder to be trusted."""
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} has no {name}; a CLIP model is a folder with {CONFIG} and {WEIGHTS}, as open_clip's models "
                "are published (weights as .bin or .pt are not read)"
            )
    _check_config(folder / CONFIG)
    return OpenClip(f"{checksum(folder / CONFIG)} {checksum(folder / WEIGHTS)}", partial(_read_folder, folder))


def _check_config(path: Path) -> None:
    """ValueError where a configuration is none, or would make open_clip look for parts outside of its folder."""
    try:
        config = json.loads(path.read_bytes())["model_cfg"]
        named = [key for key in FROM_ELSEWHERE if config["text_cfg"].get(key)]
        named += ["timm_model_name"] if ":" in str(config["vision_cfg"].get("timm_model_name")) else []
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is no configuration of an open_clip model: {error!r}") from error
    if named:
        raise ValueError(
            f"{path} names parts that lie elsewhere ({', '.join(named)}); choose a model with CLIP's own tokenizer, "
            "such as ViT-B-32"
        )


def _read_folder(folder: Path) -> Towers:
    import open_clip

    name = f"local-dir:{folder}"
    try:
        model, pixels = open_clip.create_model_from_pretrained(name)
        return Towers(model.eval(), open_clip.get_tokenizer(name), pixels)
    except Exception as error:  # open_clip's own are of many kinds
        raise ValueError(f"{folder} cannot be loaded by open_clip {open_clip.__version__}: {error}") from error
