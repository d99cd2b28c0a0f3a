"""What is wrong with a configuration, in words: where it stands, what was given, what is expected."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MultipleOf
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

EXPECTED = "expected"  # a field's own words for what it takes, where its type says too little
FLAG_PREFIXES = {"drop": "drop-"}  # sections whose keys alone would say too little as flags
TYPES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"}


def flag_name(section: str, key: str) -> str:
    return f"--{FLAG_PREFIXES.get(section, '')}{key.replace('_', '-')}"


def expected(field: FieldInfo) -> str:
    """What a key takes: "a whole number, 1 or more"."""
    if isinstance(field.json_schema_extra, dict) and EXPECTED in field.json_schema_extra:
        return field.json_schema_extra[EXPECTED]
    return ", ".join([_type_words(field.annotation), *map(_limit_words, field.metadata)])


def _type_words(annotation: Any) -> str:
    arguments = [argument for argument in get_args(annotation) if argument is not type(None)]
    origin = get_origin(annotation)
    if origin is Literal:
        return "one of " + ", ".join(f'"{value}"' for value in arguments)
    if origin is list:
        return f"a list, each {_type_words(arguments[0])}"
    if origin in (Union, UnionType):
        return " or ".join(map(_type_words, arguments))
    return TYPES[annotation]


def _limit_words(limit: Any) -> str:
    match limit:
        case Ge():
            return f"{limit.ge} or more"
        case Gt():
            return f"more than {limit.gt}"
        case Le():
            return f"at most {limit.le}"
        case Lt():
            return f"less than {limit.lt}"
        case MultipleOf():
            return f"a multiple of {limit.multiple_of}"
    raise TypeError(f"no words for the limit {limit}")


@dataclass(frozen=True)
class Problems:
    """Describes what a schema of sections found wrong with `tables`, read from `path` and from these flags."""

    schema: type[BaseModel]
    tables: Mapping[str, Any]
    path: Path | None
    flags: frozenset[str]

    def describe(self, error: ValidationError) -> str:
        """Every problem once, on a line of its own."""
        lines = {}
        for problem in error.errors(include_url=False):
            place = tuple(problem["loc"][:2])  # deeper ones are members of a union or a list
            lines.setdefault(place, self._line(problem, place))
        return "\n".join(lines.values())

    def _line(self, problem: dict, place: tuple[str, ...]) -> str:
        name = ".".join(place)
        if problem["type"] == "extra_forbidden":
            return f"{self._source}{name} is no known key{self._nearest(place)}"
        if problem["type"] == "value_error" and len(place) == 1:
            return f"{self._source}[{name}] {problem['ctx']['error']}"
        field = self._sections[place[0]].model_fields[place[1]] if len(place) == 2 else self.schema.model_fields[name]
        if name in self._sections:
            return f"{self._source}{name} is {_shown(self.tables[name])}; expected a table [{name}]"
        if problem["type"] == "missing":
            where = f"{self._source}{name}" if self.path else flag_name(*place)
            return f"{where} is missing; expected {expected(field)}: {field.description}"
        given = self.tables[place[0]][place[1]] if len(place) == 2 else self.tables[name]
        where = flag_name(place[0], place[-1]) if place[-1] in self.flags else f"{self._source}{name}"
        return f"{where} is {_shown(given)}; expected {expected(field)}{_nearest_choice(field, given)}"

    @property
    def _source(self) -> str:
        return f"{self.path}: " if self.path else ""

    @property
    def _sections(self) -> dict[str, type[BaseModel]]:
        fields = self.schema.model_fields.items()
        return {name: field.annotation for name, field in fields if isinstance(field.annotation, type)}

    def _nearest(self, place: tuple[str, ...]) -> str:
        """The key or table that was probably meant: in this table, then of this name elsewhere, then anywhere."""
        if len(place) == 1 and (close := get_close_matches(place[0], self._sections, n=1)):
            return f"; did you mean [{close[0]}]?"
        here = list(self._sections[place[0]].model_fields) if len(place) == 2 else []
        homes = {key: name for name, section in self._sections.items() for key in section.model_fields}
        asked = place[-1]
        if asked in homes:
            return f"; {asked} belongs under [{homes[asked]}]"
        if close := get_close_matches(asked, here, n=1):
            return f"; did you mean {place[0]}.{close[0]}?"
        if close := get_close_matches(asked, homes, n=1):
            return f"; did you mean {homes[close[0]]}.{close[0]}?"
        return "; its keys are " + ", ".join(here or self._sections)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        return f'"{value}"'
    return str(list(value) if isinstance(value, tuple) else value)


def _nearest_choice(field: FieldInfo, given: Any) -> str:
    if get_origin(field.annotation) is not Literal or not isinstance(given, str):
        return ""
    close = get_close_matches(given, get_args(field.annotation), n=1)
    return f'; did you mean "{close[0]}"?' if close else ""
