"""The tagger that a node's inputs name, in a ComfyUI that has other models to run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import io

from ..iamg.tagging import MINI_CLIP, Host, TaggerModels, make_tagger
from ..iamg.tagging.cache import CachedTagger
from ..iamg.tagging.transformers_models import unload_models
from .folders import clip_models, endpoint_settings, language_models, tag_cache

NO_MODEL = "none"
ACTIVATIONS = 1.2  # of the weights' size: what a model needs with its activations


@dataclass(frozen=True)
class ChosenModels:
    """The optional inputs of nodes that have a tagger."""

    clip_model: str = MINI_CLIP
    vision_model: str = NO_MODEL
    language_model: str = NO_MODEL
    keep_loaded: bool = False


def model_inputs() -> list[io.Input]:
    """The last inputs of nodes that have a tagger, in the order of ChosenModels."""
    folders = [NO_MODEL, *language_models()]
    return [
        io.Combo.Input(
            "clip_model",
            options=list(clip_models()),
            default=MINI_CLIP,
            optional=True,
            advanced=True,
            tooltip="What a clip tagger looks with: a model of models/open_clip. iamg_mini comes with the pack and knows "
            "nothing but the mini posters.",
        ),
        io.Combo.Input(
            "vision_model",
            options=folders,
            default=NO_MODEL,
            optional=True,
            advanced=True,
            tooltip="What a transformers tagger looks at pictures with: a vision-language model of models/LLM.",
        ),
        io.Combo.Input(
            "language_model",
            options=folders,
            default=NO_MODEL,
            optional=True,
            advanced=True,
            tooltip="What a transformers tagger reads texts with: a chat model of models/LLM; it may be the same.",
        ),
        io.Boolean.Input(
            "keep_loaded",
            default=False,
            optional=True,
            advanced=True,
            tooltip="Keep these two in memory for the next run. Quicker, but drawing has less memory.",
        ),
    ]


def show_progress() -> Callable[[int, int], None]:
    """A progress bar on the node that runs."""
    bar = comfy.utils.ProgressBar(1)
    return lambda done, total: bar.update_absolute(done, total)


@contextmanager
def cached_tagger(
    name: str, chosen: ChosenModels, progress: Callable[[int, int], None] = lambda done, total: None
) -> Iterator[CachedTagger]:
    """The tagger of that name, which remembers what it was asked; only models that the inputs list are opened.

    At the end the models' weights leave the memory, unless they were asked to stay.
    """

    def answered(done: int, total: int) -> None:
        progress(done, total)
        comfy.model_management.throw_exception_if_processing_interrupted()

    folders = language_models() if name.startswith("transformers") else {}
    models = TaggerModels(
        clip=clip_models().get(chosen.clip_model),
        vision=folders.get(chosen.vision_model),
        language=folders.get(chosen.language_model),
        device=str(comfy.model_management.get_torch_device()),
        endpoint=endpoint_settings(),
    )
    try:
        yield CachedTagger(make_tagger(name, models, Host(_make_room, answered)), tag_cache())
    finally:
        if not chosen.keep_loaded:
            unload_models()


def _make_room(size: int, device: str) -> None:
    """Has ComfyUI take models of its own off the device, as far as is needed."""
    memory = comfy.model_management
    memory.free_memory(ACTIVATIONS * size + memory.minimum_inference_memory(), torch.device(device))
