"""Eq 7-9: what retrieval hands to IRA."""

from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from .pool import Neighbour


@dataclass(frozen=True)
class Retrieved:
    """The rewritten text, and the K nearest texts and images of the pool."""

    text_tokens: Tensor  # z*_text = F_text(T*), (1, 77, width)
    pooled: Tensor  # its pooled key, (1, width)
    retrieved_text: Tensor  # Φ, (K, 77, width)
    image_embeds: Tensor  # Ψ before its projection, (K, image width)
    text_neighbours: list[Neighbour]
    image_neighbours: list[Neighbour]
    text_pictures: list[Image.Image]
    image_pictures: list[Image.Image]
