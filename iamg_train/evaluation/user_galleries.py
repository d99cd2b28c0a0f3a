"""Whom a picture may be for: galleries of users, one of whom it was drawn for."""

from collections import Counter

import numpy as np
import xxhash

from iamg_train.evaluation.catalogue import Histories
from iamg_train.evaluation.methods import Pair


class UserGalleries:
    """For each user and objective, whose pictures they are and some other users, the same for every method.

    Users whose history holds the objective are in no gallery of it: their history shows the item itself. `shuffled`
    puts a random user of the same kind in the place of whose pictures they are: the null run.
    """

    def __init__(self, histories: Histories, size: int, seed: int, shuffled: bool = False):
        """size: of a gallery; it is less where there are not so many users."""
        self._histories, self._seed, self._shuffled = histories, seed, shuffled
        self._users = list({user_id: (user_id, objective) for user_id, objective in histories}.values())
        met = Counter(item for pair in self._users for item in set(histories[pair]))
        fewest_others = len(self._users) - 1 - max((met[objective] for _, objective in histories), default=0)
        self.size = max(0, min(size, 1 + fewest_others))

    def __contains__(self, pair: Pair) -> bool:
        return pair in self._histories

    def of(self, pair: Pair) -> list[tuple[str, ...]]:
        """Histories: first that of whom the pictures are taken to be for, then those of the others."""
        random = np.random.default_rng(xxhash.xxh3_64_intdigest(repr((self._seed, self._shuffled, pair)).encode()))
        own, gallery = pair[0], [] if self._shuffled else [self._histories[pair]]
        for place in random.permutation(len(self._users)):
            if len(gallery) == self.size:
                break
            other = self._histories[self._users[place]]
            if pair[1] not in other and (self._shuffled or self._users[place][0] != own):
                gallery.append(other)
        return gallery
