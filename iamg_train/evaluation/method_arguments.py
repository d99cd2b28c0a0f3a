"""The arguments that say which methods are compared, shared by all commands that compare some."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iamg_train.evaluation.methods import Method


def add_method_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "methods", nargs="+", type=_named_folder, metavar="NAME=DIR", help="folders of pictures with a manifest.jsonl"
    )
    command.add_argument("--items", type=Path, required=True, metavar="DIR", help="what the pictures were drawn from")
    command.add_argument(
        "--original", action=argparse.BooleanOptionalAction, default=True, help="the item's own picture is a method too"
    )


def methods_of(arguments: argparse.Namespace) -> "list[Method]":
    """What is compared, in the order given, the original item last; ValueError where that is not two methods or more."""
    from iamg_train.evaluation.methods import original_item, read_method

    methods = [read_method(name, folder) for name, folder in arguments.methods]
    if arguments.original:
        methods.append(original_item(arguments.items, methods[0]))
    names = [method.name for method in methods]
    if len(set(names)) < len(names):
        raise ValueError(f"two methods are named alike among {', '.join(names)}; give each a name of its own")
    if len(names) < 2:
        raise ValueError(f"{names[0]} alone cannot be compared; give a second method, or leave --no-original out")
    return methods


def _named_folder(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name.strip() and equals and folder):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=DIR")
    return name.strip(), Path(folder)
