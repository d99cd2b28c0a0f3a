"""The scenarios φ: what is drawn, and what its tags are about (section 4.1 and Appendix E)."""

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from string import Formatter

from .prompt_text import clean_text
from .tag_text import split_tags

BUILT_IN = Path(__file__).with_name("scenarios.toml")
PLACEHOLDERS = {  # each prompt needs these
    "image_prompt": {"tag_limit"},
    "text_prompt": {"tag_limit", "text"},
    "tag_prompt": {"tag"},
    "description_prompt": set(),
}


@dataclass(frozen=True)
class Scenario:
    """One φ. The prompts are templates for `str.format`; the first two ask for fewer than `tag_limit` tags."""

    name: str
    phi: str
    image_prompt: str  # {tag_limit}, {phi}
    text_prompt: str  # {text}, {tag_limit}, {phi}
    tag_limit: int
    tag_prompt: str = "a {phi}, {tag}"  # how CLIP is told of a picture with a tag
    description_prompt: str = "Describe this {phi} in one or two plain sentences."  # where an item has no text
    vocabulary: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Tags that a picture may have, in groups of which it has one at most; the first groups matter most."""


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
    keys = {key.name: key for key in fields(Scenario) if key.name != "name"}
    needed = [key for key, known in keys.items() if known.default is known.default_factory is MISSING]
    if not isinstance(table, dict):
        raise ValueError(f"expected a table [{name}] with {', '.join(needed)}; got {table!r}")
    if missing := [key for key in needed if key not in table]:
        raise ValueError(f"{', '.join(missing)} missing; a scenario has {', '.join(needed)}")
    if unknown := [key for key in table if key not in keys]:
        raise ValueError(f"unknown key {', '.join(unknown)}; a scenario has {', '.join(keys)}")
    given = {**table, "vocabulary": _vocabulary(table.get("vocabulary", {}))}
    for key, value in given.items():
        if key != "vocabulary" and type(value) is not keys[key].type:
            raise ValueError(f"{key} must be {keys[key].type.__name__}, got {value!r}")
    scenario = Scenario(name=name, **given)
    if scenario.tag_limit < 2:
        raise ValueError(f"tag_limit is {scenario.tag_limit}; fewer tags than it are kept, so it must be 2 or more")
    if not scenario.phi or scenario.phi != clean_text(scenario.phi):
        raise ValueError(f'phi must be a few plain words, such as "movie poster", got {scenario.phi!r}')
    for key, placeholders in PLACEHOLDERS.items():
        _check_prompt(key, getattr(scenario, key), placeholders)
    return scenario


def _vocabulary(groups: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(groups, dict):
        raise ValueError(f"vocabulary must be a table of lists of tags, got {groups!r}")
    seen: set[str] = set()
    for name, tags in groups.items():
        if not isinstance(tags, list) or len(tags) < 2:
            raise ValueError(f"vocabulary.{name} must be a list of two tags or more, to choose among; got {tags!r}")
        for tag in tags:
            if not isinstance(tag, str) or split_tags(tag) != (tag,):
                raise ValueError(f'vocabulary.{name}: a tag is a few words in lower case, such as "red", got {tag!r}')
            if tag in seen:
                raise ValueError(f"vocabulary.{name} has {tag!r}, which is in the vocabulary already")
            seen.add(tag)
    return {name: tuple(tags) for name, tags in groups.items()}


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
