"""A run's grids: the same held-out users with the same noise every time, so that grids can be compared."""

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor
from torch.utils.data import default_collate

from iamg_train.diffusion_files import Vae
from iamg_train.personalised_unet import PersonalisedUNet
from iamg_train.prepared import Sample
from iamg_train.sampling import draw_latents, to_pictures
from iamg_train.training_samples import SampleReader

MARGIN, HEADING = 4, 22  # pixels


class GridMaker:
    """Draws each user's row: the item, and its picture at λ2 = 0, at λ2, and at λ2 with another user's history."""

    def __init__(
        self,
        samples: Sequence[Sample],
        controls: Sequence[Sample],
        pictures: Sequence[Image.Image],
        reader: SampleReader,
        empty_text: Tensor,
        vae: Vae,
        interest_weight: float,
        steps: int,
        seed: int,
    ):
        """controls: for each sample, the same objective with another user's history; pictures: its own picture."""
        self._samples, self._controls, self._pictures, self._reader = samples, controls, pictures, reader
        self._empty_text, self._vae, self._steps, self._seed = empty_text, vae, steps, seed
        self._interest_weight = interest_weight

    def draw(self, model: PersonalisedUNet, device: torch.device) -> Image.Image:
        columns = ["the item", "interest 0", f"interest {self._interest_weight:g}", "other history"]
        self._vae.to(device)
        rows, labels = [], []
        for sample, control, picture in zip(self._samples, self._controls, self._pictures, strict=True):
            drawn = self._row(model, sample, control, device)
            rows.append([ImageOps.fit(picture, drawn[0].size), *drawn])
            labels.append(f"user {sample.user_id}, item {sample.objective} (other: user {control.user_id})")
        self._vae.to("cpu")
        return lay_out(columns, labels, rows)

    def _row(self, model: PersonalisedUNet, sample: Sample, control: Sample, device: torch.device) -> list[Image.Image]:
        drawn = ((sample, 0.0), (sample, self._interest_weight), (control, self._interest_weight))
        conditions = default_collate([self._reader.conditions(who, weight) for who, weight in drawn])
        mean, _ = self._reader.posterior(sample)
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(self._seed))
        noise = noise.expand(len(drawn), *mean.shape).to(device)
        latents = draw_latents(model, conditions.on(device), self._empty_text.to(device), noise, self._steps)
        return to_pictures(self._vae.decode(latents))


def lay_out(columns: Sequence[str], labels: Sequence[str], rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Pictures of one size as a grid, with headings and a label over each row."""
    width, height = rows[0][0].size
    step = (width + MARGIN, height + HEADING + MARGIN)
    grid = Image.new("RGB", (MARGIN + len(columns) * step[0], HEADING + len(rows) * step[1]), "white")
    draw, font = ImageDraw.Draw(grid), ImageFont.load_default(14)
    for place, text in enumerate(columns):
        draw.text((MARGIN + place * step[0], 2), text, "black", font)
    for number, (label, row) in enumerate(zip(labels, rows, strict=True)):
        top = HEADING + number * step[1]
        draw.text((MARGIN, top + 2), label, "grey", font)
        for place, picture in enumerate(row):
            grid.paste(picture, (MARGIN + place * step[0], top + HEADING))
    return grid
