"""What `iamg-train export` writes, in our loader's node and in IPAdapter Plus (where IPADAPTER_PLUS_PATH names it)."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest
import rig
import torch
from pack.nodes.adapter_apply import IAMGAdapterApply
from pack.nodes.adapter_weights import load
from safetensors.torch import save_file

from iamg_train.checkpoints import save_checkpoint
from iamg_train.export import export, projection_fingerprint

FOLDER = os.environ.get("IPADAPTER_PLUS_PATH")
STATE = {"seed": 9}


@pytest.fixture(scope="module")
def model():
    return rig.small_model()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """A checkpoint of all that trains, exported over a stock file whose own blocks must not show."""
    folder = tmp_path_factory.mktemp("run")
    trained = rig.adapter_state(model, **STATE)
    stock = {key: x if key.startswith("image_proj.") else x * 0 for key, x in trained.items()}
    save_file({key: x for key, x in stock.items() if not key.startswith("ira.")}, folder / "stock.safetensors")
    recorded = {
        "ip_adapter": str(folder / "stock.safetensors"),
        "ip_adapter_fingerprint": projection_fingerprint(stock),
        "heads": 4,
    }
    tensors = {f"weights.{key}": x for key, x in trained.items() if not key.startswith("image_proj.")}
    save_checkpoint(folder / "checkpoints", 1, tensors, {"export": recorded}, keep=1)
    return export(folder, folder / "weights.safetensors", "float32")


def drawn(model, adapter, interest_weight):
    arguments = (rig.VisionOutput(), 0.7, 1.0, interest_weight, 0.0, 1.0)
    return rig.sample(IAMGAdapterApply.execute(model, adapter, *arguments, interest=rig.interest()).result[0])


@pytest.mark.parametrize("interest_weight", [0.0, 0.2])
def test_the_node_draws_what_the_trained_weights_draw(model, exported, tmp_path, interest_weight):
    trained = drawn(model, rig.adapter(model, tmp_path, **STATE), interest_weight)
    assert torch.equal(drawn(model, load(exported), interest_weight), trained)
    assert not torch.allclose(drawn(model, load(exported.with_name("stock.safetensors")), interest_weight), trained)


@pytest.mark.skipif(not FOLDER, reason="IPADAPTER_PLUS_PATH does not name a ComfyUI_IPAdapter_plus folder")
def test_ipadapter_plus_draws_what_the_node_draws_without_interest(model, exported):
    spec = importlib.util.spec_from_file_location(
        "ipadapter_plus", Path(FOLDER, "__init__.py"), submodule_search_locations=[FOLDER]
    )
    sys.modules["ipadapter_plus"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["ipadapter_plus"])
    from ipadapter_plus.IPAdapterPlus import IPAdapter, set_model_patch_replace
    from ipadapter_plus.utils import ipadapter_model_loader

    theirs = IPAdapter(
        ipadapter_model_loader(str(exported)),
        cross_attention_dim=rig.TEXT_WIDTH,
        output_cross_attention_dim=rig.TEXT_WIDTH,
        clip_embeddings_dim=rig.IMAGE_WIDTH,
    )
    embeds = rig.VisionOutput().image_embeds
    cond, uncond = (theirs.get_image_embeds(x, x, 0)[0] for x in (embeds, torch.zeros_like(embeds)))
    patched = model.clone()
    # Its own node patches ("middle", 1), where ComfyUI's U-Net has no block; the file's last matrices belong to 0.
    slots = [*(("input", n) for n in (1, 2, 4, 5, 7, 8)), *(("output", n) for n in range(3, 12)), ("middle", 0)]
    for number, slot in enumerate(slots):
        arguments = {
            "module_key": str(2 * number + 1),
            "ipadapter": theirs,
            "weight": 0.7,
            "weight_type": "linear",
            "mask": None,
            "sigma_start": 999999999.9,
            "sigma_end": 0.0,
            "cond": cond,
            "uncond": uncond,
        }
        set_model_patch_replace(patched, arguments, slot)
    ours = drawn(model, load(exported), 0.0)
    assert (rig.sample(patched) - ours).abs().max() < 1e-4 * ours.abs().max()
    assert (rig.sample(model) - ours).abs().max() > 1e-2 * ours.abs().max()
