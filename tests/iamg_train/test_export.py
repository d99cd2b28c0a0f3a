"""Export: the weights of a run as one file, read by our loader and by diffusers' own."""

from argparse import Namespace

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file

from iamg.adapter import load_adapter, read_adapter
from iamg_train import export as module
from iamg_train.checkpoints import save_checkpoint
from iamg_train.export import export, projection_fingerprint

WIDTH, IMAGE_WIDTH, TOKENS = 32, 12, 4
RECORDED = {
    "heads": 2,
    "top_k": 3,
    "interest_tags": 8,
    "history_length": 4,
    "image_weight": 1.0,
    "text_weight": 1.0,
    "interest_weight": [0.0, 0.4],
    "query": "tokens",
    "text_encoder": "a" * 32,
    "image_encoder": "b" * 32,
    "data_hash": "c" * 32,
    "base_model": "small.safetensors",
}


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        sample_size=8,
    )


def normal(*shape):
    return torch.randn(*shape)


@pytest.fixture
def stock(unet, tmp_path):
    """An IP-Adapter for the U-Net, as a file."""
    torch.manual_seed(1)
    state = {
        "image_proj.proj.weight": normal(TOKENS * WIDTH, IMAGE_WIDTH),
        "image_proj.proj.bias": normal(TOKENS * WIDTH),
        "image_proj.norm.weight": normal(WIDTH),
        "image_proj.norm.bias": normal(WIDTH),
    }
    for number, name in enumerate(unet.attn_processors):
        if "attn2" in name:
            channels = unet.get_submodule(name.removesuffix(".processor")).to_k.weight.shape[0]
            state[f"ip_adapter.{number}.to_k_ip.weight"] = normal(channels, WIDTH)
            state[f"ip_adapter.{number}.to_v_ip.weight"] = normal(channels, WIDTH)
    save_file(state, tmp_path / "stock.safetensors")
    return tmp_path / "stock.safetensors"


def trainable(path, scale):
    """What a run trains, as if training had multiplied it."""
    state, _ = read_adapter(path)
    torch.manual_seed(2)
    ira = {f"ira.to_{x}.weight": normal(WIDTH, WIDTH) for x in "qkv"}
    return {key: value * scale for key, value in (state | ira).items() if not key.startswith("image_proj.")}


@pytest.fixture
def make_run(stock, tmp_path):
    """Writes checkpoints of a run: `steps` 100, 200 ..., the weights of each multiplied by it."""

    def make(ema=False, steps=1, ip_adapter=stock):
        recorded = RECORDED | {
            "ip_adapter": str(ip_adapter),
            "ip_adapter_fingerprint": projection_fingerprint(read_adapter(stock)[0]),
        }
        for number in range(1, steps + 1):
            tensors = {f"weights.{key}": value for key, value in trainable(stock, number).items()}
            if ema:
                tensors |= {f"ema.{key}": value for key, value in trainable(stock, 0.5).items()}
            tensors["optimizer.0.step"] = torch.tensor(1.0)
            save_checkpoint(tmp_path / "run" / "checkpoints", 100 * number, tensors, {"export": recorded}, keep=9)
        return tmp_path / "run"

    return make


def test_trained_and_frozen_weights_come_together(make_run, stock, tmp_path):
    out = export(make_run(steps=2), tmp_path / "out" / "a.safetensors", dtype="float32")
    state, metadata = read_adapter(out)
    frozen = {key: value for key, value in read_adapter(stock)[0].items() if key.startswith("image_proj.")}
    expected = frozen | trainable(stock, 2)
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], value) for key, value in expected.items())
    fingerprint = projection_fingerprint(frozen)
    assert metadata == RECORDED | {
        "format_version": 1,
        "ip_adapter": "stock.safetensors",
        "ip_adapter_fingerprint": fingerprint,
        "steps": 200,
        "ema": False,
    }
    adapter = load_adapter(out)
    assert adapter.has_trained_ira and adapter.ira.heads == 2
    assert torch.equal(adapter.ira.to_v.weight, expected["ira.to_v.weight"])


