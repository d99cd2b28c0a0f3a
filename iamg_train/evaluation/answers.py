"""The answers of a questionnaire, which strangers send, and whose are not counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

LARGEST = 10_000_000  # bytes that an answer may have
UNUSABLE, DUPLICATE, FAILED, TOO_FAST = "unusable", "duplicate", "failed checks", "too fast"

Id = Annotated[str, Field(max_length=20)]


class _Checked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Answer(_Checked):
    question: Id
    shown: tuple[Id, ...]  # pictures, by position
    order: tuple[Id, ...]  # the best first
    seconds: float = Field(ge=0, allow_inf_nan=False)


class Sheet(_Checked):
    """What the page saves of one participant."""

    format_version: Literal[1]
    study: str
    code: str = Field(min_length=1, max_length=40)
    started: AwareDatetime
    finished: AwareDatetime
    answers: tuple[Answer, ...]


class Question(_Checked):
    user_id: str
    objective: str
    pictures: dict[Id, str]  # the method of each


class Check(_Checked):
    item: str
    pictures: tuple[Id, ...]
    right: Id


class Key(_Checked):
    """What `questionnaire make` put beside the page."""

    format_version: Literal[1]
    study: str
    questions_each: int = Field(ge=1)
    methods: dict[str, dict[str, str]]
    questions: dict[Id, Question]
    checks: dict[Id, Check]


@dataclass(frozen=True)
class Dropped:
    """A file that is not counted, by which rule, and why."""

    file: str
    rule: str
    reason: str


def read_key(path: Path) -> Key:
    try:
        return Key.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(
            f"{path} is no key of a questionnaire: {_first(error)}; give what `questionnaire make` wrote"
        ) from None


def read_answers(
    files: Sequence[Path], key: Key, failed_checks: int, min_seconds: float
) -> tuple[list[Sheet], list[Dropped]]:
    """The sheets that count, and what does not, by the first of the rules that it breaks.

    Unusable: no whole answer to this study. Duplicate: the code has been used in a sheet that was finished before.
    Failed checks: more than `failed_checks`. Too fast: the median question took less than `min_seconds`.
    """
    sheets, dropped = [], []
    for path in files:
        try:
            sheets.append((path, _read_sheet(path, key)))
        except ValueError as error:
            dropped.append(Dropped(str(path), UNUSABLE, str(error)))
    first: dict[str, Path] = {}
    kept = []
    for path, sheet in sorted(sheets, key=lambda x: x[1].finished):
        failed = sum(x.question in key.checks and x.order[0] != key.checks[x.question].right for x in sheet.answers)
        seconds = median(x.seconds for x in sheet.answers)
        code = sheet.code.strip().casefold()
        if code in first:
            dropped.append(Dropped(str(path), DUPLICATE, f"the code {sheet.code!r} is that of {first[code]}"))
        elif failed > failed_checks:
            dropped.append(Dropped(str(path), FAILED, f"{failed} of {len(key.checks)}"))
        elif seconds < min_seconds:
            dropped.append(Dropped(str(path), TOO_FAST, f"{seconds:.1f} s for the median question"))
        else:
            kept.append(sheet)
        first.setdefault(code, path)
    return kept, dropped


def _read_sheet(path: Path, key: Key) -> Sheet:
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it has more than {LARGEST} bytes")
    try:
        sheet = Sheet.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(_first(error)) from None
    if sheet.study != key.study:
        raise ValueError(f"it answers the study {sheet.study[:40]!r}, not {key.study!r}")
    asked = [answer.question for answer in sheet.answers]
    of_cases = [question for question in asked if question in key.questions]
    whole = len(set(asked)) == len(asked) == key.questions_each + len(key.checks)
    if not (whole and len(of_cases) == key.questions_each and set(asked) - set(of_cases) == set(key.checks)):
        raise ValueError(f"it does not answer {key.questions_each} questions and {len(key.checks)} checks, each once")
    for answer in sheet.answers:
        pictures = sorted((key.questions.get(answer.question) or key.checks[answer.question]).pictures)
        if sorted(answer.shown) != pictures or sorted(answer.order) != pictures:
            raise ValueError(f"question {answer.question} does not rank the pictures that it shows, each once")
    return sheet


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
