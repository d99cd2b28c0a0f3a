"""The command that was run, as results show it."""

import shlex
from argparse import Namespace
from pathlib import PurePath


def shown_command(arguments: Namespace) -> str:
    """As a shell takes it; of absolute paths only the names, which say nothing of the machine."""
    return shlex.join(["iamg-train", *map(_shown, arguments.typed)])


def _shown(word: str) -> str:
    name, equals, value = word.rpartition("=")
    return f"{name}{equals}{PurePath(value).name}" if PurePath(value).is_absolute() else word