def test_half_precision_is_the_default(make_run, stock, tmp_path):
    state, _ = read_adapter(export(make_run(), tmp_path / "a.safetensors"))
    assert {value.dtype for value in state.values()} == {torch.float16}
    assert torch.equal(state["ira.to_q.weight"], trainable(stock, 1)["ira.to_q.weight"].half())


@pytest.mark.parametrize(("asked", "averaged"), [(None, True), (True, True), (False, False)])
def test_averaged_weights_are_taken_unless_told_otherwise(make_run, stock, tmp_path, asked, averaged):
    state, metadata = read_adapter(export(make_run(ema=True), tmp_path / "a.safetensors", "float32", asked))
    expected = trainable(stock, 0.5 if averaged else 1)["ira.to_q.weight"]
    assert metadata["ema"] is averaged and torch.equal(state["ira.to_q.weight"], expected)


def test_averaged_weights_that_are_not_there_are_said_so(make_run, tmp_path):
    with pytest.raises(ValueError, match="no averaged weights.*ema_decay 0"):
        export(make_run(), tmp_path / "a.safetensors", ema=True)


def test_one_checkpoint_of_several_by_its_path(make_run, tmp_path):
    path = make_run(steps=3) / "checkpoints" / "step_00000200.safetensors"
    assert read_adapter(export(path, tmp_path / "a.safetensors"))[1]["steps"] == 200


def test_a_base_that_moved_is_asked_for_and_another_one_refused(make_run, stock, tmp_path):
    run = make_run(ip_adapter=tmp_path / "moved" / "stock.safetensors")
    out = tmp_path / "a.safetensors"
    with pytest.raises(FileNotFoundError, match=r"moved/stock.safetensors.*--ip-adapter"):
        export(run, out)
    other = read_adapter(stock)[0]
    other["image_proj.norm.bias"] += 1
    save_file(other, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="other.safetensors' is not the one"):
        export(run, out, base=tmp_path / "other.safetensors")
    assert not out.exists()
    export(run, out, base=stock)
    assert torch.equal(load_adapter(out).image_proj.norm.bias, read_adapter(stock)[0]["image_proj.norm.bias"].half())


def test_the_command_writes_into_the_run(make_run, capsys):
    run = make_run(ema=True)
    checkpoint = run / "checkpoints" / "step_00000100.safetensors"
    for source, expected in (
        (run, run / "weights.safetensors"),
        (checkpoint, run / "checkpoints" / "weights_step_00000100.safetensors"),
    ):
        arguments = Namespace(source=source, out=None, dtype="float16", ema=None, ip_adapter=None)
        assert module.run(arguments) == 0
        assert load_adapter(expected).has_trained_ira
        told = capsys.readouterr().out
        assert "step 100" in told and "EMA" in told


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_diffusers_loads_it_as_an_ip_adapter(make_run, stock, unet, tmp_path, dtype):
    export(make_run(), tmp_path / "weights.safetensors", dtype)
    pipeline = StableDiffusionPipeline(None, None, None, unet, None, None, None, requires_safety_checker=False)
    pipeline.load_ip_adapter(str(tmp_path), subfolder="", weight_name="weights.safetensors", image_encoder_folder=None)
    state, cast = trainable(stock, 1), getattr(torch, dtype)
    processors = list(unet.attn_processors.values())
    loaded = [number for number, processor in enumerate(processors) if hasattr(processor, "to_k_ip")]
    assert len(loaded) == 4
    for number in loaded:
        for name in ("to_k_ip", "to_v_ip"):
            weight = getattr(processors[number], name)[0].weight
            assert torch.equal(weight, state[f"ip_adapter.{number}.{name}.weight"].to(cast).to(weight.dtype))
    embeds = torch.randn(1, IMAGE_WIDTH)
    (projected,) = unet.encoder_hid_proj([embeds[:, None]])
    ours = load_adapter(tmp_path / "weights.safetensors").float().project_image(embeds)
    torch.testing.assert_close(projected.flatten(0, 1), ours)
    pipeline.unload_ip_adapter()
