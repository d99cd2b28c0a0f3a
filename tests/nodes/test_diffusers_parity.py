"""λ1 = 1 and λ2 = 0 is stock IP-Adapter: ComfyUI's U-Net with our patch against diffusers' own load_ip_adapter."""

import pytest
import rig
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from pack.nodes.adapter_apply import IAMGAdapterApply

CHANNELS = (32, 64, 128, 128)


@pytest.fixture(scope="module")
def model():
    return rig.small_model()


@pytest.fixture(scope="module")
def diffusers_pipeline(model):
    """The same U-Net weights and the same adapter weights, in diffusers."""
    unet = UNet2DConditionModel(
        block_out_channels=CHANNELS, cross_attention_dim=rig.TEXT_WIDTH, attention_head_dim=8, sample_size=8
    )
    weights = {f"model.diffusion_model.{key}": value for key, value in model.model.diffusion_model.state_dict().items()}
    unet.load_state_dict(convert_ldm_unet_checkpoint(weights, unet.config))
    pipeline = StableDiffusionPipeline(
        vae=None,
        text_encoder=None,
        tokenizer=None,
        unet=unet,
        scheduler=None,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    state = {"image_proj": {}, "ip_adapter": {}}
    for key, value in rig.adapter_state(model, trained=False).items():
        part, rest = key.split(".", 1)
        state[part][rest] = value
    pipeline.load_ip_adapter(state, subfolder=None, weight_name=None, image_encoder_folder=None)
    return pipeline


def predictions(patched, steps=3):
    """(input, sigma, noise predicted for the positive side, for the negative side) at every step of the sampler."""
    seen = []

    def record(arguments):
        x, sigma = arguments["input"], arguments["sigma"]
        noise = [(x - arguments[side]) / sigma for side in ("cond_denoised", "uncond_denoised")]
        seen.append((x.clone(), sigma.clone(), *noise))
        return arguments["denoised"]

    patched = patched.clone()
    patched.set_model_sampler_post_cfg_function(record)
    rig.sample(patched, size=(16, 24), steps=steps)
    return seen


@pytest.mark.parametrize("image_weight", [1.0, 0.6])
def test_without_interest_it_is_stock_ip_adapter(model, diffusers_pipeline, tmp_path, image_weight):
    adapter = rig.adapter(model, tmp_path, trained=False)
    vision = rig.VisionOutput()
    patched = IAMGAdapterApply.execute(
        model, adapter, vision, image_weight, 1.0, 0.0, 0.0, 1.0, interest=rig.interest()
    ).result[0]
    diffusers_pipeline.set_ip_adapter_scale(image_weight)
    assert sum("attn2" in name for name in diffusers_pipeline.unet.attn_processors) == 16

    timestep_of = model.get_model_object("model_sampling").timestep
    for x, sigma, positive, negative in predictions(patched):
        scaled = x / (sigma**2 + 1) ** 0.5
        for ours, text, embeds in (
            (positive, rig.text(10), vision.image_embeds),
            (negative, rig.text(11), torch.zeros_like(vision.image_embeds)),
        ):
            with torch.no_grad():
                expected = diffusers_pipeline.unet(
                    scaled,
                    timestep_of(sigma),
                    text,
                    added_cond_kwargs={"image_embeds": [embeds[:, None]]},
                ).sample
            assert (ours - expected).norm() < 1e-4 * expected.norm()


def test_the_comparison_would_see_one_block_missing(model, diffusers_pipeline, tmp_path):
    """The middle block alone moves the prediction by far more than the tolerance above."""
    patched = IAMGAdapterApply.execute(
        model, rig.adapter(model, tmp_path, trained=False), rig.VisionOutput(), 1.0, 1.0, 0.0, 0.0, 1.0
    ).result[0]
    without_middle = patched.clone()
    del without_middle.model_options["transformer_options"]["patches_replace"]["attn2"][("middle", 0)]
    (_, _, whole, _), (_, _, partial, _) = (predictions(x, steps=1)[0] for x in (patched, without_middle))
    assert (whole - partial).norm() > 1e-3 * whole.norm()
