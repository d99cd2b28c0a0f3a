"""Eq 13: the decoupled cross-attention that text, image and interest share in every block of the U-Net."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Attend = Callable[[Tensor, Tensor, Tensor, int], Tensor]

FEW_KEYS = 16
"""Up to this many keys, one product with block-diagonal keys beats splitting the heads (docs/benchmarks.md)."""


class Term(NamedTuple):
    """One weighted attention of Eq 13, `weight · Attn(query, key, value)`.

    Rows that share their keys are a group; the queries of a group are one long sequence.
    """

    key: Tensor  # (groups, tokens, channels); the rows are this many groups of equal size, one after the other
    value: Tensor  # (groups, tokens, channels)
    weight: float | Tensor  # a number, or a mask (1 or rows, positions, 1) already scaled by it


def multi_head_attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """softmax(QKᵀ/√d)V on (rows, positions, channels), the channels split into `heads`."""
    rows, _, channels = query.shape
    q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    k, v = (x.expand(rows, -1, -1, -1) for x in (k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(rows, -1, channels)


def decoupled_attention(
    query: Tensor,
    text: Tensor,
    terms: Sequence[Term],
    heads: int,
    text_weight: float = 1.0,
    attend: Attend = multi_head_attention,
    few_keys: bool = True,
    precision: torch.dtype | None = None,
) -> Tensor:
    """Eq 13: `Z' = λ1·text + Σ weight·Attn(query, key, value)`, image and interest being the terms.

    query: (rows, positions, channels), Z·W'q. text: the text attention's own output, the same shape; without
    gradients it is overwritten and returned. text_weight: λ1. attend: how a term with many keys is computed
    (and every term, if few_keys is false). precision: the dtype of the logits of terms with few keys.
    """
    if torch.is_grad_enabled():
        out = text * text_weight
    else:
        out = text if text_weight == 1 else text.mul_(text_weight)
    for term in terms:
        if few_keys and term.key.shape[1] <= FEW_KEYS:
            _add_few_key_attention(out, query, term, heads, precision)
        else:
            _add_attention(out, query, term, heads, attend)
    return out


def _add_attention(out: Tensor, query: Tensor, term: Term, heads: int, attend: Attend) -> None:
    grouped = query.reshape(len(term.key), -1, query.shape[2])
    attended = attend(grouped, term.key, term.value, heads).view_as(query)
    if isinstance(term.weight, Tensor):
        out.addcmul_(attended, term.weight.to(attended.dtype))
    else:
        out.add_(attended, alpha=term.weight)


def _add_few_key_attention(out: Tensor, query: Tensor, term: Term, heads: int, precision: torch.dtype | None) -> None:
    """The same sum for a handful of keys: head h's key t is column (h, t) of a block-diagonal matrix.

    Both products then run over whole channels: no head is split off, and the sum is part of the second one.
    """
    groups, tokens, channels = term.key.shape
    head_dim = channels // heads
    diagonal = torch.eye(heads, dtype=query.dtype, device=query.device).view(1, heads, 1, heads, 1)
    keys = term.key.view(groups, 1, tokens, heads, head_dim) * (diagonal * head_dim**-0.5)
    values = term.value.view(groups, 1, tokens, heads, head_dim) * diagonal
    keys, values = (x.view(groups, heads * tokens, channels) for x in (keys, values))

    grouped = query.reshape(groups, -1, channels)
    if precision is not None:
        grouped, keys = grouped.to(precision), keys.to(precision)
    shares = torch.bmm(grouped, keys.transpose(1, 2)).unflatten(2, (heads, tokens)).softmax(-1).to(query.dtype)
    if isinstance(term.weight, Tensor):
        shares = shares.view(*query.shape[:2], heads, tokens) * term.weight.to(query.dtype).unsqueeze(3)
    weight = 1.0 if isinstance(term.weight, Tensor) else term.weight
    shares = shares.reshape(groups, -1, heads * tokens)
    out.view(groups, -1, channels).baddbmm_(shares, values, alpha=weight)
