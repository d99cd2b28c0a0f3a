"""Metrics of embeddings, galleries of users, copies and diversity against naive computations, with known answers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity

from iamg_train.evaluation.embeddings import Embeddings
from iamg_train.evaluation.encoders import GREY_SIDE, Grey
from iamg_train.evaluation.methods import Shot
from iamg_train.evaluation.metrics import Definition
from iamg_train.evaluation.metrics_copies import NEAR_DUPLICATE, Copies
from iamg_train.evaluation.metrics_diversity import Diversity
from iamg_train.evaluation.metrics_embeddings import HistorySimilarity, OriginalSimilarity
from iamg_train.evaluation.metrics_users import OwnMinusOthers, Profiles, WhichUser
from iamg_train.evaluation.pictures import Pictures
from iamg_train.evaluation.user_galleries import UserGalleries

USERS = 400


class Unit:
    """An encoder whose rows are the picture's first pixels, at length 1."""

    name, fingerprint, dtype = "unit", "0", torch.float32

    def embed_images(self, images):
        rows = torch.tensor(np.stack([np.asarray(x, np.float32)[0, :4].reshape(-1) for x in images])) - 127.5
        return torch.nn.functional.normalize(rows, dim=1)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> list[Path]:
    folder, random = tmp_path_factory.mktemp("drawn"), np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(12)]
    for path in paths:
        small = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        small.resize((64, 64), Image.Resampling.BICUBIC).save(path)
    return paths


def unit(path: Path) -> np.ndarray:
    row = np.asarray(Image.open(path), np.float64)[0, :4].reshape(-1) - 127.5
    return row / np.linalg.norm(row)


def test_similarities_are_mean_cosines(drawn, tmp_path):
    pictures, originals = Pictures(), {f"i{n}": path for n, path in enumerate(drawn[:6])}
    embeddings = Embeddings(tmp_path, Unit(), pictures)
    shots = [Shot(drawn[6], "u", "i0", (), 0), Shot(drawn[0], "u", "i0", (), 1)]
    history = HistorySimilarity("unit", embeddings, pictures, originals, {("u", "i0"): ("i1", "i2")})
    expected = [np.mean([unit(shot.file) @ unit(drawn[n]) for n in (1, 2)]) for shot in shots]
    assert history.values(shots) == pytest.approx(expected, abs=1e-5)
    original = OriginalSimilarity("unit", embeddings, pictures, originals)
    assert original.values(shots) == pytest.approx([unit(drawn[6]) @ unit(drawn[0]), 1], abs=1e-5)
    assert history.key(Shot(drawn[6], "stranger", "i0", (), 0)) is None
    assert history.definition.name == "unit, history" and history.definition.direction == "higher"


def test_embeddings_are_computed_once(drawn, tmp_path):
    class Counting(Unit):
        seen = 0

        def embed_images(self, images):
            Counting.seen += len(images)
            return super().embed_images(images)

    first = Embeddings(tmp_path, Counting(), Pictures()).of_pictures([*drawn, *drawn])
    again = Embeddings(tmp_path, Counting(), Pictures()).of_pictures(drawn)
    assert Counting.seen == len(drawn) + 2  # and the probe that tells the width, twice
    assert first[: len(drawn)].tolist() == again.tolist() == first[len(drawn) :].tolist()


def histories() -> dict[tuple[str, str], tuple[str, ...]]:
    """Every tenth user's history holds the item of the user before them."""
    return {(f"u{n}", f"i{n}"): (f"h{n}", f"i{n - 1}" if n % 10 == 1 else f"g{n}") for n in range(USERS)}


def test_galleries_begin_with_the_user_and_hold_nobody_who_met_the_item():
    galleries = UserGalleries(histories(), 10, seed=0)
    for pair, own in histories().items():
        gallery = galleries.of(pair)
        assert gallery[0] == own and len(set(gallery)) == galleries.size == 10
        assert all(pair[1] not in history for history in gallery) and gallery == galleries.of(pair)
    assert {galleries.of(("u3", "i3"))[1]} != {UserGalleries(histories(), 10, seed=1).of(("u3", "i3"))[1]}


def test_the_null_run_takes_random_users_for_the_own():
    shuffled = UserGalleries(histories(), 10, seed=0, shuffled=True)
    firsts = [shuffled.of(pair)[0] for pair in histories()]
    same = sum(first == own for first, own in zip(firsts, histories().values(), strict=True))
    assert same < 6 and len(set(firsts)) > USERS / 2
    assert all(pair[1] not in history for pair in histories() for history in shuffled.of(pair))


def test_a_gallery_is_no_larger_than_there_are_users():
    three = {(f"u{n}", "i"): (f"h{n}",) for n in range(3)}
    assert UserGalleries(three, 10, seed=0).size == 3
    assert UserGalleries({("u", "i"): ("h",)}, 10, seed=0).size == 1


class Vectors:
    """Embeddings that are given by path."""

    def __init__(self, rows):
        self._rows = rows

    def of_pictures(self, paths):
        return np.stack([self._rows[path] for path in paths])


class Named:
    """Pictures whose hash is their name."""

    def hash(self, path):
        return path.name


