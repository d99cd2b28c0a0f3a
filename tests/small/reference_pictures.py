"""Three pictures by the shipped family, each from a seed; run as a script it writes them anew as the references."""

import random
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from iamg.foreground import on_white
from iamg_train.diffusion_files import load_vae
from iamg_train.encoders import ClipEncoders
from iamg_train.mini.files import MiniFiles, unpack
from iamg_train.mini.posters import VALUES, draw, random_poster
from iamg_train.mini.texts import sentence_of, tag_of, title_of
from iamg_train.personalised_unet import Conditions, PersonalisedUNet
from iamg_train.sampling import draw_latents, to_pictures

REFERENCES = Path(__file__).parents[1] / "references"
SEEDS = (1, 2, 3)
NEIGHBOURS, STEPS, GUIDANCE, INTEREST_WEIGHT = 3, 10, 4.0, 0.3


def reference_conditions(files: MiniFiles) -> tuple[Conditions, torch.Tensor]:
    """What guides the pictures, and the empty prompt's tokens: a poster each, its neighbours, and some interests."""
    encoders = ClipEncoders(files.checkpoint, files.clip_vision)
    rows = []
    for seed in SEEDS:
        chance = random.Random(seed)
        poster, *neighbours = (random_poster(chance) for _ in range(1 + NEIGHBOURS))
        interests = ", ".join(tag_of(name, chance.choice(VALUES[name])) for name in ("setting", "frame", "charm"))
        text = f"{title_of(poster)}. {sentence_of(poster)} This poster is about {poster.colour}, maybe related to {interests}."
        picture, mask = (torch.from_numpy(np.asarray(x).astype(np.float32) / 255) for x in draw(poster))
        subject = Image.fromarray((on_white(picture[None], mask[None])[0] * 255).round().byte().numpy())
        tokens = encoders.encode_tokens([text, *(sentence_of(x) for x in neighbours)])
        embeds = torch.from_numpy(encoders.encode_images([subject, *(draw(x)[0] for x in neighbours)]))
        rows.append((tokens[0], embeds[0], tokens[0], tokens[1:], embeds[1:], torch.tensor(INTEREST_WEIGHT)))
    return Conditions(*map(torch.stack, zip(*rows, strict=True))), encoders.encode_tokens([""])[0]


def reference_pictures(
    files: MiniFiles, model: PersonalisedUNet, conditions: Conditions, empty: torch.Tensor
) -> list[Image.Image]:
    noise = torch.stack([torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in SEEDS])
    latents = draw_latents(model, conditions, empty, noise, STEPS, GUIDANCE)
    return to_pictures(load_vae(files.checkpoint).decode(latents))


def load_reference(seed: int) -> np.ndarray:
    return np.asarray(Image.open(REFERENCES / f"{seed}.png"), np.float32)


if __name__ == "__main__":
    from iamg_train.config import Method, Model
    from iamg_train.personalised_unet import load_model

    with tempfile.TemporaryDirectory() as folder:
        shipped = unpack(Path(folder))
        model = load_model(
            Model(checkpoint=shipped.checkpoint, clip_vision=shipped.clip_vision, ip_adapter=shipped.adapter),
            Method(),
            torch.float32,
        )
        REFERENCES.mkdir(exist_ok=True)
        pictures = reference_pictures(shipped, model, *reference_conditions(shipped))
        for seed, picture in zip(SEEDS, pictures, strict=True):
            picture.save(REFERENCES / f"{seed}.png")
