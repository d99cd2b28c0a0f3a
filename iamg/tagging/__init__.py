"""Eq 2 and Eq 3: tags of an item's picture and of its text."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL import Image

    from ..scenarios import Scenario
    from .asking import AnswerModel, AskingTagger
    from .clip import ClipModel

TAGGERS = (
    "visual + keywords",
    "visual",
    "keywords",
    "clip + keywords",
    "clip",
    "transformers",
    "transformers + keywords",
    "endpoint",
    "endpoint + keywords",
)
MINI_CLIP = "iamg_mini"  # the CLIP model that the pack carries


@dataclass(frozen=True)
class ItemTags:
    """One item's tags with their modality: `image` is tags^I (Eq 2), `text` is tags^T (Eq 3)."""

    image: tuple[str, ...] = ()
    text: tuple[str, ...] = ()


class Tagger(Protocol):
    """Reads tags from items' pictures, texts, or both."""

    name: str
    parameters: Mapping[str, object]  # JSON-able; other parameters, other tags

    def tag(
        self,
        images: Sequence["Image.Image | None"],
        texts: Sequence[str | None],
        scenario: "Scenario",
    ) -> list[ItemTags]:
        """One ItemTags an item, in order; images and texts are equally long, None where an item has none.

        Each modality gives fewer than `scenario.tag_limit` tags.
        """
        ...


class IncompleteTags(RuntimeError):
    """A tagger failed midway: `cause` says why, `tags` has the items that were finished, by their place."""

    def __init__(self, tags: Mapping[int, ItemTags], cause: BaseException):
        super().__init__(str(cause) or repr(cause))
        self.tags, self.cause = dict(tags), cause


@dataclass(frozen=True)
class TaggerModels:
    """What taggers look and read with; each takes what it needs."""

    clip: str | Path | None = None
    """MINI_CLIP, or an open_clip model's folder."""
    vision: str | Path | None = None
    """For Eq 2: a folder of transformers, or an id of the Hugging Face hub; for an endpoint, the model's name there."""
    language: str | Path | None = None
    """The same for Eq 3."""
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int = 8
    endpoint: Path | None = None
    """A settings file; None: the environment says where the endpoint is."""


@dataclass(frozen=True)
class Host:
    """What a program that runs other things beside taggers is told, and may do."""

    make_room: Callable[[int, str], None] = lambda size, device: None
    """Called before `size` bytes of weights are put on a device."""
    progress: Callable[[int, int], None] = lambda done, total: None
    """Called after each batch with the questions that are answered, and all; may raise to stop."""


def make_tagger(name: str, models: TaggerModels = TaggerModels(), host: Host = Host()) -> Tagger:
    """The tagger of that name, one of TAGGERS; ValueError or FileNotFoundError where a model that it needs is missing."""
    from .clip import ClipTagger
    from .combined import CombinedTagger
    from .keywords import KeywordTagger
    from .visual import VisualTagger

    taggers = {
        "visual": VisualTagger,
        "keywords": KeywordTagger,
        "clip": lambda: ClipTagger(_clip_model(models.clip)),
        "transformers": lambda: _transformers_tagger(models, host),
        "endpoint": lambda: _endpoint_tagger(models, host),
    }
    if name not in TAGGERS:
        raise ValueError(f"there is no tagger {name!r}; choose one of {', '.join(map(repr, TAGGERS))}")
    made = [taggers[part]() for part in name.split(" + ")]
    return made[0] if len(made) == 1 else CombinedTagger(made)


def _transformers_tagger(models: TaggerModels, host: Host) -> "AskingTagger":
    from .transformers_models import TransformersModel

    def model(source: str | Path | None) -> "AnswerModel | None":
        if not source:
            return None
        return TransformersModel(source, models.device, models.dtype, models.batch_size, host.make_room)

    return _asking_tagger("transformers", model(models.vision), model(models.language), host)


def _endpoint_tagger(models: TaggerModels, host: Host) -> "AskingTagger":
    from .endpoint import EndpointModel
    from .endpoint_settings import read_endpoint_settings

    settings = read_endpoint_settings(models.endpoint)
    names = models.vision or settings.vision_model, models.language or settings.language_model
    vision, language = (EndpointModel(settings, str(name)) if name else None for name in names)
    return _asking_tagger("endpoint", vision, language, host)


def _asking_tagger(
    name: str, vision: "AnswerModel | None", language: "AnswerModel | None", host: Host
) -> "AskingTagger":
    from .asking import AskingTagger

    if vision is language is None:
        raise ValueError(
            f"the {name} tagger has no model; choose a vision-language model (for pictures), a language model (for "
            "texts), or both"
        )
    return AskingTagger(name, vision, language, host.progress)


def _clip_model(chosen: str | Path | None) -> "ClipModel":
    if not chosen:
        raise ValueError(
            f"the clip tagger needs a CLIP model; give it the folder of an open_clip model, or {MINI_CLIP!r}, which "
            "knows the mini posters only"
        )
    if chosen == MINI_CLIP:
        from .mini_clip import mini_clip

        return mini_clip()
    from .open_clip_files import open_clip_folder

    return open_clip_folder(Path(chosen))
