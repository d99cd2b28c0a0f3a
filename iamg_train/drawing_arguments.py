"""How pictures are drawn, as flags."""

import argparse
from typing import get_args

from iamg_train.argument_types import multiple_of_8, positive
from iamg_train.config import SECTIONS


def add_drawing_arguments(command: argparse.ArgumentParser) -> None:
    # Steps and seed are also keys of a run's settings, which these must not change: they have names of their own.
    drawing = command.add_argument_group("drawing")
    drawing.add_argument("--pictures", type=positive, default=4, metavar="N", help="pictures of each user")
    drawing.add_argument("--steps", dest="ddim_steps", type=positive, default=50, metavar="N", help="DDIM steps")
    drawing.add_argument(
        "--guidance-scale", type=float, default=7.5, metavar="NUMBER", help="of classifier-free guidance"
    )
    drawing.add_argument(
        "--seed", dest="first_seed", type=int, default=0, metavar="N", help="of the noise of a user's first picture"
    )
    for side in ("width", "height"):
        drawing.add_argument(f"--{side}", type=multiple_of_8, default=512, metavar="N", help="pixels")
    for key, field in SECTIONS["train"].model_fields.items():
        if key in ("device", "precision"):
            drawing.add_argument(
                f"--{key}", choices=get_args(field.annotation), default=argparse.SUPPRESS, help=field.description
            )
