"""Beside the real IPAdapter Plus, whose folder IPADAPTER_PLUS_PATH names; it is no part of this project."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest
import rig
import torch
from pack.nodes.adapter_apply import IAMGAdapterApply

FOLDER = os.environ.get("IPADAPTER_PLUS_PATH")
pytestmark = pytest.mark.skipif(not FOLDER, reason="IPADAPTER_PLUS_PATH does not name a ComfyUI_IPAdapter_plus folder")


@pytest.fixture(scope="module")
def plus():
    """A function that applies IPAdapter Plus to a model, block by block as its node does."""
    spec = importlib.util.spec_from_file_location(
        "ipadapter_plus", Path(FOLDER, "__init__.py"), submodule_search_locations=[FOLDER]
    )
    sys.modules["ipadapter_plus"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["ipadapter_plus"])
    from ipadapter_plus.IPAdapterPlus import To_KV, set_model_patch_replace

    prefix = "ip_adapter."
    state = rig.adapter_state(rig.small_model(), seed=9)

    class Holder:
        ip_layers = To_KV({key[len(prefix) :]: x for key, x in state.items() if key.startswith(prefix)})

        def get_multigpu_clone(self, device):
            return self

    slots = [*(("input", n) for n in (1, 2, 4, 5, 7, 8)), *(("output", n) for n in range(3, 12)), ("middle", 1)]
    generator = torch.Generator().manual_seed(0)
    tokens = {name: torch.randn(1, 4, rig.TEXT_WIDTH, generator=generator) for name in ("cond", "uncond")}

    def apply(model, weight):
        model = model.clone()
        for number, slot in enumerate(slots):
            arguments = {
                "module_key": str(2 * number + 1),
                "ipadapter": Holder(),
                "weight": weight,
                "weight_type": "linear",
                "mask": None,
                "sigma_start": 999999999.9,
                "sigma_end": 0.0,
                **tokens,
            }
            set_model_patch_replace(model, arguments, slot)
        return model

    return apply


@pytest.fixture(scope="module")
def model():
    return rig.small_model()


@pytest.fixture(scope="module")
def ours(model, tmp_path_factory):
    adapter = rig.adapter(model, tmp_path_factory.mktemp("adapter"))

    def apply(model, text_weight=1.0):
        arguments = (rig.VisionOutput(), 1.0, text_weight, 0.2, 0.0, 1.0)
        return IAMGAdapterApply.execute(model, adapter, *arguments, interest=rig.interest()).result[0]

    return apply


def close(a, b):
    return (a - b).abs().max() < 1e-4 * b.abs().max()


@pytest.mark.parametrize("text_weight", [1.0, 0.5])
def test_before_and_after_are_the_same_sum(model, ours, plus, text_weight):
    before, after = rig.sample(ours(plus(model, 0.7), text_weight)), rig.sample(plus(ours(model, text_weight), 0.7))
    assert close(before, after)
    assert not close(before, rig.sample(ours(model, text_weight)))


def test_on_both_sides_they_add_up(model, ours, plus):
    assert close(rig.sample(plus(ours(plus(model, 0.3)), 0.4)), rig.sample(ours(plus(model, 0.7))))


def test_what_it_adds_later_does_not_reach_our_model_nor_linger(model, ours, plus):
    patched = ours(model)
    alone, together = rig.sample(patched), rig.sample(plus(patched, 0.7))
    assert torch.equal(rig.sample(patched), alone)
    assert torch.equal(rig.sample(plus(patched, 0.7)), together)
