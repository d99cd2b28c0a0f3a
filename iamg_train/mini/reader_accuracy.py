"""How far the attribute reader can be trusted: on posters it has not seen, as they are and through the autoencoder."""

from pathlib import Path

import numpy as np

from iamg_train.diffusion_files import load_vae
from iamg_train.mini.attribute_reader import (
    ONE_OF,
    TOGETHER,
    AttributeReader,
    Readings,
    as_pixels,
    pictures_of,
    reader_posters,
    truth,
)
from iamg_train.sampling import to_pictures

FRESH_POSTERS = 1000
LEAST_ACCURACY = 0.98
RENDERED, DECODED = "rendered", "encoded and decoded"


def measure_accuracy(
    reader: AttributeReader, checkpoint: Path, seed: int, count: int = FRESH_POSTERS
) -> dict[str, dict[str, float]]:
    """By attribute, on fresh posters as they are rendered and as the checkpoint's VAE gives them back."""
    posters = reader_posters(f"fresh {seed}", count)
    pictures, known = pictures_of(posters), truth(posters)
    decoded = through_autoencoder(checkpoint, pictures)
    return {
        RENDERED: accuracy(reader.read(pictures), known),
        DECODED: accuracy(reader.read(decoded), known),
    }


def accuracy(readings: Readings, known: Readings) -> dict[str, float]:
    """The share of pictures read rightly; of charms, the share over pictures and charms."""
    shares = {name: float((readings.values[name] == known.values[name]).mean()) for name in ONE_OF}
    return shares | {"charm": float((readings.charms == known.charms).mean())}


def check_accuracy(rendered: dict[str, float]) -> None:
    """ValueError where the reader cannot be trusted with an attribute."""
    worst = min(rendered, key=rendered.get)
    if rendered[worst] < LEAST_ACCURACY:
        raise ValueError(
            f"the attribute reader reads {worst} rightly on {rendered[worst]:.1%} of rendered posters, {LEAST_ACCURACY:.0%} "
            "are needed to measure by it; remove its folder, and train it with another seed"
        )


def through_autoencoder(checkpoint: Path, pictures: np.ndarray) -> np.ndarray:
    """Pictures (n, 64, 64, 3) uint8 as softly as the checkpoint's VAE gives them back."""
    vae, parts = load_vae(checkpoint), []
    for start in range(0, len(pictures), TOGETHER):
        mean, _ = vae.posterior(as_pixels(pictures[start : start + TOGETHER]))
        parts += [np.asarray(picture) for picture in to_pictures(vae.decode(mean))]
    return np.stack(parts)
