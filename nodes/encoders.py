"""ComfyUI's CLIP and CLIP Vision as the pool's encoders (decisions D1, D2 and D16)."""

from collections.abc import Sequence
from functools import partial

import comfy.sd
import numpy as np
import torch
from comfy.clip_vision import ClipVisionModel
from PIL import Image
from torch import Tensor

from ..iamg.crop import cuts_center, prepare
from ..iamg.fingerprint import PROBE_TEXT, probe_image
from ..iamg.pool import EmbeddingPool
from ..iamg.prompt_text import escape_prompt, fit_text


class ClipText:
    """SD1.5's text encoder: token rows as the U-Net sees them, and their pooled retrieval key."""

    def __init__(self, clip: comfy.sd.CLIP):
        towers = set(clip.tokenize(""))
        if towers != {"l"}:
            raise ValueError(
                f"I-AM-G needs SD1.5's text encoder (CLIP ViT-L), but the connected CLIP has {', '.join(sorted(towers))}; "
                "connect the CLIP of an SD1.5 checkpoint"
            )
        self._clip = clip
        self._end = getattr(clip.tokenizer, clip.tokenizer.clip).end_token

    def encode_prompts(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Prompts of one window each → tokens (n, 77, d) and pooled keys (n, d), on the CPU, in one batch."""
        windows = [self._windows(prompt)[0] for prompt in prompts]
        tokens = self._clip.encode_from_tokens({"l": windows}).unflatten(1, (len(windows), -1))[0].float().cpu()
        ends = [[token for token, _ in window].index(self._end) for window in windows]
        return tokens, tokens[torch.arange(len(ends)), ends]

    def count(self, text: str) -> int:
        """CLIP tokens of a plain text, without start and end."""
        return sum([t for t, _ in window].index(self._end) - 1 for window in self._windows(escape_prompt(text)))

    def _windows(self, prompt: str) -> list[list[tuple[int, float]]]:
        return self._clip.tokenize(prompt)["l"]


class ClipVision:
    """A CLIP Vision model that meets pictures in one fixed way."""

    def __init__(self, clip_vision: ClipVisionModel, crop: str):
        self._clip_vision, self.crop = clip_vision, crop

    def encode(self, pictures: Sequence[Image.Image]) -> Tensor:
        """n pictures → image embeddings (n, width), on the CPU."""
        crop = cuts_center(self.crop)
        outputs = [self._clip_vision.encode_image(prepare(picture, self.crop), crop=crop) for picture in pictures]
        return torch.cat([output.image_embeds for output in outputs]).float().cpu()


class ComfyEncoders:
    """Both encoders as `iamg.pool_builder` wants them."""

    def __init__(self, clip: comfy.sd.CLIP, clip_vision: ClipVisionModel, crop: str):
        self.text, self.vision, self.crop = ClipText(clip), ClipVision(clip_vision, crop), crop
        self.fit_text = partial(fit_text, count_tokens=self.text.count)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        return self.text.encode_prompts([escape_prompt(text) for text in texts])[1].numpy()

    def encode_images(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        return self.vision.encode(pictures).numpy()

    def check(self, pool: EmbeddingPool) -> None:
        """Refuse a pool that other encoders made."""
        pool.check_encoders(self.encode_texts([PROBE_TEXT])[0], self.encode_images([probe_image()])[0])
