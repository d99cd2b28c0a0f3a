"""The weights in the pack are those of their card, and they draw what they drew when they were put there."""

import json

import numpy as np
import pytest
import torch
from reference_pictures import SEEDS, load_reference, reference_conditions, reference_pictures

from iamg.mini.places import ADAPTER, CARD, FAMILY, IP_ADAPTER, WEIGHTS
from iamg_train.config import Method, Model
from iamg_train.mini.files import unpack
from iamg_train.mini.install import LIMIT, describe
from iamg_train.personalised_unet import load_model

SAME = 0.25  # levels of 255, the mean over a picture: far above what rounding on other processors comes to


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return unpack(tmp_path_factory.mktemp("mini"))


@pytest.fixture(scope="module")
def conditions(files):
    return reference_conditions(files)


def farthest(files, conditions, empty, adapter=None, **method) -> float:
    """How far the farthest of the pictures is from its reference."""
    model = Model(checkpoint=files.checkpoint, clip_vision=files.clip_vision, ip_adapter=adapter or files.adapter)
    pictures = reference_pictures(files, load_model(model, Method(**method), torch.float32), conditions, empty)
    pairs = zip(pictures, map(load_reference, SEEDS), strict=True)
    return max(float(np.abs(np.asarray(picture, np.float32) - reference).mean()) for picture, reference in pairs)


def test_card_and_weights_agree():
    card = json.loads(CARD.read_bytes())
    shipped = {path.relative_to(WEIGHTS).as_posix(): describe(path) for path in (FAMILY, IP_ADAPTER, ADAPTER)}
    assert card["files"] == shipped
    assert sum(file["bytes"] for file in shipped.values()) <= LIMIT
    assert f"--seed {card['seed']}" in card["command"]
    assert {"unet", "ip_adapter", "towers/captions"} <= card["curves"].keys()


def test_the_reference_pictures_are_drawn_again(files, conditions):
    assert farthest(files, *conditions) < SAME


@pytest.mark.parametrize("weights", [{"text_weight": 0.0}, {"image_weight": 0.0}])
def test_without_text_or_picture_they_are_others(files, conditions, weights):
    assert farthest(files, *conditions, **weights) > 4 * SAME


def test_without_interest_they_are_others(files, conditions):
    guidance, empty = conditions
    assert farthest(files, guidance._replace(interest_weight=torch.zeros(len(SEEDS))), empty) > 4 * SAME


def test_without_the_trained_ira_they_are_others(files, conditions):
    assert farthest(files, *conditions, adapter=files.ip_adapter) > 4 * SAME


@pytest.mark.parametrize("field", ["text", "image_embeds", "query", "retrieved_text", "retrieved_image"])
def test_with_another_posters_conditions_they_are_others(files, conditions, field):
    guidance, empty = conditions
    moved = guidance._replace(**{field: getattr(guidance, field).roll(1, 0)})
    assert farthest(files, moved, empty) > 4 * SAME
