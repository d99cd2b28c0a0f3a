"""The shipped family's file: a whole small Stable Diffusion in SD1.5's own names, and its CLIP Vision.

Of CLIP's token table only the rows of known words are kept; all other words share one row.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .places import FAMILY

FORMAT_VERSION = "1"
TOKEN_TABLE = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
KNOWN_ROWS = "known_tokens"  # (n,) the tokens that the stored rows are of; the last stored row is every other token's
VISION_PREFIX, LOGIT_SCALE = "clip_vision.", "logit_scale"


@dataclass(frozen=True)
class Family:
    """Weights as SD1.5's files name them."""

    checkpoint: dict[str, Tensor]  # model.diffusion_model.*, first_stage_model.*, cond_stage_model.transformer.*
    clip_vision: dict[str, Tensor]  # vision_model.*, visual_projection.weight
    logit_scale: float  # how much a cosine of a text and a picture counts, before the softmax over texts
    metadata: dict[str, str]


def read_family(path: Path = FAMILY) -> Family:
    """The family with its whole token table; ValueError naming the file where it is no such family."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        if metadata.get("format_version") != FORMAT_VERSION:
            raise ValueError(f"its format is {metadata.get('format_version')}, this I-AM-G reads {FORMAT_VERSION}")
        known, stored = tensors.pop(KNOWN_ROWS), tensors[TOKEN_TABLE]
        table = stored[-1].repeat(int(metadata["tokens"]), 1)
        table[known.long()] = stored[:-1]
        tensors[TOKEN_TABLE] = table
        logit_scale = float(tensors.pop(LOGIT_SCALE))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} does not exist; install the pack again, or run `iamg-train mini train`"
        ) from None
    except (SafetensorError, LookupError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path.name} cannot be used as a mini family: {error}") from error
    vision = {key.removeprefix(VISION_PREFIX): x for key, x in tensors.items() if key.startswith(VISION_PREFIX)}
    checkpoint = {key: x for key, x in tensors.items() if not key.startswith(VISION_PREFIX)}
    return Family(checkpoint, vision, logit_scale, metadata)


def family_bytes(family: Family) -> bytes:
    """The file's content. In the token table the row that most tokens have is taken for that of unknown words."""
    table = family.checkpoint[TOKEN_TABLE]
    unknown = table.mode(dim=0).values
    known = (table != unknown).any(dim=1).nonzero()[:, 0]
    tensors = {**family.checkpoint, TOKEN_TABLE: torch.cat([table[known], unknown[None]]), KNOWN_ROWS: known.int()}
    tensors |= {VISION_PREFIX + key: x for key, x in family.clip_vision.items()}
    tensors[LOGIT_SCALE] = torch.tensor(family.logit_scale)
    metadata = {**family.metadata, "format_version": FORMAT_VERSION, "tokens": str(len(table))}
    return save({key: x.contiguous() for key, x in tensors.items()}, metadata)
