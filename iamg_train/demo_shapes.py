"""The tensors of the smallest SD1.5 checkpoint that ComfyUI's stock loaders take whole.

A U-Net with SD1.5's 16 cross-attentions but 320 channels at every level, and a VAE in TAESD's shape.
"""

from collections.abc import Iterator

CHANNELS = 320
CONTEXT = 768
TIME = 4 * CHANNELS
LATENT = 4
VAE_CHANNELS = 64

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def unet_shapes() -> Shapes:
    """Names and shapes of the U-Net's tensors, in the names of the original checkpoints."""
    yield from _linear("time_embed.0", CHANNELS, TIME)
    yield from _linear("time_embed.2", TIME, TIME)
    yield from _convolution("input_blocks.0.0", LATENT, CHANNELS)
    for block in range(1, 12):
        if block in (3, 6, 9):
            yield from _convolution(f"input_blocks.{block}.0.op", CHANNELS, CHANNELS)
            continue
        yield from _residual(f"input_blocks.{block}.0", CHANNELS)
        if block < 9:
            yield from _transformer(f"input_blocks.{block}.1")
    yield from _residual("middle_block.0", CHANNELS)
    yield from _transformer("middle_block.1")
    yield from _residual("middle_block.2", CHANNELS)
    for block in range(12):
        yield from _residual(f"output_blocks.{block}.0", 2 * CHANNELS)
        if block >= 3:
            yield from _transformer(f"output_blocks.{block}.1")
        if block in (2, 5, 8):
            yield from _convolution(f"output_blocks.{block}.{1 if block == 2 else 2}.conv", CHANNELS, CHANNELS)
    yield from _norm("out.0", CHANNELS)
    yield from _convolution("out.2", CHANNELS, LATENT)


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


def _residual(name: str, width: int) -> Shapes:
    yield from _norm(f"{name}.in_layers.0", width)
    yield from _convolution(f"{name}.in_layers.2", width, CHANNELS)
    yield from _linear(f"{name}.emb_layers.1", TIME, CHANNELS)
    yield from _norm(f"{name}.out_layers.0", CHANNELS)
    yield from _convolution(f"{name}.out_layers.3", CHANNELS, CHANNELS)
    if width != CHANNELS:
        yield from _convolution(f"{name}.skip_connection", width, CHANNELS, size=1)


def _transformer(name: str) -> Shapes:
    block = f"{name}.transformer_blocks.0"
    yield from _norm(f"{name}.norm", CHANNELS)
    yield from _convolution(f"{name}.proj_in", CHANNELS, CHANNELS, size=1)
    for attention, width in (("attn1", CHANNELS), ("attn2", CONTEXT)):
        yield f"{block}.{attention}.to_q.weight", (CHANNELS, CHANNELS)
        yield f"{block}.{attention}.to_k.weight", (CHANNELS, width)
        yield f"{block}.{attention}.to_v.weight", (CHANNELS, width)
        yield from _linear(f"{block}.{attention}.to_out.0", CHANNELS, CHANNELS)
    yield from _linear(f"{block}.ff.net.0.proj", CHANNELS, 8 * CHANNELS)
    yield from _linear(f"{block}.ff.net.2", 4 * CHANNELS, CHANNELS)
    for norm in ("norm1", "norm2", "norm3"):
        yield from _norm(f"{block}.{norm}", CHANNELS)
    yield from _convolution(f"{name}.proj_out", CHANNELS, CHANNELS, size=1)


def _norm(name: str, width: int) -> Shapes:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _linear(name: str, into: int, out: int) -> Shapes:
    yield f"{name}.weight", (out, into)
    yield f"{name}.bias", (out,)


def _convolution(name: str, into: int, out: int, size: int = 3) -> Shapes:
    yield f"{name}.weight", (out, into, size, size)
    yield f"{name}.bias", (out,)
