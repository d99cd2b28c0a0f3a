"""What is measured on pictures, against loops and the formula of SSIM, with a reader that knows the truth."""

import random

import numpy as np
import pytest

from iamg_train.mini.attribute_reader import pictures_of, truth
from iamg_train.mini.measures import (
    COLOUR,
    FIDELITY,
    KNOWN,
    NEW,
    OTHER,
    OWN,
    SSIM,
    SUBJECT,
    Truth,
    measure,
    of_loved,
    of_objectives,
)
from iamg_train.mini.posters import HELD_OUT, random_poster
from iamg_train.mini.world import LOVABLE, invent_world

USERS, SEEDS = 6, 3


class Knowing:
    """Reads a picture by knowing which poster it was drawn of."""

    def __init__(self, posters, pictures):
        self._posters = {picture.tobytes(): poster for poster, picture in zip(posters, pictures, strict=True)}

    def read(self, pictures):
        return truth([self._posters[picture.tobytes()] for picture in pictures])


@pytest.fixture(scope="module")
def drawn():
    """Truths, the posters that own and other pictures show, and what is measured."""
    chance = random.Random(0)
    posters = [random_poster(chance) for _ in range(2 * USERS * SEEDS)]
    pictures = pictures_of(posters)
    objectives = [random_poster(chance, held_out=n % 2 == 1) for n in range(USERS)]
    tastes = list(invent_world(0, items=1, users=USERS).tastes.values())
    truths = [Truth(*x) for x in zip(tastes, objectives, pictures_of(objectives), strict=True)]
    own, other = pictures.reshape(2, USERS, SEEDS, 64, 64, 3)
    own_posters, other_posters = (
        [posters[(part * USERS + user) * SEEDS :][:SEEDS] for user in range(USERS)] for part in (0, 1)
    )
    return truths, own_posters, other_posters, own, measure(Knowing(posters, pictures), truths, own, other)


def share(posters, loved):
    return np.mean([[poster.has(*value) for value in loved] for poster in posters])


def test_interest_fidelity_is_how_much_more_of_the_loved_is_shown_than_with_anothers_history(drawn):
    truths, own, other, _, values = drawn
    shown = np.array([share(x, y.taste.loved) for x, y in zip(own, truths, strict=True)])
    shown_other = np.array([share(x, y.taste.loved) for x, y in zip(other, truths, strict=True)])
    assert values[OWN] == pytest.approx(shown) and values[OTHER] == pytest.approx(shown_other)
    assert values[FIDELITY] == pytest.approx(shown - shown_other)
    assert (shown != shown_other).any()


def test_item_fidelity_is_of_the_objective(drawn):
    truths, own, _, _, values = drawn
    for name, attribute in ((SUBJECT, "subject"), (COLOUR, "colour")):
        kept = [
            np.mean([getattr(x, attribute) == getattr(y.objective, attribute) for x in posters])
            for posters, y in zip(own, truths, strict=True)
        ]
        assert values[name] == pytest.approx(kept)


def test_each_loved_attribute_counts_for_the_users_who_love_a_value_of_it(drawn):
    truths, own, other, _, values = drawn
    for attribute in LOVABLE:
        for user, one in enumerate(truths):
            loved = [value for value in one.taste.loved if value[0] == attribute]
            found = values[of_loved(attribute)][user]
            if loved:
                assert found == pytest.approx(share(own[user], loved) - share(other[user], loved))
            else:
                assert np.isnan(found)


def test_objectives_are_parted_by_whether_anything_was_trained_on_their_combination(drawn):
    truths, *_, values = drawn
    new = [(x.objective.subject, x.objective.colour) in HELD_OUT for x in truths]
    assert new == [False, True] * 3
    for kind, counted in ((NEW, np.array(new)), (KNOWN, ~np.array(new))):
        found = values[of_objectives(SSIM, kind)]
        assert (np.isnan(found) == ~counted).all() and (found[counted] == values[SSIM][counted]).all()


def naive_ssim(a, b):
    """Wang et al. 2004, a window at a time, where whole windows fit."""
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = []
    for x, y in zip(a.transpose(2, 0, 1).astype(float), b.transpose(2, 0, 1).astype(float), strict=True):
        for top in range(54):
            for left in range(54):
                p, q = (z[top : top + 11, left : left + 11] for z in (x, y))
                mp, mq = (window * p).sum(), (window * q).sum()
                vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
                both = (window * (p - mp) * (q - mq)).sum()
                found.append((2 * mp * mq + c1) * (2 * both + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    return np.mean(found)


def test_ssim_is_the_formula_averaged_over_a_users_pictures(drawn):
    truths, _, _, own, values = drawn
    by_hand = np.mean([naive_ssim(picture, truths[0].original) for picture in own[0]])
    assert values[SSIM][0] == pytest.approx(by_hand, abs=1e-6) and by_hand < 0.9
