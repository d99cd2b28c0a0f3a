"""The foreground on white, pixel by pixel."""

import numpy as np
import torch

from iamg.foreground import on_white


def test_light_parts_of_the_mask_keep_the_picture_and_dark_ones_turn_white():
    random = np.random.default_rng(0)
    image, mask = random.random((2, 5, 4, 3), np.float32), random.random((2, 5, 4), np.float32)
    expected = image * mask[..., None] + 1 - mask[..., None]
    assert np.allclose(on_white(torch.from_numpy(image), torch.from_numpy(mask)), expected, atol=1e-6)


def test_a_mask_of_another_size_is_stretched_over_the_picture():
    mask = torch.zeros(1, 8, 8)
    mask[:, :, 4:] = 1
    made = on_white(torch.zeros(1, 32, 64, 3), mask)
    assert (made[:, :, :24] == 1).all() and (made[:, :, 40:] == 0).all()
