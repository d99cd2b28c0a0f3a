import numpy as np
import pytest
import xxhash

from iamg.fingerprint import agree, probe_image


def test_probe_picture_is_the_same_everywhere():
    image = probe_image()
    assert (image.mode, image.size) == ("RGB", (256, 256))
    assert xxhash.xxh3_64_hexdigest(image.tobytes()) == "170b9831eb1919e5"


def test_precision_and_length_do_not_matter_but_weights_do():
    rng = np.random.default_rng(0)
    probe = rng.standard_normal(64).astype(np.float32)
    assert agree(probe, probe.astype(np.float16) * np.float16(3))
    assert agree(probe, probe + 0.01 * rng.standard_normal(64))
    assert not agree(probe, probe + 0.3 * rng.standard_normal(64))
    assert not agree(probe, rng.standard_normal(64))


@pytest.mark.parametrize("other", [np.zeros(4), np.full(4, np.nan), np.ones(5), np.ones((1, 4))])
def test_other_widths_and_useless_embeddings_do_not_agree(other):
    assert not agree(np.ones(4), other)
