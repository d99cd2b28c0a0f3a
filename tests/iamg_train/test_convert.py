"""Old weights: folders that accelerate writes for a model of the tutorial's shape, official files, and what is none."""

import pickle
from argparse import Namespace

import pytest
import torch
from accelerate import Accelerator
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import nn

from iamg.adapter import load_adapter, read_adapter
from iamg_train import convert as module
from iamg_train.convert import convert

WIDTH, IMAGE_WIDTH, TOKENS = 32, 12, 4


class Projection(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(IMAGE_WIDTH, TOKENS * WIDTH)
        self.norm = nn.LayerNorm(WIDTH)


class Processor(nn.Module):
    """A U-Net's attention processor; with matrices of its own where the text comes in."""

    def __init__(self, channels: int | None = None):
        super().__init__()
        if channels:
            self.to_k_ip = nn.Linear(WIDTH, channels, bias=False)
            self.to_v_ip = nn.Linear(WIDTH, channels, bias=False)


class TutorialModel(nn.Module):
    """The model that IP-Adapter's training script hands to accelerate: the matrices hang in it twice."""

    def __init__(self):
        super().__init__()
        self.unet = UNet2DConditionModel(
            block_out_channels=(32, 64),
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=WIDTH,
            attention_head_dim=4,
            sample_size=8,
        )
        processors = {}
        for name in self.unet.attn_processors:
            attention = self.unet.get_submodule(name.removesuffix(".processor"))
            processors[name] = Processor(attention.to_k.weight.shape[0] if "attn2" in name else None)
        self.unet.set_attn_processor(processors)
        self.image_proj_model = Projection()
        self.adapter_modules = nn.ModuleList(self.unet.attn_processors.values())

    def adapter(self) -> dict[str, torch.Tensor]:
        """What a converted file must hold."""
        blocks = {f"ip_adapter.{key}": value for key, value in self.adapter_modules.state_dict().items()}
        return blocks | {f"image_proj.{key}": value for key, value in self.image_proj_model.state_dict().items()}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return TutorialModel()


def same(path, expected, dtype=torch.float32):
    state, _ = read_adapter(path)
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], value.to(dtype)) for key, value in expected.items())
    return True


@pytest.mark.parametrize(
    ("safetensors", "file"), [(True, "model.safetensors"), (False, "pytorch_model.bin")], ids=["safetensors", "bin"]
)
def test_a_folder_that_accelerate_wrote(model, tmp_path, safetensors, file):
    accelerator = Accelerator(cpu=True)
    folder = tmp_path / "checkpoint-2000"
    prepared = accelerator.prepare(model)
    accelerator.save_state(str(folder), safe_serialization=safetensors)
    accelerator.free_memory(prepared)
    named = any(key.startswith("adapter_modules.") for key in module.read_weights(folder / file))
    assert named is not safetensors  # of shared weights safetensors keeps one name, the U-Net's
    convert(folder, tmp_path / "a.safetensors", "float32")
    expected = model.adapter()
    assert len(expected) == 4 + 2 * 7 and same(tmp_path / "a.safetensors", expected)
    convert(folder / file, tmp_path / "b.safetensors")
    assert same(tmp_path / "b.safetensors", expected, torch.float16)


def test_blocks_past_the_tenth_and_files_of_several_gpus(model, tmp_path):
    """Numbers are compared as numbers: attention 10 comes after attention 2."""
    state = {f"module.image_proj_model.{key}": x for key, x in model.image_proj_model.state_dict().items()}
    for block in range(12):
        for part in "kv":
            key = (
                f"module.unet.down_blocks.1.attentions.{block}.transformer_blocks.0.attn2.processor.to_{part}_ip.weight"
            )
            state[key] = torch.full((8, WIDTH), float(block))
    save_file(state, tmp_path / "model.safetensors")
    convert(tmp_path, tmp_path / "a.safetensors")
    blocks = load_adapter(tmp_path / "a.safetensors").ip_adapter
    assert [float(block.to_v_ip.weight[0, 0]) for block in blocks.values()] == list(range(12))


def test_official_files(model, tmp_path):
    expected = model.adapter()
    nested = {"image_proj": {}, "ip_adapter": {}}
    for key, value in expected.items():
        part, rest = key.split(".", 1)
        nested[part][rest] = value
    torch.save(nested, tmp_path / "official.bin")
    save_file(expected, tmp_path / "official.safetensors")
    for name in ("official.bin", "official.safetensors"):
        convert(tmp_path / name, tmp_path / "out.safetensors", "float32")
        assert same(tmp_path / "out.safetensors", expected)


def test_a_fine_tuned_file_keeps_its_metadata_in_another_dtype(model, tmp_path):
    expected = model.adapter() | {f"ira.to_{x}.weight": torch.eye(WIDTH) for x in "qkv"}
    save_file(expected, tmp_path / "a.safetensors", {"iamg": '{"format_version": 1, "heads": 2, "top_k": 3}'})
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", "bfloat16")
    assert same(tmp_path / "b.safetensors", expected, torch.bfloat16)
    assert read_adapter(tmp_path / "b.safetensors")[1] == {"format_version": 1, "heads": 2, "top_k": 3}


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, capsys):
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({"unet.x": Evil()}))
    with pytest.raises(ValueError, match="pytorch_model.bin cannot be read"):
        convert(tmp_path, tmp_path / "a.safetensors")
    assert "executed" not in capsys.readouterr().out


def test_what_is_no_adapter_is_told_with_what_was_found(model, tmp_path):
    out = tmp_path / "out.safetensors"
    (tmp_path / "run" / "checkpoint-10").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds checkpoint-10, but not model.safetensors or pytorch_model.bin"):
        convert(tmp_path / "run", out)
    with pytest.raises(FileNotFoundError, match="nowhere.bin does not exist"):
        convert(tmp_path / "nowhere.bin", out)
    projection = {f"image_proj_model.{key}": x for key, x in model.image_proj_model.state_dict().items()}
    for extra, message in (
        ({"unet.conv_in.weight": torch.zeros(1)}, "holds image_proj_model, unet, but no to_k_ip"),
        ({"adapter_modules.1.to_k_ip.weight": torch.zeros(8, WIDTH)}, "lacks ip_adapter.1.to_v_ip.weight"),
        (
            {f"adapter_modules.1.to_{x}_ip.weight": torch.zeros(8, WIDTH) for x in "kv"}
            | {"image_proj_model.latents": torch.zeros(1)},
            "an IP-Adapter Plus file",
        ),
    ):
        save_file(projection | extra, tmp_path / "model.safetensors")
        with pytest.raises(ValueError, match=message):
            convert(tmp_path / "model.safetensors", out)
    save_file({"lora_unet.up.weight": torch.zeros(1)}, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match="'lora.safetensors' lacks image_proj"):
        convert(tmp_path / "lora.safetensors", out)
    assert not out.exists()


def test_the_command_says_where_the_file_is(model, tmp_path, capsys):
    save_file(model.adapter(), tmp_path / "a.safetensors")
    arguments = Namespace(source=tmp_path / "a.safetensors", out=tmp_path / "b.safetensors", dtype="float16")
    assert module.run(arguments) == 0
    assert "b.safetensors" in capsys.readouterr().out.replace("\n", "")
    assert {value.dtype for value in load_file(tmp_path / "b.safetensors").values()} == {torch.float16}
