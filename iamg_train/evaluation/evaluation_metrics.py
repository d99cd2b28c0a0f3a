"""Which metrics an evaluation has: all that can be computed with what is there."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from iamg_train.evaluation.catalogue import Catalogue, Histories
from iamg_train.evaluation.embeddings import ClipEmbeddings, Embeddings
from iamg_train.evaluation.encoders import Clip, Dino, Grey
from iamg_train.evaluation.methods import Method
from iamg_train.evaluation.metric_settings import MetricSettings
from iamg_train.evaluation.metrics import Definition, ItemMetric, PictureMetric
from iamg_train.evaluation.metrics_copies import Copies, retrieved_pictures
from iamg_train.evaluation.metrics_diversity import Diversity
from iamg_train.evaluation.metrics_embeddings import ClipScore, HistorySimilarity, OriginalSimilarity, mean_pictures
from iamg_train.evaluation.metrics_likeness import SMALLEST_MS_SSIM, cached_backbone, likenesses, lpips
from iamg_train.evaluation.metrics_users import History, OwnMinusOthers, Profiles, WhichUser
from iamg_train.evaluation.pictures import Pictures
from iamg_train.evaluation.user_galleries import UserGalleries

EMBEDDINGS = "embeddings"
KEPT_TEXTS = 4096  # of users' interests, in memory


@dataclass
class Metrics:
    """Those of pictures, those of the null run, and those of items; and what is to be known about them."""

    of_pictures: list[PictureMetric]
    of_shuffled: list[PictureMetric]
    of_items: list[ItemMetric]
    warnings: list[str]

    def definitions(self) -> list[Definition]:
        return [metric.definition for metric in (*self.of_pictures, *self.of_items)]


def choose_metrics(
    settings: MetricSettings, catalogue: Catalogue, histories: Histories, methods: Sequence[Method], out: Path
) -> Metrics:
    """FileNotFoundError or ValueError where a model that was named is not there, or is none."""
    pictures, originals = Pictures(), catalogue.pictures
    found = Metrics(list(likenesses(pictures, originals, settings.size)), [], [], [])
    if settings.size < SMALLEST_MS_SSIM:
        found.warnings.append(f"MS-SSIM is left out: it needs {SMALLEST_MS_SSIM} pixels, and --size is {settings.size}")
    _add_lpips(found, settings, pictures, originals)

    own, shuffled = (UserGalleries(histories, settings.gallery_users, settings.seed, x) for x in (False, True))
    if own.size < 2:
        found.warnings.append("what suits users more than others is left out: there are too few users with a history")

    def compare_users(profiles: Profiles) -> None:
        for kind in (OwnMinusOthers, WhichUser) if own.size > 1 else ():
            found.of_pictures.append(kind(profiles, own, pictures))
            found.of_shuffled.append(kind(profiles, shuffled, pictures))

    def add_similarities(name: str, embeddings: Embeddings) -> None:
        similarity = HistorySimilarity(name, embeddings, pictures, originals, histories)
        found.of_pictures += [OriginalSimilarity(name, embeddings, pictures, originals), similarity]

        def rows(histories: Sequence[History]) -> np.ndarray:
            return mean_pictures(embeddings, originals, histories)

        def content(history: History) -> list[str]:
            return [pictures.hash(originals[item]) for item in history]

        compare_users(Profiles(similarity.definition, embeddings, rows, content))
        found.of_items.append(Diversity(name, embeddings, pictures))

    if settings.clip_model:
        clip = Clip(settings.clip_model)
        embeddings = ClipEmbeddings(out / EMBEDDINGS, clip, pictures)
        found.of_pictures += [ClipScore(embeddings, pictures, catalogue.texts, x) for x in (False, True)]
        add_similarities("CLIP-I", embeddings)
        if catalogue.tags:
            compare_users(_interests(embeddings, catalogue, settings.interest_tags))
        else:
            found.warnings.append("interest tags are left out: no item has tags; run `iamg-train tag` on the items")
        found.warnings += _same_encoder(clip, methods)
    else:
        found.warnings.append("CLIP's metrics are left out: name an open_clip model's folder with --clip-model")
    if settings.dino:
        add_similarities("DINO", Embeddings(out / EMBEDDINGS, Dino(settings.dino), pictures))

    grey = Embeddings(out / EMBEDDINGS, Grey(), pictures)
    retrieved = retrieved_pictures(methods, originals)
    found.of_pictures += [
        Copies("original", lambda shot: [originals[shot.objective]], grey, pictures),
        Copies("history", lambda shot: [originals[x] for x in histories.get(shot.pair, ())], grey, pictures),
        Copies("retrieved pictures", lambda shot: retrieved.get(shot.file, []), grey, pictures),
    ]
    return found


def _add_lpips(found: Metrics, settings: MetricSettings, pictures: Pictures, originals: dict[str, Path]) -> None:
    weights = settings.lpips_weights or cached_backbone(settings.lpips_net)
    if settings.lpips_weights or weights.is_file():
        found.of_pictures.append(lpips(settings.lpips_net, weights, pictures, originals, settings.size))
    else:
        found.warnings.append(
            f"LPIPS is left out: nothing is downloaded, and torchvision's cache has no {weights.name}; give that file "
            "with --lpips-weights"
        )


def _interests(embeddings: ClipEmbeddings, catalogue: Catalogue, limit: int) -> Profiles:
    """Eq 5's tags as CLIP reads them."""
    clip = embeddings.encoder
    definition = Definition(
        "interest tags",
        f"the cosine of the picture with the user's {limit} most frequent tags, comma separated, by {clip.name}",
        "higher",
        f"{clip.name} {clip.fingerprint}",
    )

    @lru_cache(KEPT_TEXTS)
    def text(history: History) -> str:
        return ", ".join(catalogue.interests(history, limit))

    def rows(histories: Sequence[History]) -> np.ndarray:
        return embeddings.of_texts([text(history) for history in histories])

    return Profiles(definition, embeddings, rows, text)


def _same_encoder(clip: Clip, methods: Sequence[Method]) -> list[str]:
    own = clip.vision_fingerprint()
    weights = {method.name: method.settings.get("weights") for method in methods}
    drawn = [name for name, of in weights.items() if isinstance(of, dict) and own and of.get("clip_vision") == own]
    if not drawn:
        return []
    return [
        f"drawn with the CLIP that measures them ({clip.name}), whose figures flatter them: {', '.join(drawn)}; choose "
        "another --clip-model"
    ]
