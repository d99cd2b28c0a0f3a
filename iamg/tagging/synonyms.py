"""Tags that mean nearly the same, found by sentence embeddings, kept in a file to read and edit, merged into one.

The paper's own plan for later: its tags are compared as they are spelled.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image

from ..scenarios import Scenario
from ..tag_text import merge_key, normalize_tag
from . import ItemTags, Tagger

THRESHOLD = 0.9
"""Cosine from which on two tags are one. Sentence embedders put what is said of the same things close together, siblings
and opposites too ("1980s" and "1990s", "light" and "dark tones"), so that only near-rewordings may pass. Chosen for that
reason, not measured: read the file, and raise or lower it for your embedder."""

MODULE = re.compile(r"sentence_transformers(?:\.\w+)*\.(?:Transformer|Pooling|Normalize)")

Embed = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Synonym:
    tag: str
    merged_into: str
    cosine: float


def near_synonyms(counts: Mapping[str, int], embed: Embed, threshold: float = THRESHOLD) -> list[Synonym]:
    """The tags that stand so near to a more frequent one that they are merged into it, the least near first.

    Of tags that are near each other the most frequent stays, then the shortest, then the first of the alphabet. A tag is
    compared with tags that stay, never with merged ones, so that no chain of small steps leads away from its meaning.
    `embed` gives (tags, width), of any length.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"the threshold of near-synonyms is {threshold}, expected a cosine above 0, up to 1")
    tags = sorted(counts, key=lambda tag: (-counts[tag], len(tag), tag))
    if not tags:
        return []
    embeds = np.asarray(embed(tags), dtype=np.float32)
    if embeds.ndim != 2 or len(embeds) != len(tags) or not np.isfinite(embeds).all():
        raise ValueError(f"the embedder gave {embeds.shape} for {len(tags)} tags, expected a finite vector for each")
    embeds /= np.maximum(np.linalg.norm(embeds, axis=1, keepdims=True), 1e-12)
    staying, count, found = np.empty_like(embeds), 0, []
    names: list[str] = []
    for tag, vector in zip(tags, embeds, strict=True):
        cosines = staying[:count] @ vector
        nearest = int(cosines.argmax()) if count else 0
        if count and cosines[nearest] >= threshold:
            found.append(Synonym(tag, names[nearest], round(float(cosines[nearest]), 4)))
        else:
            staying[count] = vector
            names.append(tag)
            count += 1
    return sorted(found, key=lambda synonym: (synonym.cosine, synonym.tag))


def write_synonyms(path: Path, synonyms: Iterable[Synonym]) -> None:
    """A JSON object a line; a file that is there stays whole until the new one is."""
    path = Path(path)
    beside = path.with_name(path.name + ".part")
    lines = (json.dumps(asdict(synonym), ensure_ascii=False) + "\n" for synonym in synonyms)
    with beside.open("w", encoding="utf-8") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def read_synonyms(path: Path) -> dict[str, str]:
    """What each tag is merged into, from a file of `write_synonyms`, as a person may have edited it.

    ValueError, with the line, where it is no such file, or merges a tag twice or into a tag that is merged itself.
    """
    path, found, lines = Path(path), {}, {}
    try:
        rows = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"synonyms file {path} is not UTF-8 text: {error}") from error
    for number, row in enumerate(rows, start=1):
        if not row.strip():
            continue
        tag, into = _pair(row, f"line {number} of synonyms file {path}")
        key = merge_key(tag)
        if key in lines:
            raise ValueError(
                f"line {number} of synonyms file {path} merges {tag!r}, as line {lines[key]} does; keep one"
            )
        lines[key] = number
        found[tag] = into
    for tag, into in found.items():
        if merge_key(into) in lines:
            raise ValueError(
                f"line {lines[merge_key(tag)]} of synonyms file {path} merges {tag!r} into {into!r}, which line "
                f"{lines[merge_key(into)]} merges itself; name the tag that stays, or delete a line"
            )
    return found


def _pair(row: str, place: str) -> tuple[str, str]:
    try:
        entry = json.loads(row)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{place} is not JSON: {error}") from error
    names = [entry.get(key) for key in ("tag", "merged_into")] if isinstance(entry, dict) else [None]
    if not all(isinstance(name, str) and normalize_tag(name) for name in names):
        raise ValueError(f'{place} is {row[:80]!r}, expected {{"tag": "...", "merged_into": "..."}}')
    return tuple(map(normalize_tag, names))


def sentence_embedder(folder: Path) -> Embed:
    """A sentence-embedding model from its folder, as sentence-transformers saves one: modules.json and safetensors.

    Nothing is fetched, and no code of the folder runs: ValueError where its modules are other than a transformer, its
    pooling and a normalisation. Needs sentence-transformers.
    """
    folder = Path(folder)
    modules = folder / "modules.json"
    if not modules.is_file():
        raise FileNotFoundError(
            f"{folder} has no modules.json; give the folder of a sentence-embedding model as sentence-transformers saves it"
        )
    try:
        kinds = [module["type"] for module in json.loads(modules.read_text(encoding="utf-8"))]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{modules} is no list of modules with their types: {error!r}") from error
    for kind in kinds:
        if not MODULE.fullmatch(str(kind)):
            raise ValueError(
                f"{modules} names the module {kind!r}; only sentence-transformers' Transformer, Pooling and Normalize are "
                "loaded, choose a model made of these"
            )
    if not list(folder.rglob("model*.safetensors")):
        raise FileNotFoundError(
            f"{folder} has no model.safetensors; weights in other formats can run code, and are refused"
        )
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ValueError("near-synonyms need sentence-transformers: pip install sentence-transformers") from error
    model = SentenceTransformer(
        str(folder),
        device="cpu",
        local_files_only=True,
        trust_remote_code=False,
        model_kwargs={"use_safetensors": True},
    )
    return lambda tags: model.encode(list(tags), normalize_embeddings=True, show_progress_bar=False)


class MergedTagger:
    """A tagger whose near-synonyms are merged; take the synonyms away, and its own tags are back."""

    def __init__(self, tagger: Tagger, synonyms: Mapping[str, str]):
        self.tagger = tagger
        self.name = tagger.name
        self._into = {merge_key(normalize_tag(tag)): into for tag, into in synonyms.items()}
        digest = sha256(json.dumps(sorted(self._into.items())).encode()).hexdigest()
        self.parameters = {**tagger.parameters, "synonyms": digest}

    def tag(
        self, images: Sequence[Image.Image | None], texts: Sequence[str | None], scenario: Scenario
    ) -> list[ItemTags]:
        found = self.tagger.tag(images, texts, scenario)
        return [ItemTags(self._merged(tags.image), self._merged(tags.text)) for tags in found]

    def _merged(self, tags: Sequence[str]) -> tuple[str, ...]:
        merged: dict[str, str] = {}
        for tag in tags:
            tag = self._into.get(merge_key(normalize_tag(tag)), tag)
            merged.setdefault(merge_key(normalize_tag(tag)), tag)
        return tuple(merged.values())
