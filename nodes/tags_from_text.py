"""IAMGTagsFromText: what a language model answered to Tagging Prompt → tags (Eq 2, Eq 3)."""

import logging
from collections.abc import Sequence

from comfy_api.latest import io

from ..iamg.interests import item_tags
from ..iamg.tagging import ItemTags
from ..iamg.tagging.answers import Answer, read_answer
from .folders import scenarios
from .pictures import shown
from .sockets import CATEGORY, Tags

log = logging.getLogger(__name__)


class IAMGTagsFromText(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IAMGTagsFromText",
            display_name="Tags from Text (I-AM-G)",
            category=CATEGORY,
            description="Reads the tags in what a language model answered: lists, JSON, numbered lines, with whatever it "
            "says around them. What cannot be used is reported.",
            search_aliases=["iamg answer", "parse tags", "LLM tags", "generated tags"],
            is_input_list=True,
            has_intermediate_output=True,
            inputs=[
                io.Combo.Input(
                    "scenario", options=list(scenarios()), tooltip="As in Tagging Prompt; it limits the tags."
                ),
                io.String.Input(
                    "picture_answer",
                    force_input=True,
                    optional=True,
                    tooltip="What Generate Text said about the item's picture; a list of answers for several items, the "
                    "newest first.",
                ),
                io.String.Input(
                    "text_answer",
                    force_input=True,
                    optional=True,
                    tooltip="What it said about the item's text, as many answers as there are about pictures.",
                ),
            ],
            outputs=[
                Tags.Output("tags", tooltip="One set of tags an item, the newest first."),
                io.String.Output("tags_text", tooltip="The same tags to read, one line an item."),
                io.String.Output("report", tooltip="Which answers could not be used, and why."),
            ],
        )

    @classmethod
    def execute(cls, scenario, picture_answer=(), text_answer=()) -> io.NodeOutput:
        limit = scenarios()[scenario[0]].tag_limit - 1
        seen, read = ([read_answer(text, limit) for text in answers] for answers in (picture_answer, text_answer))
        if not seen and not read:
            raise ValueError("Tags from Text has no answer to read; connect what Generate Text generated")
        if seen and read and len(seen) != len(read):
            raise ValueError(
                f"Tags from Text has {len(seen)} answers about pictures but {len(read)} about texts; give one of each for "
                "every item, or connect only one of the two"
            )
        problems = [*_problems("picture", seen), *_problems("text", read)]
        if len(problems) == len(seen) + len(read):
            raise ValueError(
                f"Tags from Text found no tags: {'; '.join(problems)}. Look at the answer with Preview as Text; another "
                "model, another seed or a longer max_length may help"
            )
        for problem in problems:
            log.warning("%s", problem)
        tags = [
            ItemTags(of_picture.tags, of_text.tags)
            for of_picture, of_text in zip(seen or [Answer()] * len(read), read or [Answer()] * len(seen), strict=True)
        ]
        data = {
            "items": [{"image": list(item.image), "text": list(item.text)} for item in tags],
            "problems": problems,
        }
        lines = "\n".join(", ".join(item_tags(item)) for item in tags)
        return io.NodeOutput(tags, lines, "\n".join(problems) or "Every answer has tags.", ui=shown(cls, data))


def _problems(kind: str, answers: Sequence[Answer]) -> list[str]:
    return [
        f"the answer about the {kind} of item {place}: {answer.problem}"
        for place, answer in enumerate(answers, start=1)
        if answer.problem
    ]
