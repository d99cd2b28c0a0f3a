"""SD1.5's CLIP text tower and a CLIP Vision file, out of the files ComfyUI reads, giving the same embeddings."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import xxhash
from PIL import Image

from iamg.clip_pixels import clip_pixels
from iamg.crop import cuts_center, prepare
from iamg.interests import fit_text
from iamg_train.clip_files import (
    TEXT_PREFIXES,
    Weights,
    read_weights,
    text_model,
    text_tower,
    vision_model,
    vision_tower,
)


class TextEncoder:
    """SD1.5's text tower, encoding as ComfyUI's CLIPTextEncode does (decision D1)."""

    def __init__(self, checkpoint: Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32):
        self.device = device
        self.tokenizer = ClipTokenizer()
        self.text_model = text_model(read_weights(checkpoint, TEXT_PREFIXES), checkpoint.name).to(device, dtype)

    def fit_text(self, text: str) -> str:
        """The text cut to the text tower's one window."""
        return fit_text(text, self.tokenizer.count)

    @torch.no_grad()
    def encode_tokens(self, texts: Sequence[str]) -> torch.Tensor:
        """(n, 77, text width) float32 on the CPU: the rows after the final LayerNorm."""
        hidden = self.text_model.text_model(input_ids=self.tokenizer(texts).to(self.device)).last_hidden_state
        return hidden.float().cpu()

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """(n, text width) float32: the end token's row, unprojected."""
        return self.encode_tokens(texts)[torch.arange(len(texts)), self.end_of(texts)].numpy()

    def end_of(self, texts: Sequence[str]) -> torch.Tensor:
        """(n,) where each text's end token is among its 77."""
        return self.tokenizer.end_of(texts)


class VisionEncoder:
    """A CLIP Vision tower, encoding as ComfyUI's CLIPVisionEncode does (decisions D2, D16)."""

    def __init__(
        self,
        clip_vision: Path,
        crop: str = "center_crop",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        self.crop, self.device, self.dtype = crop, device, dtype
        self.vision_model = vision_model(read_weights(clip_vision), clip_vision.name).to(device, dtype)

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """(n, image width) float32: CLIP's projected image embeddings."""
        size, center = self.vision_model.config.image_size, cuts_center(self.crop)
        pixels = torch.cat([clip_pixels(prepare(image, self.crop), size, center) for image in images])
        embeds = self.vision_model(pixel_values=pixels.to(self.device, self.dtype)).image_embeds
        return embeds.float().cpu().numpy()


class ClipEncoders(TextEncoder, VisionEncoder):
    """Both towers: what builds a pool."""

    def __init__(
        self,
        checkpoint: Path,
        clip_vision: Path,
        crop: str = "center_crop",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        TextEncoder.__init__(self, checkpoint, device, dtype)
        VisionEncoder.__init__(self, clip_vision, crop, device, dtype)


class ClipTokenizer:
    """CLIP's byte pairs, cleaned and padded as ComfyUI does for SD1.5: lower case, end tokens up to 77."""

    length = 77

    def __init__(self):
        from open_clip.tokenizer import SimpleTokenizer

        self.byte_pairs = SimpleTokenizer()
        # open_clip mends mojibake and HTML as well, which ComfyUI does not.
        self.byte_pairs.clean_fn = lambda text: re.sub(r"\s+", " ", unicodedata.normalize("NFC", text)).lower()
        self.start, self.end = self.byte_pairs.sot_token_id, self.byte_pairs.eot_token_id

    def count(self, text: str) -> int:
        """How many tokens the text takes, start and end not counted."""
        return len(self.byte_pairs.encode(text))

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """(n, 77) token ids; a text longer than the window is cut."""
        rows = []
        for text in texts:
            row = [self.start, *self.byte_pairs.encode(text)[: self.length - 2]]
            rows.append(row + [self.end] * (self.length - len(row)))
        return torch.tensor(rows)

    def end_of(self, texts: Sequence[str]) -> torch.Tensor:
        """(n,) the place of each text's first end token; those behind it are padding."""
        return (self(texts) == self.end).int().argmax(dim=1)


def text_fingerprint(checkpoint: Path) -> str:
    """32 hex digits that tell this text tower from others; an SD1.5 checkpoint and its tower alone agree."""
    return weights_fingerprint(text_tower(read_weights(checkpoint, TEXT_PREFIXES), checkpoint.name))


def vision_fingerprint(clip_vision: Path) -> str:
    return weights_fingerprint(vision_tower(read_weights(clip_vision), clip_vision.name))


def weights_fingerprint(weights: Weights) -> str:
    """xxh3_128 over the names, dtypes, shapes and stored bytes, whatever the order and the strides."""
    digest = xxhash.xxh3_128()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
