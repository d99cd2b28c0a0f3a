"""How much of the original picture is left: SSIM, MS-SSIM and LPIPS, by torchmetrics."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
import torchmetrics
from torch import Tensor
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from iamg_train.clip_files import read_weights
from iamg_train.evaluation.methods import Shot
from iamg_train.evaluation.metrics import Definition, hash_of
from iamg_train.evaluation.pictures import Pictures, middle_square
from iamg_train.whole_files import file_hash

SMALLEST_MS_SSIM = 176  # pixels: at the fifth scale a window of 11 must fit
BORDER = 5  # pixels, where a window of 11 does not fit
NETS = {
    "alex": "AlexNet_Weights",
    "vgg": "VGG16_Weights",
}  # LPIPS's backbones, and torchvision's names of their weights

Compare = Callable[[Tensor, Tensor], Tensor]
"""A picture and its original, both (1, 3, side, side) in 0..1, to one number."""


class Likeness:
    """A comparison of a picture with its objective's own."""

    def __init__(
        self, definition: Definition, compare: Compare, pictures: Pictures, originals: Mapping[str, Path], side: int
    ):
        """originals: by item."""
        self.definition, self._compare, self._side = definition, compare, side
        self._pictures, self._originals = pictures, originals

    def key(self, shot: Shot) -> str | None:
        hashes = self._pictures.hash(shot.file), self._pictures.hash(self._originals[shot.objective])
        return hash_of(self.definition, torchmetrics.__version__, *hashes)

    def values(self, shots: Sequence[Shot]) -> list[float]:
        """One pair at a time: the windows of several leave a CPU's cache, and take up to four times as long."""
        with torch.inference_mode():
            return [
                self._compare(self._pixels(shot.file), self._pixels(self._originals[shot.objective])).item()
                for shot in shots
            ]

    def _pixels(self, path: Path) -> Tensor:
        square = torch.tensor(middle_square(self._pictures.open(path), self._side))
        return square.movedim(-1, 0)[None] / 255


def likenesses(pictures: Pictures, originals: Mapping[str, Path], side: int) -> list[Likeness]:
    """SSIM, and MS-SSIM where the pictures are large enough for it."""
    square = f"the middle squares at {side} x {side} pixels, RGB in 0..1, averaged over channels"
    windows = "Gaussian windows of 11 pixels, sigma 1.5, K1 = 0.01, K2 = 0.03"
    ssim = Definition("SSIM", f"Wang et al. 2004: {windows}, borders of {BORDER} pixels left out; {square}", "higher")
    found = [Likeness(ssim, _ssim, pictures, originals, side)]
    if side >= SMALLEST_MS_SSIM:
        scales = "five scales with the weights 0.0448, 0.2856, 0.3001, 0.2363, 0.1333, below 0 taken as 0, borders mirrored at the last"
        ms_ssim = Definition("MS-SSIM", f"Wang et al. 2003: {scales}; {windows}; {square}", "higher")
        found.append(Likeness(ms_ssim, _ms_ssim, pictures, originals, side))
    return found


def lpips(net: str, weights: Path, pictures: Pictures, originals: Mapping[str, Path], side: int) -> Likeness:
    """LPIPS with this backbone, whose weights are torchvision's file; ValueError where the file does not fit."""
    definition = Definition(
        f"LPIPS ({net})",
        f"Zhang et al. 2018, version 0.1: {net} with the linear layers of torchmetrics {torchmetrics.__version__}; the "
        f"middle squares at {side} x {side} pixels",
        "lower",
        f"{weights.name} {file_hash(weights)}",
    )
    model = _lpips_model(net, weights)

    def compare(drawn: Tensor, original: Tensor) -> Tensor:
        return model(drawn, original, normalize=True)

    return Likeness(definition, compare, pictures, originals, side)


def cached_backbone(net: str) -> Path:
    """Where torchvision keeps this backbone's weights when it has fetched them; nothing is fetched here."""
    from torchvision import models

    url = getattr(models, NETS[net]).DEFAULT.url
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def _lpips_model(net: str, weights: Path) -> torch.nn.Module:
    from torchmetrics.functional.image.lpips import _NoTrainLpips  # the class around it would fetch the backbone

    stored = read_weights(weights, ("features.",))
    model = _NoTrainLpips(net=net, pnet_rand=True)
    own = model.net.state_dict()  # slice<n>.<place among the features>.weight
    places = {name: f"features.{name.partition('.')[2]}" for name in own}
    missing = [place for name, place in places.items() if place not in stored or stored[place].shape != own[name].shape]
    if missing:
        raise ValueError(
            f"{weights} holds no weights of LPIPS's {net}: {missing[0]} is missing or of another shape; give torchvision's "
            f"{cached_backbone(net).name}"
        )
    model.net.load_state_dict({name: stored[place] for name, place in places.items()})
    return model


def _ssim(drawn: Tensor, original: Tensor) -> Tensor:
    """torchmetrics' own mean takes in the borders, mirrored; scikit-image and Wang et al. leave them out."""
    _, everywhere = structural_similarity_index_measure(
        drawn, original, sigma=1.5, data_range=1.0, return_full_image=True
    )
    return everywhere[..., BORDER:-BORDER, BORDER:-BORDER].mean()


def _ms_ssim(drawn: Tensor, original: Tensor) -> Tensor:
    return multiscale_structural_similarity_index_measure(drawn, original, sigma=1.5, data_range=1.0, normalize="relu")
