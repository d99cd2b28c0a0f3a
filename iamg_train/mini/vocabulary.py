"""The rows of CLIP's token table that the mini world uses."""

from collections.abc import Iterable

import torch
from torch import Tensor

from iamg_train.encoders import ClipTokenizer
from iamg_train.mini.posters import VALUES
from iamg_train.mini.texts import PHI, SENTENCES, WHERE, tag_of

EXTRA_WORDS = (
    "a an and the this that is are of on in at by with without under over near one two it its there here "
    "about maybe related to picture painting drawing image film movie news outfit story like likes love loves"
)


class Vocabulary:
    """Row 0 is every word that is not known, 1 the start, 2 the end, then the known tokens in their order."""

    unknown, start, end = 0, 1, 2

    def __init__(self, tokens: Iterable[int], tokenizer: ClipTokenizer):
        special = (tokenizer.start, tokenizer.end)
        self.tokens = torch.tensor(sorted(set(tokens) - set(special)))
        self.size = tokenizer.end + 1  # of CLIP's whole table
        self._row_of = torch.zeros(self.size, dtype=torch.long)
        self._row_of[tokenizer.start], self._row_of[tokenizer.end] = self.start, self.end
        self._row_of[self.tokens] = torch.arange(len(self.tokens)) + 3

    def __len__(self) -> int:
        return len(self.tokens) + 3

    def rows(self, tokens: Tensor) -> Tensor:
        return self._row_of[tokens]

    def whole_table(self, table: Tensor) -> Tensor:
        """(49408, width) of (len(self), width): unknown words share a row."""
        return table[self._row_of]


def known_words() -> Vocabulary:
    """Every word that a title, a text, a tag or a rewritten text can have, and a few more."""
    tokenizer = ClipTokenizer()
    tags = [tag_of(name, value) for name, values in VALUES.items() for value in values]
    texts = [*tags, *WHERE.values(), *SENTENCES, EXTRA_WORDS, PHI, "This is about, maybe related to. , . : ; ! ? ' -"]
    texts += [f"{text}s" for text in VALUES["subject"] + VALUES["charm"]]
    return Vocabulary((token for text in texts for token in tokenizer.byte_pairs.encode(text)), tokenizer)
