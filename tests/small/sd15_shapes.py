"""The tensors of small SD1.5 checkpoints and of an IP-Adapter for them.

A U-Net with SD1.5's 16 cross-attentions but as many channels at every level, and a VAE in TAESD's shape. 320 channels
under a text 768 wide is the least that ComfyUI's stock loaders take whole.
"""

from collections.abc import Iterator

CHANNELS = 320
CONTEXT = 768
LATENT = 4
VAE_CHANNELS = 64
IMAGE_WIDTH, IMAGE_TOKENS = 768, 4  # ViT-L/14's projection, and an adapter's tokens of it

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def unet_shapes(channels: int = CHANNELS, context: int = CONTEXT) -> Shapes:
    """Names and shapes of the U-Net's tensors, in the names of the original checkpoints; context: the text's width."""
    yield from _linear("time_embed.0", channels, 4 * channels)
    yield from _linear("time_embed.2", 4 * channels, 4 * channels)
    yield from _convolution("input_blocks.0.0", LATENT, channels)
    for block in range(1, 12):
        if block in (3, 6, 9):
            yield from _convolution(f"input_blocks.{block}.0.op", channels, channels)
            continue
        yield from _residual(f"input_blocks.{block}.0", channels, channels)
        if block < 9:
            yield from _transformer(f"input_blocks.{block}.1", channels, context)
    yield from _residual("middle_block.0", channels, channels)
    yield from _transformer("middle_block.1", channels, context)
    yield from _residual("middle_block.2", channels, channels)
    for block in range(12):
        yield from _residual(f"output_blocks.{block}.0", 2 * channels, channels)
        if block >= 3:
            yield from _transformer(f"output_blocks.{block}.1", channels, context)
        if block in (2, 5, 8):
            yield from _convolution(f"output_blocks.{block}.{1 if block == 2 else 2}.conv", channels, channels)
    yield from _norm("out.0", channels)
    yield from _convolution("out.2", channels, LATENT)


def vae_shapes() -> Shapes:
    """TAESD's tensors, without the two scalars that scale its latents."""
    encoder = ["image", "block", *(["half", "block", "block", "block"] * 3), "latent"]
    decoder = ["clamp", "from_latent", "relu", *(["block"] * 3 + ["upsample", "plain"]) * 3, "block", "to_image"]
    for part, layers in (("taesd_encoder", encoder), ("taesd_decoder", decoder)):
        for place, layer in enumerate(layers):
            name = f"{part}.{place}"
            if layer == "block":
                for convolution in (0, 2, 4):
                    yield from _convolution(f"{name}.conv.{convolution}", VAE_CHANNELS, VAE_CHANNELS)
            elif layer in ("half", "plain"):
                yield f"{name}.weight", (VAE_CHANNELS, VAE_CHANNELS, 3, 3)
            elif layer in ("image", "from_latent"):
                yield from _convolution(name, 3 if layer == "image" else LATENT, VAE_CHANNELS)
            elif layer in ("latent", "to_image"):
                yield from _convolution(name, VAE_CHANNELS, LATENT if layer == "latent" else 3)


def adapter_shapes() -> Shapes:
    """The official names; the 16 cross-attentions are numbered 1, 3 ... 31, the middle one last."""
    yield "image_proj.proj.weight", (IMAGE_TOKENS * CONTEXT, IMAGE_WIDTH)
    yield "image_proj.proj.bias", (IMAGE_TOKENS * CONTEXT,)
    yield from _norm("image_proj.norm", CONTEXT)
    for number in range(1, 32, 2):
        yield f"ip_adapter.{number}.to_k_ip.weight", (CHANNELS, CONTEXT)
        yield f"ip_adapter.{number}.to_v_ip.weight", (CHANNELS, CONTEXT)


def _residual(name: str, width: int, channels: int) -> Shapes:
    yield from _norm(f"{name}.in_layers.0", width)
    yield from _convolution(f"{name}.in_layers.2", width, channels)
    yield from _linear(f"{name}.emb_layers.1", 4 * channels, channels)
    yield from _norm(f"{name}.out_layers.0", channels)
    yield from _convolution(f"{name}.out_layers.3", channels, channels)
    if width != channels:
        yield from _convolution(f"{name}.skip_connection", width, channels, size=1)


def _transformer(name: str, channels: int, context: int) -> Shapes:
    block = f"{name}.transformer_blocks.0"
    yield from _norm(f"{name}.norm", channels)
    yield from _convolution(f"{name}.proj_in", channels, channels, size=1)
    for attention, width in (("attn1", channels), ("attn2", context)):
        yield f"{block}.{attention}.to_q.weight", (channels, channels)
        yield f"{block}.{attention}.to_k.weight", (channels, width)
        yield f"{block}.{attention}.to_v.weight", (channels, width)
        yield from _linear(f"{block}.{attention}.to_out.0", channels, channels)
    yield from _linear(f"{block}.ff.net.0.proj", channels, 8 * channels)
    yield from _linear(f"{block}.ff.net.2", 4 * channels, channels)
    for norm in ("norm1", "norm2", "norm3"):
        yield from _norm(f"{block}.{norm}", channels)
    yield from _convolution(f"{name}.proj_out", channels, channels, size=1)


def _norm(name: str, width: int) -> Shapes:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _linear(name: str, into: int, out: int) -> Shapes:
    yield f"{name}.weight", (out, into)
    yield f"{name}.bias", (out,)


def _convolution(name: str, into: int, out: int, size: int = 3) -> Shapes:
    yield f"{name}.weight", (out, into, size, size)
    yield f"{name}.bias", (out,)
