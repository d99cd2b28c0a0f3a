"""A small SD1.5 of random weights and the adapter files that fit it, run by ComfyUI's own sampler."""

import comfy.cldm.cldm
import comfy.clip_vision
import comfy.controlnet
import comfy.model_management
import comfy.model_patcher
import comfy.sample
import comfy.sd
import comfy.supported_models
import torch
from pack.nodes.adapter_weights import load
from pack.nodes.cross_attention import cross_attention_slots
from safetensors.torch import save_file

TEXT_WIDTH, IMAGE_WIDTH = 768, 64


def small_model(dtype=torch.float32, channels=32):
    """All 16 slots of SD1.5, `channels` wide instead of 320."""
    config = comfy.supported_models.SD15(unet_config(dtype, channels))
    config.set_inference_dtype(dtype, None)
    torch.manual_seed(0)
    model = config.get_model({}, "")
    seed_weights(model.diffusion_model)
    cpu = torch.device("cpu")
    return comfy.model_patcher.CoreModelPatcher(model, load_device=cpu, offload_device=cpu)


def unet_config(dtype=torch.float32, channels=32) -> dict:
    return {
        "image_size": 32,
        "in_channels": 4,
        "model_channels": channels,
        "num_res_blocks": [2, 2, 2, 2],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        "transformer_depth_middle": 1,
        "channel_mult": [1, 2, 4, 4],
        "use_linear_in_transformer": False,
        "context_dim": TEXT_WIDTH,
        "num_heads": 8,
        "num_head_channels": -1,
        "use_spatial_transformer": True,
        "legacy": False,
        "adm_in_channels": None,
        "use_temporal_attention": False,
        "dtype": dtype,
        "use_checkpoint": False,
        "out_channels": 4,
    }


def seed_weights(module) -> None:
    """Fan-in scaled normal weights, unit norms, no biases: activations of about one through every block."""
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if name.endswith("bias"):
                weight.zero_()
            elif weight.ndim < 2:
                weight.fill_(1.0)
            else:
                weight.copy_(torch.randn(weight.shape) * weight[0].numel() ** -0.5)


def controlnet(strength=0.5):
    """A ControlNet of the small model's shape, with a hint, as ControlNetApply would set it."""
    torch.manual_seed(4)
    config = unet_config()
    for key in ("out_channels", "transformer_depth_output"):
        config.pop(key)
    network = comfy.cldm.cldm.ControlNet(hint_channels=3, operations=comfy.ops.manual_cast, **config)
    seed_weights(network)
    control = comfy.controlnet.ControlNet(network, load_device=torch.device("cpu"))
    hint = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(8))
    return control.copy().set_cond_hint(hint, strength)


def adapter_state(model, seed=1, image_width=IMAGE_WIDTH, trained=True, tokens=4) -> dict[str, torch.Tensor]:
    """Seeded weights in IP-Adapter's file format, for the model's slots."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator) * shape[-1] ** -0.5

    state = {
        "image_proj.proj.weight": normal(tokens * TEXT_WIDTH, image_width),
        "image_proj.proj.bias": normal(1, tokens * TEXT_WIDTH)[0],
        "image_proj.norm.weight": torch.ones(TEXT_WIDTH),
        "image_proj.norm.bias": normal(1, TEXT_WIDTH)[0],
    }
    for index, (_, channels, width) in enumerate(cross_attention_slots(model)):
        state[f"ip_adapter.{2 * index + 1}.to_k_ip.weight"] = normal(channels, width)
        state[f"ip_adapter.{2 * index + 1}.to_v_ip.weight"] = normal(channels, width)
    if trained:
        state |= {f"ira.to_{x}.weight": normal(TEXT_WIDTH, TEXT_WIDTH) for x in "qkv"}
    return state


def adapter(model, folder, **options):
    """The state above as a file, loaded the way the node loads it."""
    path = folder / "adapter.safetensors"
    save_file(adapter_state(model, **options), path)
    return load(path)


class VisionOutput:
    """What CLIPVisionEncode gives, as far as the node looks at it."""

    def __init__(self, pictures=1, seed=2, width=IMAGE_WIDTH):
        self.image_embeds = torch.randn(pictures, width, generator=torch.Generator().manual_seed(seed))


def text(seed, tokens=77) -> torch.Tensor:
    return torch.randn(1, tokens, TEXT_WIDTH, generator=torch.Generator().manual_seed(seed))


def interest(seed=5) -> torch.Tensor:
    return text(seed)


def sample(model, positive=None, negative=None, size=(8, 8), batch=1, steps=2, cfg=7.0, seed=3, sampler="euler"):
    """A latent (batch, 4, *size) from ComfyUI's sampler; conditionings default to seeded text."""
    positive = positive if positive is not None else [[text(10), {}]]
    negative = negative if negative is not None else [[text(11), {}]]
    latent = torch.zeros(batch, 4, *size)
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        return comfy.sample.sample(
            model, noise, steps, cfg, sampler, "normal", positive, negative, latent, disable_pbar=True, seed=seed
        ).clone()


def small_clip(layers=2, seed=6):
    """SD1.5's own CLIP class and tokenizer over a shallow tower of random weights, 768 wide."""
    target = comfy.supported_models.SD15(unet_config()).clip_target()
    options = {"clip_l_model_config": {"num_hidden_layers": layers, "intermediate_size": 256}}
    clip = comfy.sd.CLIP(target, model_options=options)
    torch.manual_seed(seed)
    seed_weights(clip.cond_stage_model)
    return clip


def small_clip_vision(seed=7, width=IMAGE_WIDTH):
    """ComfyUI's CLIP Vision class over two narrow layers of random weights."""
    vision = comfy.clip_vision.ClipVisionModel(
        {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_attention_heads": 1,
            "num_hidden_layers": 2,
            "patch_size": 32,
            "image_size": 224,
            "num_channels": 3,
            "hidden_act": "quick_gelu",
            "projection_dim": width,
            "model_type": "clip_vision_model",
        }
    )
    torch.manual_seed(seed)
    seed_weights(vision.model)
    return vision
