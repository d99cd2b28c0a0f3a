"""Eq 2 and Eq 3 by models that are asked in words: tags^I = VLM(p_I, I), tags^T = LLM(p_T, T)."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from PIL import Image

from ..prompt_text import clean_text, fit_text
from ..scenarios import Scenario
from . import IncompleteTags, ItemTags
from .answer_turn import first_turn
from .answers import LONGEST_ANSWER, REFUSAL, read_answer

logger = logging.getLogger(__name__)

REPAIRS = 2  # times a model is asked again, where an answer cannot be used
PICTURE_SIDE = 768  # pixels; what is larger is made smaller before a model sees it
TEXT_CHARACTERS = 4000  # of an item's text that a model reads
DESCRIPTION_CHARACTERS = 500


@dataclass(frozen=True)
class Question:
    prompt: str
    image: Image.Image | None = None
    tag_limit: int | None = None
    """The most tags that are wanted; None where the answer is something else."""
    more_images: tuple[Image.Image, ...] = ()
    """Shown behind the first, in this order."""
    schema: Mapping[str, object] | None = None
    """The JSON schema of the answer, where it is to be JSON other than tags."""

    @property
    def images(self) -> tuple[Image.Image, ...]:
        return (self.image, *self.more_images) if self.image else ()


class AnswerModel(Protocol):
    """A model that answers questions, wherever it runs."""

    fingerprint: str  # another model, another fingerprint
    batch_size: int  # how many questions are worth asking together

    def answer(self, questions: Sequence[Question]) -> list[str]:
        """One answer a question, in order."""
        ...


Reader = Callable[[str], tuple[object, str]]  # an answer → what it says, and the problem where it cannot be used


def ask(
    model: AnswerModel,
    questions: Mapping[int, Question],
    read: Reader,
    form: Callable[[Question], str],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[tuple[int, object]]:
    """What the model says to each question, by its row; of answers that cannot be used, what the last one says.

    Such a question is asked again, REPAIRS times at most, with what was wrong and the form that is wanted.
    """
    rows = list(questions)
    while rows:
        batch, rows = rows[: model.batch_size], rows[model.batch_size :]
        pending = {row: questions[row] for row in batch}
        for attempt in range(1 + REPAIRS):
            asked, pending = pending, {}
            for row, text in zip(asked, model.answer(list(asked.values())), strict=True):
                value, problem = read(text)
                if problem and attempt < REPAIRS:
                    pending[row] = _repaired(questions[row], problem, form(questions[row]))
                    continue
                if problem:
                    logger.warning("no usable answer in %d attempts, %s: %.80r", 1 + REPAIRS, problem, text)
                yield row, value
            if not pending:
                break
        progress(len(questions) - len(rows), len(questions))


class AskingTagger:
    """tags^I by a model that sees, tags^T by one that reads; a modality without a model gets no tags.

    A question whose answer cannot be used is asked again, REPAIRS times at most, with what was wrong; then the item
    has no tags of that modality, and a warning says so. `progress(answered, all)` is called after each batch of questions, and may
    raise to stop.
    """

    def __init__(
        self,
        name: str,
        vision: AnswerModel | None,
        language: AnswerModel | None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ):
        self.name, self.vision, self.language, self.progress = name, vision, language, progress
        models = {"vision": vision, "language": language}
        self.parameters = {"version": 1} | {role: model.fingerprint for role, model in models.items() if model}

    def tag(
        self, images: Sequence[Image.Image | None], texts: Sequence[str | None], scenario: Scenario
    ) -> list[ItemTags]:
        """IncompleteTags, with the items that have all their tags, when a model fails midway."""
        items, limit = list(zip(images, texts, strict=True)), scenario.tag_limit - 1
        pictures = {
            row: Question(_filled(scenario.image_prompt, scenario), _bounded(image), limit)
            for row, (image, _) in enumerate(items)
            if self.vision and image is not None
        }
        readings = {
            row: Question(_filled(scenario.text_prompt, scenario, text=text[:TEXT_CHARACTERS]), None, limit)
            for row, (_, text) in enumerate(items)
            if self.language and text and text.strip()
        }
        seen: dict[int, tuple[str, ...]] = {}
        read: dict[int, tuple[str, ...]] = {}
        try:
            for row, tags in ask(self.vision, pictures, partial(_tags, limit=limit), _tag_form, self.progress):
                seen[row] = tags
            for row, tags in ask(self.language, readings, partial(_tags, limit=limit), _tag_form, self.progress):
                read[row] = tags
        except Exception as error:
            missing = (pictures.keys() - seen.keys()) | (readings.keys() - read.keys())
            whole = [row for row in range(len(items)) if row not in missing]
            raise IncompleteTags(
                {row: ItemTags(seen.get(row, ()), read.get(row, ())) for row in whole}, error
            ) from error
        return [ItemTags(seen.get(row, ()), read.get(row, ())) for row in range(len(items))]

    def describe(self, images: Sequence[Image.Image | None], scenario: Scenario) -> list[str]:
        """T_i for items without a text (section 5.1), empty where there is no picture or no usable answer."""
        if self.vision is None:
            raise ValueError(f"the {self.name} tagger has no model that sees; choose a vision-language model")
        prompt = _filled(scenario.description_prompt, scenario)
        questions = {row: Question(prompt, _bounded(x)) for row, x in enumerate(images) if x is not None}
        told = dict(ask(self.vision, questions, _description, lambda _: "the description", self.progress))
        return [told.get(row) or "" for row in range(len(images))]


def _tags(answer: str, limit: int) -> tuple[tuple[str, ...], str]:
    read = read_answer(answer, limit)
    return read.tags, read.problem


def _description(answer: str) -> tuple[str, str]:
    """One line of whole sentences, at most DESCRIPTION_CHARACTERS long."""
    turn, _ = first_turn(answer, LONGEST_ANSWER)
    text = fit_text(clean_text(turn), len, DESCRIPTION_CHARACTERS)
    if REFUSAL.match(text):
        return "", "it refuses"
    return text, "" if text else "it is empty"


def _filled(prompt: str, scenario: Scenario, **more: str) -> str:
    return prompt.format(tag_limit=scenario.tag_limit, phi=scenario.phi, **more)


def _tag_form(question: Question) -> str:
    return f"at most {question.tag_limit} tags in English, separated by commas"


def _repaired(question: Question, problem: str, form: str) -> Question:
    return replace(
        question, prompt=f"{question.prompt}\nYour answer could not be used: {problem}. Answer with nothing but {form}."
    )


def _bounded(image: Image.Image) -> Image.Image:
    """RGB, at most PICTURE_SIDE wide and high."""
    small = image.convert("RGB")
    small.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.LANCZOS)
    return small
