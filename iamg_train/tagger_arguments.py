"""The arguments that say where tags come from, shared by all commands that tag."""

import argparse
from collections.abc import Callable
from pathlib import Path

from iamg.tagging import MINI_CLIP, TAGGERS, Tagger, TaggerModels, make_tagger
from iamg_train.argument_types import positive

DTYPES = ("auto", "float16", "bfloat16", "float32")


def add_tagger_arguments(command: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    def add(name: str, what: str, **more: object) -> None:
        command.add_argument(name, help=what, **more)

    add("--tagger", "where tags come from", choices=TAGGERS, default=TAGGERS[0])
    add(
        "--clip-model",
        f"what the clip tagger looks with: an open_clip model's folder, or {MINI_CLIP}",
        metavar="DIR",
    )
    add(
        "--vision-model",
        "what sees pictures for the transformers tagger: a folder, or an id of the Hugging Face hub, which is fetched; "
        "for the endpoint tagger, a model's name there",
        metavar="MODEL",
    )
    add("--language-model", "what reads texts; the same", metavar="MODEL")
    add("--tagger-device", "where the transformers tagger runs: auto, cpu, cuda, cuda:1 ...", default="auto")
    add("--tagger-dtype", "what it computes in; auto: 16 bits on a GPU", choices=DTYPES, default=DTYPES[0])
    add("--tagger-batch-size", "questions that it answers together", type=positive, default=8, metavar="N")
    add(
        "--endpoint",
        "settings of the endpoint tagger, TOML (default: the environment's IAMG_ENDPOINT_URL ...)",
        type=Path,
        metavar="FILE",
    )
    add("--tag-cache", "keeps every answer, so that an item is tagged once", type=Path, metavar="FILE")
    add("--exclude-tags", "leave these tags out", nargs="+", default=[], metavar="TAG")
    add("--only-tags", "keep no other tags than these", nargs="+", default=[], metavar="TAG")
    add("--synonyms", "tags to merge, as `iamg-train tag` reports them", type=Path, metavar="FILE")


def tagger_of(arguments: argparse.Namespace, watch: Callable[[Tagger], Tagger] = lambda tagger: tagger) -> Tagger:
    """The tagger that the arguments ask for: cached as it answers, its synonyms merged, then filtered.

    `watch` is given what answers where the cache does not.
    """
    tagger = watch(make_tagger(arguments.tagger, tagger_models(arguments)))
    if arguments.tag_cache:
        from iamg.tagging.cache import CachedTagger

        tagger = CachedTagger(tagger, arguments.tag_cache)
    if arguments.synonyms:
        from iamg.tagging.synonyms import MergedTagger, read_synonyms

        tagger = MergedTagger(tagger, read_synonyms(arguments.synonyms))
    if arguments.exclude_tags or arguments.only_tags:
        from iamg.tagging.filters import FilteredTagger, TagFilter

        tagger = FilteredTagger(tagger, TagFilter(tuple(arguments.exclude_tags), tuple(arguments.only_tags)))
    return tagger


def tagger_models(arguments: argparse.Namespace) -> TaggerModels:
    return TaggerModels(
        clip=arguments.clip_model,
        vision=arguments.vision_model,
        language=arguments.language_model,
        device=arguments.tagger_device,
        dtype=arguments.tagger_dtype,
        batch_size=arguments.tagger_batch_size,
        endpoint=arguments.endpoint,
    )
