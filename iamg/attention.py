"""Eq 13: the decoupled cross-attention that text, image and interest share in every block of the U-Net."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Attend = Callable[[Tensor, Tensor, Tensor, int], Tensor]


class Term(NamedTuple):
    """One weighted attention of Eq 13, `weight · Attn(query, key, value)`.

    Rows that share their keys are a group; the queries of a group are one long sequence.
    """

    key: Tensor  # (groups, tokens, channels); the rows are this many groups of equal size, one after the other
    value: Tensor  # (groups, tokens, channels)
    weight: float | Tensor  # a number, or a mask (1 or rows, positions, 1) already scaled by it
    block_diagonal: bool = False  # key and value are what `block_diagonal` gives


def multi_head_attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """softmax(QKᵀ/√d)V on (rows, positions, channels), the channels split into `heads`."""
    rows, _, channels = query.shape
    q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    k, v = (x.expand(rows, -1, -1, -1) for x in (k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(rows, -1, channels)


def block_diagonal(key: Tensor, value: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """A few keys and values (groups, tokens, channels) as matrices (groups, heads · tokens, channels) for a Term.

    Row (h, t) is token t with all but head h's channels zero, the keys scaled by 1/√d. Logits and outputs of all
    heads are then one product each over whole channels: no head is split off, and the second product adds into
    the sum. For 4 tokens that costs less than splitting the heads of the queries (docs/benchmarks.md).
    """
    groups, tokens, channels = key.shape
    own = torch.eye(heads, dtype=key.dtype, device=key.device).view(1, heads, 1, heads, 1)
    key, value = (x.view(groups, 1, tokens, heads, channels // heads) * own for x in (key, value))
    key = key * (channels // heads) ** -0.5
    return key.view(groups, heads * tokens, channels), value.view(groups, heads * tokens, channels)


def decoupled_attention(
    query: Tensor,
    text: Tensor,
    terms: Sequence[Term],
    heads: int,
    text_weight: float = 1.0,
    attend: Attend = multi_head_attention,
    precision: torch.dtype | None = None,
) -> Tensor:
    """Eq 13: `Z' = λ1·text + Σ weight·Attn(query, key, value)`, image and interest being the terms.

    query: (rows, positions, channels), Z·W'q. text: the text attention's own output, the same shape; without
    gradients it is overwritten and returned. text_weight: λ1. attend: how a term is computed unless its keys are
    block-diagonal; precision: the dtype of the logits of those that are.
    """
    if torch.is_grad_enabled():
        out = text * text_weight
    else:
        out = text if text_weight == 1 else text.mul_(text_weight)
    for term in terms:
        if term.block_diagonal:
            _add_block_diagonal_attention(out, query, term, heads, precision)
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


def _add_block_diagonal_attention(
    out: Tensor, query: Tensor, term: Term, heads: int, precision: torch.dtype | None
) -> None:
    groups, columns, channels = term.key.shape
    grouped, keys = query.reshape(groups, -1, channels), term.key
    if precision is not None:
        grouped, keys = grouped.to(precision), keys.to(precision)
    shares = torch.bmm(grouped, keys.transpose(1, 2)).unflatten(2, (heads, -1)).softmax(-1).to(query.dtype)
    weight = term.weight
    if isinstance(weight, Tensor):
        shares, weight = shares.view(*query.shape[:2], heads, -1) * weight.to(query.dtype).unsqueeze(3), 1.0
    out.view(groups, -1, channels).baddbmm_(shares.reshape(groups, -1, columns), term.value, alpha=weight)
