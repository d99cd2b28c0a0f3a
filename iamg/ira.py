"""Interest Retrieve Attention: Eq 10 and Eq 11, one set of matrices called twice."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Interest(NamedTuple):
    """What IRA found, and where it looked."""

    tokens: Tensor  # z̃, (batch, queries, width)
    text_mass: Tensor  # (batch, K): share of Eq 10's attention that each retrieved text received; sums to 1
    image_mass: Tensor  # (batch, K): the same for Eq 11 and the retrieved images


class InterestRetrieveAttention(nn.Module):
    """Bias-free Wq, Wk, Wv shared by both stages; no output projection, residual or norm (Eq 10-11).

    Initialised to the identity: z̃ is then a convex mix of real image tokens, which a stock IP-Adapter
    already understands, so the method works before it is trained.
    """

    def __init__(self, width: int, heads: int = 4, operations=nn, dtype: torch.dtype | None = None):
        super().__init__()
        if width % heads:
            raise ValueError(f"IRA's width {width} is not a multiple of its {heads} heads")
        self.heads = heads
        for name in ("to_q", "to_k", "to_v"):
            linear = operations.Linear(width, width, bias=False, dtype=dtype)
            nn.init.eye_(linear.weight)
            self.add_module(name, linear)

    def forward(self, text_tokens: Tensor, retrieved_text: Tensor, retrieved_image: Tensor) -> Interest:
        """z*_text (B, N, d), Φ (B, K, N', d) and projected Ψ (B, K, T, d) → z̃ (B, N, d) and both masses.

        N is 77 tokens, or 1 for a pooled query; d must equal the width of the matrices.
        """
        fused_text, text_mass = self._attend(text_tokens, retrieved_text)  # Eq 10
        tokens, image_mass = self._attend(fused_text, retrieved_image)  # Eq 11
        return Interest(tokens, text_mass, image_mass)

    def _attend(self, query: Tensor, retrieved: Tensor) -> tuple[Tensor, Tensor]:
        context = retrieved.flatten(1, 2)  # the K items end to end
        q, k, v = (
            project(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for project, x in ((self.to_q, query), (self.to_k, context), (self.to_v, context))
        )
        shares = torch.softmax(q @ k.transpose(2, 3) * q.shape[-1] ** -0.5, dim=-1)  # (B, heads, N, K·N')
        mass = shares.mean(dim=(1, 2)).unflatten(1, retrieved.shape[1:3]).sum(2)
        return (shares @ v).transpose(1, 2).flatten(2), mass
