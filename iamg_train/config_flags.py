"""One command-line flag for every key of a run's settings."""

import argparse
from argparse import BooleanOptionalAction
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from iamg_train.config import SECTIONS, Config
from iamg_train.config_problems import flag_name

KEYS = {"preset", *(key for section in SECTIONS.values() for key in section.model_fields)}

METAVARS = {int: "N", float: "NUMBER", str: "TEXT", Path: "PATH"}


def add_flags(parser: argparse.ArgumentParser, sections: Collection[str] | None = None) -> None:
    """Add --config, --preset and a flag for each key of these sections (default: of all)."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="the run's settings in TOML; a flag wins over its value there"
    )
    preset = Config.model_fields["preset"]
    _add(parser, "--preset", "preset", preset)
    for name, section in SECTIONS.items():
        if sections is None or name in sections:
            group = parser.add_argument_group(f"[{name}]")
            for key, field in section.model_fields.items():
                _add(group, flag_name(name, key), key, field)


def overrides_of(arguments: argparse.Namespace) -> dict[str, object]:
    """The flags that were given, by key, as `load_config` takes them."""
    return {key: value for key, value in vars(arguments).items() if key in KEYS}


def _add(group: Any, flag: str, key: str, field: FieldInfo) -> None:
    default = default_text(field)
    help_text = field.description + (f" (default: {default})" if default else "")
    group.add_argument(
        flag, dest=key, default=argparse.SUPPRESS, help=help_text.replace("%", "%%"), **_kind(field.annotation)
    )


def default_text(field: FieldInfo) -> str:
    """A key's default as TOML has it; nothing where there is none."""
    if field.is_required() or field.default is None:
        return ""
    value = field.default
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(f'"{entry}"' for entry in value) + "]"
    return f'"{value}"' if isinstance(value, str | Path) else str(value)


def _kind(annotation: Any) -> dict[str, Any]:
    """How argparse reads a key of this type; the limits are the schema's to check."""
    if annotation is bool:
        return {"action": BooleanOptionalAction}
    if annotation in METAVARS:
        return {"type": annotation, "metavar": METAVARS[annotation]}
    members = get_args(annotation)
    if get_origin(annotation) is Literal:
        return {"choices": members}
    if get_origin(annotation) is list:
        return {"nargs": "*", "choices": get_args(members[0])}
    if Path in members:
        return _kind(Path)
    return {"type": float, "metavar": METAVARS[float], "nargs": "+", "action": _OneOrMore}


class _OneOrMore(argparse.Action):
    """One number as itself, several as a list."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        setattr(namespace, self.dest, values if len(values) > 1 else values[0])
