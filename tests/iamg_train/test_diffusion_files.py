"""What a checkpoint file must be, and the errors that name what it is instead."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import CHANNELS, TEXT_WIDTH, write_family

from iamg_train.diffusion_files import load_unet, load_vae


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_family(tmp_path_factory.mktemp("family"))["checkpoint"]


@pytest.fixture
def changed(checkpoint, tmp_path):
    """The checkpoint as a file with some tensors replaced or, where None, left out."""

    def write(**tensors):
        weights = load_file(checkpoint) | {key.replace("__", "."): x for key, x in tensors.items()}
        save_file({key: x for key, x in weights.items() if x is not None}, tmp_path / "other.safetensors")
        return tmp_path / "other.safetensors"

    return write


def test_sizes_come_from_the_weights_and_nothing_is_trainable(checkpoint):
    unet, vae = load_unet(checkpoint), load_vae(checkpoint)
    assert unet.config.block_out_channels == [CHANNELS] * 4 and unet.config.cross_attention_dim == TEXT_WIDTH
    assert vae.factor == 8
    for model in (unet, vae.model):
        assert not model.training and not any(parameter.requires_grad for parameter in model.parameters())


def test_the_stored_type_is_kept_and_torch_files_are_read(checkpoint, tmp_path):
    weights = {key: tensor.half() for key, tensor in load_file(checkpoint).items()}
    save_file(weights, tmp_path / "half.safetensors")
    torch.save({"state_dict": weights}, tmp_path / "half.ckpt")
    expected = load_unet(checkpoint).half().state_dict()
    for name in ("half.safetensors", "half.ckpt"):
        unet, vae = load_unet(tmp_path / name), load_vae(tmp_path / name)
        assert all(torch.equal(tensor, expected[key]) for key, tensor in unet.state_dict().items())
        assert {parameter.dtype for parameter in unet.parameters()} == {torch.float16}
        assert {parameter.dtype for parameter in vae.model.parameters()} == {torch.float32}
    assert load_unet(tmp_path / "half.safetensors", torch.bfloat16).dtype == torch.bfloat16


def test_a_vae_in_half_precision_takes_and_gives_float32(checkpoint, caplog):
    pixels = torch.rand(1, 3, 32, 32) * 2 - 1
    expected, _ = load_vae(checkpoint).posterior(pixels)
    vae = load_vae(checkpoint).to("cpu", torch.bfloat16)
    mean, deviation = vae.posterior(pixels)
    assert mean.dtype == deviation.dtype == vae.decode(mean).dtype == torch.float32
    assert 0 < (mean - expected).norm() < 0.05 * expected.norm()
    assert not caplog.records


@pytest.mark.parametrize(
    ("tensors", "kind"),
    [
        ({"conditioner__embedders__0__x": torch.zeros(1)}, "is an SDXL checkpoint"),
        ({"model__diffusion_model__label_emb__0__0__weight": torch.zeros(1)}, "is an SDXL checkpoint"),
        ({"cond_stage_model__model__ln_final__weight": torch.zeros(1)}, "is a Stable Diffusion 2 checkpoint"),
        (
            {"model__diffusion_model__middle_block__1__proj_in__weight": torch.zeros(CHANNELS, CHANNELS)},
            "is a Stable Diffusion 2 checkpoint",
        ),
        (
            {"model__diffusion_model__input_blocks__0__0__weight": torch.zeros(CHANNELS, 9, 3, 3)},
            "is an inpainting checkpoint: its U-Net takes 9 channels, not 4",
        ),
        (
            {"model__diffusion_model__input_blocks__2__1__proj_in__weight": None},
            "has a U-Net of another architecture",
        ),
        (
            {"model__diffusion_model__out__2__bias": None},
            "has a U-Net that does not fit the sizes of its own blocks.*conv_out.bias",
        ),
        (
            {"model__diffusion_model__middle_block__1__transformer_blocks__0__attn2__to_k__weight": torch.zeros(3, 3)},
            "has a U-Net that does not fit the sizes of its own blocks.*attn2.to_k.weight",
        ),
    ],
)
def test_a_checkpoint_of_another_kind_is_named(changed, tensors, kind):
    with pytest.raises(ValueError, match=rf"(?s)^other.safetensors {kind}"):
        load_unet(changed(**tensors))


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("lora_unet_down_blocks_0_attentions_0.lora_up.weight", "is a LoRA"),
        ("ip_adapter.1.to_k_ip.weight", "is an IP-Adapter"),
        ("down_blocks.0.resnets.0.conv1.weight", "is one model in diffusers' own format"),
        ("control_model.zero_convs.0.0.weight", "is a ControlNet"),
        ("some.weight", "holds no (U-Net|VAE)"),
    ],
)
@pytest.mark.parametrize("load", [load_unet, load_vae])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, key, kind, load):
    save_file({key: torch.zeros(1)}, tmp_path / "file.safetensors")
    with pytest.raises(ValueError, match=rf"^file.safetensors {kind}.*; give a Stable Diffusion 1.5 checkpoint"):
        load(tmp_path / "file.safetensors")


def test_a_vae_that_cannot_encode_or_has_other_latents_is_refused(changed, checkpoint):
    decoder = {"first_stage_model__decoder__conv_in__weight": torch.zeros(1)}
    without = {key.replace(".", "__"): None for key in load_file(checkpoint) if key.startswith("first_stage_model.")}
    with pytest.raises(ValueError, match="other.safetensors holds no VAE that encodes"):
        load_vae(changed(**without, **decoder))
    with pytest.raises(ValueError, match="has a VAE of 16 latent channels, not 4"):
        load_vae(changed(first_stage_model__taesd_decoder__1__weight=torch.zeros(64, 16, 3, 3)))
    with pytest.raises(ValueError, match=r"(?s)has a VAE that does not fit.*encoder.layers.3.conv.2.bias"):
        load_vae(changed(first_stage_model__taesd_encoder__3__conv__2__bias=None))


def test_a_missing_file_and_a_damaged_one_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.safetensors does not exist"):
        load_unet(tmp_path / "none.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"\1" * 30)
    with pytest.raises(ValueError, match="cut.safetensors cannot be read as weights"):
        load_vae(tmp_path / "cut.safetensors")
