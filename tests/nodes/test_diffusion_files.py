"""U-Net and VAE as the trainer loads them, against ComfyUI's own classes holding the same weights."""

import comfy.latent_formats
import comfy.sd
import pytest
import rig
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.ldm.modules.distributions.distributions import DiagonalGaussianDistribution
from comfy.taesd.taesd import TAESD
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

from iamg_train.diffusion_files import load_unet, load_vae, unet_config

VAE = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}
to_unet = comfy.latent_formats.SD15().process_in
from_unet = comfy.latent_formats.SD15().process_out


def write(path, prefix: str, state):
    save_file({prefix + key: tensor.clone() for key, tensor in state.items()}, path)
    return path


def seeded(module):
    """Random weights and biases, so that a tensor in the wrong place is seen."""
    torch.manual_seed(0)
    rig.seed_weights(module)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim < 2:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return module.eval()


def relative_error(given: torch.Tensor, expected: torch.Tensor) -> float:
    assert given.shape == expected.shape
    return float((given - expected).norm() / expected.norm())


@torch.no_grad()
def test_the_unet_predicts_what_comfyuis_does(tmp_path):
    network = seeded(rig.small_model().model.diffusion_model)
    unet = load_unet(write(tmp_path / "sd15.safetensors", "model.diffusion_model.", network.state_dict()))
    latents, timesteps = torch.randn(2, 4, 16, 24), torch.tensor([7, 801])
    text = torch.randn(2, 77, rig.TEXT_WIDTH)
    expected = network(latents, timesteps, text)
    assert relative_error(unet(latents, timesteps, text).sample, expected) < 1e-5
    assert relative_error(unet(latents, timesteps, text.roll(1, 0)).sample, expected) > 1e-2


def test_sd15s_sizes_give_sd15s_published_config():
    with torch.device("meta"):
        network = rig.comfy.supported_models.SD15(rig.unet_config(channels=320)).get_model({}, "").diffusion_model
    config = unet_config(network.state_dict(), "sd15")
    assert config["block_out_channels"] == [320, 640, 1280, 1280]
    assert config["down_block_types"] == ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]
    assert config["up_block_types"] == ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
    assert (config["layers_per_block"], config["cross_attention_dim"], config["attention_head_dim"]) == (2, 768, 8)
    with torch.device("meta"):
        assert sum(x.numel() for x in UNet2DConditionModel(**config).parameters()) == 859_520_964


@torch.no_grad()
@pytest.mark.parametrize("levels", [[1, 2, 4, 4], [1, 2, 2]])
def test_sd15s_vae_encodes_and_decodes_as_comfyuis_does(tmp_path, levels):
    network = seeded(AutoencoderKL(ddconfig={**VAE, "ch_mult": levels}, embed_dim=4))
    vae = load_vae(write(tmp_path / "sd15.safetensors", "first_stage_model.", network.state_dict()))
    assert vae.factor == 2 ** (len(levels) - 1)
    pixels = torch.rand(2, 3, 32, 48) * 2 - 1
    mean, deviation = vae.posterior(pixels)
    expected = DiagonalGaussianDistribution(network.quant_conv(network.encoder(pixels)))
    assert relative_error(mean, to_unet(expected.mean)) < 1e-5
    assert relative_error(deviation, to_unet(expected.std)) < 1e-5
    assert relative_error(mean, to_unet(network.encode(pixels))) < 1e-5
    drawn = (network.decode(from_unet(mean)) / 2 + 0.5).clamp(0, 1)
    assert relative_error(vae.decode(mean), drawn) < 1e-5 and 0 < drawn.std()


@torch.no_grad()
@pytest.mark.parametrize(("scale", "shift"), [(0.18215, 0.0), (0.7, 0.3)])
def test_a_vae_of_taesds_shape_encodes_and_decodes_as_comfyuis_loader_does(tmp_path, scale, shift):
    network = seeded(TAESD())
    network.vae_scale.fill_(scale)
    network.vae_shift.fill_(shift)
    state = network.state_dict()
    vae = load_vae(write(tmp_path / "demo.safetensors", "first_stage_model.", state))
    theirs = comfy.sd.VAE(sd=state, dtype=torch.float32)
    pixels = torch.rand(2, 3, 32, 48)
    mean, deviation = vae.posterior(pixels * 2 - 1)
    assert vae.factor == 8 and not deviation.any()
    assert relative_error(mean, to_unet(theirs.encode(pixels.movedim(1, -1)))) < 1e-5
    drawn = theirs.decode(from_unet(mean)).movedim(-1, 1)
    assert relative_error(vae.decode(mean), drawn) < 1e-5 and 0 < drawn.std()
