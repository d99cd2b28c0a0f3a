"""What a judge said, in a file that only grows: nothing is asked twice, and nothing counts twice."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from iamg.tagging.asking import AnswerModel, ask
from iamg_train.evaluation.judge_cases import Case, Showing
from iamg_train.evaluation.judge_prompt import Reading, answer_form, read_judgement
from iamg_train.jsonl_log import JsonLinesLog, read_log

JUDGEMENTS = "judgements.jsonl"


class Judgements:
    """Readings of answers by the keys of what was asked; killed at any moment, it goes on.

    One process at a time writes a file.
    """

    def __init__(self, path: Path, retry_failed: bool = False):
        """retry_failed: what had no usable answer is asked again."""
        self._path = path
        self._readings: dict[str, Reading] = {}
        for row in read_log(path):
            key, reading = row.get("key"), _reading(row)
            if isinstance(key, str) and reading and (reading.ranking or not retry_failed):
                self._readings[key] = reading

    def __getitem__(self, showing: Showing) -> Reading:
        return self._readings[showing.key]

    def missing(self, showings: Sequence[Showing]) -> list[Showing]:
        """What is to be asked; of showings that are alike in all that the judge sees, one."""
        return list({x.key: x for x in showings if not self._knows(x)}.values())

    def _knows(self, showing: Showing) -> bool:
        reading = self._readings.get(showing.key)
        return reading is not None and len(reading.ranking) in (0, len(showing.slots))

    def ask(
        self, model: AnswerModel, cases: Sequence[Case], showings: Sequence[Showing], on_done: Callable[[int], None]
    ) -> None:
        """Asks the model, a batch at a time: its answers are on the disk before the next is begun."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with JsonLinesLog(self._path) as log:
            for start in range(0, len(showings), model.batch_size):
                batch = showings[start : start + model.batch_size]
                questions = {place: x.question(cases[x.case]) for place, x in enumerate(batch)}
                count = len(batch[0].slots)
                read = partial(read_judgement, count=count)
                answers = dict(ask(model, questions, read, lambda _, count=count: answer_form(count)))
                rows = [(showing, answers[place]) for place, showing in enumerate(batch)]
                log.append(_row(model.fingerprint, showing, cases[showing.case], reading) for showing, reading in rows)
                self._readings |= {showing.key: reading for showing, reading in rows}
                on_done(len(batch))


def _row(judge: str, showing: Showing, case: Case, reading: Reading) -> dict[str, object]:
    return {
        "key": showing.key,
        "judge": judge,
        "user_id": case.user_id,
        "objective": case.objective,
        "number": case.number,
        "slots": showing.slots,
        "ranking": [slot + 1 for slot in reading.ranking],
        "reason": reading.reason,
        "problem": reading.problem,
    }


def _reading(row: dict) -> Reading | None:
    """None where the row is none of these."""
    ranking, reason, problem = row.get("ranking"), row.get("reason"), row.get("problem")
    if not isinstance(reason, str) or not isinstance(problem, str) or not isinstance(ranking, list):
        return None
    if any(type(slot) is not int for slot in ranking) or sorted(ranking) != list(range(1, len(ranking) + 1)):
        return None
    return Reading(tuple(slot - 1 for slot in ranking), reason, problem) if bool(ranking) != bool(problem) else None
