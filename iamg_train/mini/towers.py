"""The mini world's CLIP: a text tower and an image tower, trained contrastively on posters and their captions."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPVisionConfig, CLIPVisionModelWithProjection

from iamg.clip_pixels import PIXEL_MEAN, PIXEL_STD
from iamg_train.encoders import ClipTokenizer
from iamg_train.mini.base_data import BasePosters
from iamg_train.mini.posters import SIDE
from iamg_train.mini.stage import Plan, train_stage
from iamg_train.mini.vocabulary import Vocabulary

WIDTH = 128
TEXT_LAYERS, VISION_LAYERS = 2, 3
PATCH = 8
UNKNOWN = 0.02  # of a caption's words are replaced by one that is never said
HOTTEST = 100.0  # logit scale, CLIP's own limit
PLAN = Plan(steps=1200, batch_size=128, learning_rate=1e-3, ema_decay=0.998)
SHORT_PLAN = Plan(steps=600, batch_size=128, learning_rate=7e-4, ema_decay=0.995)
SINGLE_PLAN = Plan(steps=400, batch_size=128, learning_rate=1e-3, ema_decay=0.99)
PATTERN_PLAN = Plan(steps=800, batch_size=64, learning_rate=1e-3, ema_decay=0.99)
PARTS = (  # name, plan, shares of captions
    ("captions", PLAN, {"redrawn": 0.4}),
    ("short", SHORT_PLAN, {"redrawn": 0.15, "short": 0.6, "most": 3}),
    ("single", SINGLE_PLAN, {"redrawn": 0.1, "short": 0.75, "most": 1}),
    ("pattern", PATTERN_PLAN, {"redrawn": 0.2, "pattern": 0.4, "short": 0.4, "most": 2}),
)
"""Whole captions never need a poster's pattern: subject, colours and charms tell it from the others of a batch. Until
half of the captions named the pattern alone, both towers read all patterns alike. Captions of redrawings teach the
text tower what T* supposes, which nothing else here says: that an interest counts for more than what the item's own
text says often."""


class Towers(nn.Module):
    """Both towers, over the words of the mini world alone."""

    def __init__(self, vocabulary: Vocabulary):
        super().__init__()
        self.vocabulary, self.tokenizer = vocabulary, ClipTokenizer()
        self.text = CLIPTextModelWithProjection(
            CLIPTextConfig(
                vocab_size=len(vocabulary),
                hidden_size=WIDTH,
                intermediate_size=4 * WIDTH,
                num_hidden_layers=TEXT_LAYERS,
                num_attention_heads=WIDTH // 64,
                hidden_act="quick_gelu",
                projection_dim=WIDTH,
                bos_token_id=vocabulary.start,
                eos_token_id=vocabulary.end,
            )
        )
        self.vision = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=WIDTH,
                intermediate_size=4 * WIDTH,
                num_hidden_layers=VISION_LAYERS,
                num_attention_heads=WIDTH // 64,
                hidden_act="quick_gelu",
                image_size=SIDE,
                patch_size=PATCH,
                projection_dim=WIDTH,
            )
        )
        self.logit_scale = nn.Parameter(torch.tensor(2.6593))  # ln(1 / 0.07)

    def ids(self, texts: Sequence[str]) -> Tensor:
        """(n, 77) rows of the vocabulary."""
        return self.vocabulary.rows(self.tokenizer(texts))

    def encode_tokens(self, ids: Tensor) -> Tensor:
        """(n, 77, width): what the U-Net sees."""
        return self.text.text_model(input_ids=ids).last_hidden_state

    def embed_texts(self, ids: Tensor) -> Tensor:
        """(n, width) of length 1, in the space that texts share with pictures."""
        ends = (ids == self.vocabulary.end).int().argmax(dim=1)
        tokens = self.encode_tokens(ids[:, : ends.max() + 1])  # what comes later is not seen by what comes before
        pooled = tokens[torch.arange(len(ids)), ends]
        return F.normalize(self.text.text_projection(pooled), dim=-1)

    def embed_pictures(self, pixels: Tensor) -> Tensor:
        """(n, width) of length 1; pixels (n, 3, 64, 64) in -1..1."""
        return F.normalize(self.vision(pixel_values=clip_input(pixels)).image_embeds, dim=-1)


def clip_input(pixels: Tensor) -> Tensor:
    """Pixels in -1..1 as CLIP's towers take them."""
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (PIXEL_MEAN, PIXEL_STD))
    return (pixels / 2 + 0.5 - mean) / std


def train_towers(folder: Path, base: BasePosters, vocabulary: Vocabulary, seed: int) -> Towers:
    """Both towers, on captions that leave less and less else to tell posters apart by."""
    torch.manual_seed(seed)
    model = Towers(vocabulary)
    for name, plan, kind in PARTS:
        model.requires_grad_(True)
        train_stage(f"CLIP, {name}", folder / name, model, plan, _contrast(model, base, plan, kind))
    return model


def _contrast(model: Towers, base: BasePosters, plan: Plan, kind: dict[str, float]) -> Callable[[int], Tensor]:
    """CLIP's loss of a step's batch; where captions name patterns alone, every equal one is a right one."""
    vocabulary = model.vocabulary

    def loss_at(step: int) -> Tensor:
        chosen = base.choose(step, plan.batch_size)
        captions = base.captions(chosen, step, **kind)
        ids = model.ids(captions)
        chance = torch.Generator().manual_seed(step)
        forgotten = torch.rand(ids.shape, generator=chance) < UNKNOWN
        ids = torch.where(forgotten & (ids > vocabulary.end), vocabulary.unknown, ids)
        scale = model.logit_scale.exp().clamp(max=HOTTEST)
        with torch.autocast("cpu", torch.bfloat16):
            pictures, texts = model.embed_pictures(base.pixels(chosen)), model.embed_texts(ids)
        logits = scale * pictures.float() @ texts.float().T
        target = torch.eye(len(captions))
        if "pattern" in kind:
            target = torch.tensor([[float(x == y) for y in captions] for x in captions])
            target /= target.sum(dim=1, keepdim=True)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

    return loss_at
