"""The scenarios φ: what is drawn, and what its tags are about (section 4.1 and Appendix E)."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from string import Formatter

from .prompt_text import clean_text

BUILT_IN = Path(__file__).with_name("scenarios.toml")
PLACEHOLDERS = {"image_prompt": {"tag_limit"}, "text_prompt": {"tag_limit", "text"}}  # each prompt needs these


@dataclass(frozen=True)
class Scenario:
    """One φ. The prompts are templates for `str.format`; they ask for fewer than `tag_limit` tags."""

    name: str
    phi: str
    image_prompt: str  # {tag_limit}, {phi}
    text_prompt: str  # {text}, {tag_limit}, {phi}
    tag_limit: int


def load_scenarios(*extra: Path) -> dict[str, Scenario]:
    """The built-in scenarios by name, then those of the TOML files given; a later file adds or replaces."""
    return {name: scenario for path in (BUILT_IN, *extra) for name, scenario in _read(path).items()}


def _read(path: Path) -> dict[str, Scenario]:
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"scenario file {path} is not TOML: {error}") from error
    scenarios = {}
    for name, table in tables.items():
        try:
            scenarios[name] = _scenario(name, table)
        except ValueError as error:
            raise ValueError(f"scenario {name!r} in {path}: {error}") from error
    return scenarios


def _scenario(name: str, table: object) -> Scenario:
    types = {field.name: field.type for field in fields(Scenario) if field.name != "name"}
    if not isinstance(table, dict):
        raise ValueError(f"expected a table [{name}] with {', '.join(types)}; got {table!r}")
    if missing := [key for key in types if key not in table]:
        raise ValueError(f"{', '.join(missing)} missing; a scenario has {', '.join(types)}")
    if unknown := [key for key in table if key not in types]:
        raise ValueError(f"unknown key {', '.join(unknown)}; a scenario has {', '.join(types)}")
    for key, expected in types.items():
        if type(table[key]) is not expected:
            raise ValueError(f"{key} must be {expected.__name__}, got {table[key]!r}")
    if table["tag_limit"] < 2:
        raise ValueError(f"tag_limit is {table['tag_limit']}; fewer tags than it are kept, so it must be 2 or more")
    if not table["phi"] or table["phi"] != clean_text(table["phi"]):
        raise ValueError(f'phi must be a few plain words, such as "movie poster", got {table["phi"]!r}')
    for key, needed in PLACEHOLDERS.items():
        _check_prompt(key, table[key], needed)
    return Scenario(name=name, **table)


def _check_prompt(key: str, prompt: str, needed: set[str]) -> None:
    try:
        parts = [part for part in Formatter().parse(prompt) if part[1] is not None]
    except ValueError as error:
        raise ValueError(f"{key}: {error}; write {{{{ and }}}} for braces") from error
    used = {f"{field}:{spec}" if spec or conversion else field for _, field, spec, conversion in parts}
    if missing := needed - used:
        raise ValueError(f"{key} lacks the placeholder {_braced(missing)}")
    if unknown := used - needed - {"phi"}:
        raise ValueError(
            f"{key} has the unknown placeholder {_braced(unknown)}; it may use {_braced(needed | {'phi'})}"
        )


def _braced(names: set[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in sorted(names))