def user_values(metric, shots: list[Shot], shuffled: bool, strength: float) -> np.ndarray:
    """Of pictures that are noise, and the own user's profile times a strength."""
    random = np.random.default_rng(0)
    profiles = {history: x for history, x in zip(histories().values(), random.normal(size=(USERS, 16)), strict=True)}
    noise = random.normal(size=(len(shots), 16))
    rows = {x.file: n + strength * profiles[histories()[x.pair]] for x, n in zip(shots, noise, strict=True)}
    of_cosine = Definition("profile", "the product with the profile", "higher")
    made = Profiles(
        of_cosine, Vectors(rows), lambda found: np.stack([profiles[x] for x in found]), lambda history: history
    )
    return np.array(metric(made, UserGalleries(histories(), 8, 0, shuffled), Named()).values(shots))


SHOTS = [Shot(Path(f"{user}-{n}.png"), user, item, (), n) for user, item in histories() for n in range(2)]


@pytest.mark.parametrize("metric, chance", [(WhichUser, 1 / 8), (OwnMinusOthers, 0.0)])
def test_permuted_users_are_at_chance_and_their_own_are_above(metric, chance):
    def interval(shuffled: bool, strength: float) -> tuple[float, float]:
        """99.9 % of a mean over users, by the normal law."""
        means = user_values(metric, SHOTS, shuffled, strength).reshape(USERS, 2).mean(axis=1)
        error = 3.29 * means.std(ddof=1) / np.sqrt(USERS)
        return means.mean() - error, means.mean() + error

    for shuffled, strength in ((True, 0.0), (True, 0.5), (False, 0.0)):
        low, high = interval(shuffled, strength)
        assert low < chance < high
    assert interval(False, 0.5)[0] > chance


def test_user_metrics_are_those_of_a_loop():
    shots = SHOTS[:80]
    random = np.random.default_rng(0)
    profiles = dict(zip(histories().values(), random.normal(size=(USERS, 16)), strict=True))
    noise = random.normal(size=(len(shots), 16))
    right, gaps = [], []
    for shot, row in zip(shots, noise, strict=True):
        gallery = UserGalleries(histories(), 8, 0).of(shot.pair)
        cosines = [sum(a * b for a, b in zip(profiles[x], row, strict=True)) for x in gallery]
        right.append(float(all(cosines[0] > x for x in cosines[1:])))
        gaps.append(cosines[0] - sum(cosines[1:]) / 7)
    assert user_values(WhichUser, shots, False, 0.0).tolist() == right and 0 < sum(right) < 40
    assert user_values(OwnMinusOthers, shots, False, 0.0) == pytest.approx(gaps)


def test_users_that_tie_share_the_point():
    of_cosine = Definition("profile", "", "higher")
    made = Profiles(
        of_cosine, Vectors({Path("x.png"): np.zeros(4)}), lambda found: np.ones((len(found), 4)), lambda h: h
    )
    metric = WhichUser(made, UserGalleries(histories(), 8, 0), Named())
    assert metric.values([Shot(Path("x.png"), "u3", "i3", (), 0)]) == [1 / 8]
    assert metric.definition.chance == 1 / 8


def test_copies_are_found_whatever_their_size_and_compression(drawn, tmp_path):
    original = Image.open(drawn[0])
    changed = {
        "half.png": original.resize((32, 32)),
        "poor.jpg": original,
    }
    for name, picture in changed.items():
        picture.save(tmp_path / name, quality=30)
    pictures = Pictures()
    copies = Copies("history", lambda shot: drawn[:3], Embeddings(tmp_path / "e", Grey(), pictures), pictures)
    paths = [*(tmp_path / name for name in changed), *drawn[3:]]
    shots = [Shot(path, "u", "i", (), 0) for path in paths]
    assert copies.values(shots) == [1.0] * 2 + [0.0] * 9

    def grey(path: Path) -> np.ndarray:
        return np.asarray(Image.open(path).convert("L").resize((GREY_SIDE,) * 2, Image.Resampling.BICUBIC), np.float64)

    how = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    likeness = [max(structural_similarity(grey(path), grey(x), **how) for x in drawn[:3]) for path in paths]
    assert [float(x >= NEAR_DUPLICATE) for x in likeness] == copies.values(shots)
    assert Copies("history", lambda shot: [], None, pictures).key(shots[0]) is None


def test_diversity_is_the_mean_distance_of_pairs_of_one_number(drawn, tmp_path):
    pictures = Pictures()
    diversity = Diversity("unit", Embeddings(tmp_path, Unit(), pictures), pictures)
    shots = [Shot(drawn[2 * user + n], f"u{user}", "i", (), n) for user in range(4) for n in range(2)]
    shots.append(Shot(drawn[8], "u0", "i", (), 2))  # nobody else has a third
    pairs = [(a, b) for a in shots for b in shots if a.user_id < b.user_id and a.number == b.number]
    assert diversity.value(shots) == pytest.approx(
        np.mean([1 - unit(a.file) @ unit(b.file) for a, b in pairs]), abs=1e-5
    )
    assert diversity.value([Shot(drawn[0], user, "i", (), 0) for user in "ab"]) == pytest.approx(0, abs=1e-6)
    assert diversity.key([shots[0], shots[1]]) is None  # one user
