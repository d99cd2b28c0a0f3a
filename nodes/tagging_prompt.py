"""IAMGTaggingPrompt: what Eq 2 and Eq 3 ask of a model, for ComfyUI's own Generate Text."""

from comfy_api.latest import io

from .folders import scenarios
from .sockets import CATEGORY

PICTURE, TEXT = "picture", "text"


class IAMGTaggingPrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IAMGTaggingPrompt",
            display_name="Tagging Prompt (I-AM-G)",
            category=CATEGORY,
            description="Writes the question for tags that a language model answers: connect it to Generate Text, and what "
            "that generates to Tags from Text.",
            search_aliases=["iamg prompt", "tag prompt", "LLM tags", "VLM tags", "generate text"],
            inputs=[
                io.Combo.Input("scenario", options=list(scenarios()), tooltip="What kind of item this is."),
                io.Combo.Input(
                    "about",
                    options=[PICTURE, TEXT],
                    tooltip="What is asked about: the picture that Generate Text looks at, or the text below.",
                ),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="",
                    tooltip="The item's text; a question about a picture needs none.",
                ),
                io.Boolean.Input(
                    "each_line",
                    default=False,
                    tooltip="Every line is the text of an item of its own, the newest first: one question each.",
                ),
            ],
            outputs=[
                io.String.Output("prompt", is_output_list=True, tooltip="For the prompt of Generate Text."),
            ],
        )

    @classmethod
    def execute(cls, scenario, about, text, each_line) -> io.NodeOutput:
        chosen = scenarios()[scenario]
        words = {"tag_limit": chosen.tag_limit, "phi": chosen.phi}
        if about == PICTURE:
            return io.NodeOutput([chosen.image_prompt.format(**words)])
        texts = text.strip().splitlines() if each_line else [text]
        if not texts or not all(map(str.strip, texts)):
            raise ValueError(
                "Tagging Prompt has an item without a text to ask about; write one line for each item, or ask about its "
                "picture instead"
            )
        return io.NodeOutput([chosen.text_prompt.format(text=_plain(item), **words) for item in texts])


def _plain(text: str) -> str:
    """A text whose words are no marks of a chat template, such as <|im_end|>, to the model that reads it."""
    return text.strip().replace("<|", "< |").replace("<start_of_turn>", "").replace("<end_of_turn>", "")
