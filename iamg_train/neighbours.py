"""Eq 7-9 for samples: the nearest training items, without the objective itself (D11, D15)."""

from collections.abc import Callable

import numpy as np

from iamg.pool import EmbeddingPool, LeaveOut, Neighbour, PoolItem
from iamg_train.histories import Split


class Neighbours:
    """Searches a pool for the K nearest items that are not held out.

    near_duplicate: from which cosine on a picture counts as the objective's own; None leaves nothing out, as
    the paper does.
    """

    def __init__(self, pool: EmbeddingPool, split: Split, top_k: int, near_duplicate: float | None):
        self.pool, self.split, self.top_k, self.near_duplicate = pool, split, top_k, near_duplicate

    def texts(self, objective: PoolItem, query: np.ndarray) -> list[PoolItem]:
        """Φ's items: the K texts nearest to the pooled key of T*, `query` (text width,)."""
        return self._nearest(self.pool.search_text, query, objective)

    def pictures(self, objective: PoolItem) -> list[PoolItem]:
        """Ψ's items: the K pictures nearest to the objective's."""
        return self._nearest(self.pool.search_image, self._picture(objective), objective)

    def _nearest(
        self, search: Callable[..., list[Neighbour]], query: np.ndarray, objective: PoolItem
    ) -> list[PoolItem]:
        """ValueError where fewer than K training items are left."""
        leave_out = None
        if self.near_duplicate is not None:
            leave_out = LeaveOut(objective.item_id, self._picture(objective), self.near_duplicate)
        wanted = self.top_k
        while True:
            try:
                found = [neighbour.item for neighbour in search(query, wanted, leave_out)]
            except ValueError as error:
                raise ValueError(
                    f"item {objective.item_id!r} has fewer than {self.top_k} neighbours among the training items "
                    f"({error}); lower top_k or test_fraction, or add items to the pool"
                ) from error
            kept = [item for item in found if not self.split.is_test_item(item.item_id)]
            if len(kept) >= self.top_k:
                return kept[: self.top_k]
            wanted += self.top_k - len(kept)  # the fewest that can be enough: where they are not there, K are not

    def _picture(self, item: PoolItem) -> np.ndarray:
        return self.pool.image_embeds([item.row])[0]
