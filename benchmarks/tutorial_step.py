"""The training step that IP-Adapter's tutorial describes: every encoder runs at every step, and all is saved."""

import os
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from torch import Tensor, nn

from benchmarks.seeded_models import IMAGE_TOKENS, VOCABULARY, Size, make_encoders
from iamg.adapter import ImageProjection
from iamg_train.personalised_unet import cross_attentions
from iamg_train.sampling import NOISE


class IpAdapter(nn.Module):
    """A frozen U-Net, and the image projection, to_k_ip and to_v_ip that train: one module, saved as a whole."""

    def __init__(self, unet: UNet2DConditionModel, size: Size):
        super().__init__()
        width = size.text.hidden_size
        self.unet = unet
        self.image_proj_model = ImageProjection(size.vision.projection_dim, width, IMAGE_TOKENS)
        processors = dict(unet.attn_processors)
        for name in cross_attentions(unet):
            channels = unet.get_submodule(name).to_k.out_features
            processors[f"{name}.processor"] = IPAdapterAttnProcessor2_0(channels, width, (IMAGE_TOKENS,))
        unet.set_attn_processor(processors)

    def forward(self, noisy: Tensor, timesteps: Tensor, text: Tensor, image_embeds: Tensor) -> Tensor:
        tokens = self.image_proj_model(image_embeds)
        return self.unet(noisy, timesteps, (text, [tokens])).sample


class TutorialStep:
    """Pictures and token ids lie ready in main memory: what reading and resizing pictures costs is not counted."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        size: Size,
        batch_size: int,
        resolution: int,
        device: torch.device,
        dtype: torch.dtype,
    ):
        """unet: in float32. dtype: what the encoders are in, and what the U-Net computes in, under autocast."""
        self.device, self.dtype = device, dtype
        self.vae, self.vision, self.text = (nn.Module.to(x, device, dtype) for x in make_encoders(size))
        self.noise_schedule = DDPMScheduler(**NOISE, clip_sample=False)
        model = IpAdapter(unet, size).to(device)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.01)
        self.accelerator = Accelerator(cpu=device.type == "cpu")
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.pixels = torch.rand(batch_size, 3, resolution, resolution) * 2 - 1
        self.clip_pixels = torch.randn(batch_size, 3, size.vision.image_size, size.vision.image_size)
        self.token_ids = torch.randint(VOCABULARY, (batch_size, size.text.max_position_embeddings))
        self.terminal = open(os.devnull, "w")

    def __call__(self) -> None:
        device, dtype = self.device, self.dtype
        with torch.no_grad():
            latents = self.vae.encode(self.pixels.to(device, dtype)).latent_dist.sample()
            latents = latents * self.vae.config.scaling_factor
            image_embeds = self.vision(self.clip_pixels.to(device, dtype)).image_embeds
            text = self.text(self.token_ids.to(device)).last_hidden_state
        noise = torch.randn_like(latents)
        timesteps = torch.randint(self.noise_schedule.config.num_train_timesteps, (len(latents),), device=device)
        noisy = self.noise_schedule.add_noise(latents, noise, timesteps)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            predicted = self.model(noisy, timesteps, text, image_embeds)
        loss = (predicted.float() - noise.float()).square().mean()
        mean = self.accelerator.gather(loss.repeat(len(latents))).mean().item()
        self.accelerator.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad()
        print(f"step_loss: {mean}", file=self.terminal, flush=True)

    def save(self, folder: Path) -> None:
        self.accelerator.save_state(folder)
