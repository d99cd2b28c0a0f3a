"""The picture condition that training caches is the one that the IAMGForeground node makes."""

import numpy as np
import pytest
import torch
from pack.nodes.foreground import IAMGForeground
from pack.nodes.pictures import to_tensor
from PIL import Image

from iamg_train.prepared import Prepared, Sample, write_prepared


@pytest.mark.parametrize("mask_size", [(40, 60), (64, 64), (7, 9)])
def test_the_trainer_sets_the_foreground_on_white_as_the_node_does(tmp_path, mask_size):
    random = np.random.default_rng(0)
    picture = Image.fromarray(random.integers(0, 256, (60, 40, 3), np.uint8))
    mask = Image.fromarray(random.integers(0, 256, mask_size[::-1], np.uint8))
    picture.save(tmp_path / "picture.png")
    mask.save(tmp_path / "mask.png")
    sample = Sample("train", "u", "m", (), "", "", (), (), (), "picture.png", "", "mask.png")
    parameters = {"history_length": 0, "interest_tags": 8, "top_k": 0}
    write_prepared(tmp_path, [sample], parameters, {}, {"m": np.zeros(4, np.float32)})
    made = to_tensor(Prepared.open(tmp_path, tmp_path).condition_picture(sample))
    grey = torch.from_numpy(np.asarray(mask, np.float32) / 255)[None]
    node, _ = IAMGForeground.execute(to_tensor(picture), grey).result
    assert (made - node).abs().max() <= 0.51 / 255
