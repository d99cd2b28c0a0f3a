"""The shipped family's file."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from iamg.mini.family import TOKEN_TABLE, Family, family_bytes, read_family


@pytest.fixture
def family():
    chance = torch.Generator().manual_seed(0)
    table = torch.randn(1, 8, generator=chance).repeat(500, 1)
    table[[3, 77, 499]] = torch.randn(3, 8, generator=chance)
    checkpoint = {TOKEN_TABLE: table.half(), "model.diffusion_model.out.2.weight": torch.ones(4, 4).half()}
    return Family(checkpoint, {"visual_projection.weight": torch.eye(3).half()}, 21.5, {"seed": "7"})


def test_a_family_comes_back_as_it_was_and_only_known_rows_are_stored(family, tmp_path):
    path = tmp_path / "family.safetensors"
    path.write_bytes(family_bytes(family))
    found = read_family(path)
    for own, read in ((family.checkpoint, found.checkpoint), (family.clip_vision, found.clip_vision)):
        assert own.keys() == read.keys()
        assert all(torch.equal(own[key], read[key]) for key in own)
    assert found.logit_scale == pytest.approx(21.5)
    assert found.metadata["seed"] == "7"
    with safe_open(path, "pt") as file:
        assert file.get_slice(TOKEN_TABLE).get_shape() == [4, 8]


def test_what_is_no_family_is_named(tmp_path):
    other = tmp_path / "other.safetensors"
    save_file({"a": torch.ones(1)}, other)
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="other.safetensors cannot be used as a mini family"):
        read_family(other)
    with pytest.raises(ValueError, match="broken.safetensors cannot be used"):
        read_family(tmp_path / "broken.safetensors")
    with pytest.raises(FileNotFoundError, match="mini train"):
        read_family(tmp_path / "absent.safetensors")
