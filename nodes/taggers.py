"""The tagger that a node's inputs name."""

from comfy_api.latest import io

from ..iamg.tagging import MINI_CLIP, make_tagger
from ..iamg.tagging.cache import CachedTagger
from .folders import clip_models, tag_cache


def clip_model_input() -> io.Combo.Input:
    """The optional last input of nodes that have a tagger."""
    return io.Combo.Input(
        "clip_model",
        options=list(clip_models()),
        default=MINI_CLIP,
        optional=True,
        advanced=True,
        tooltip="What a clip tagger looks with: a model of models/open_clip. iamg_mini comes with the pack and knows "
        "nothing but the mini posters.",
    )


def cached_tagger(name: str, clip_model: str) -> CachedTagger:
    """The tagger of that name, which remembers what it was asked; only models that the input lists are opened."""
    return CachedTagger(make_tagger(name, clip_models().get(clip_model)), tag_cache())
