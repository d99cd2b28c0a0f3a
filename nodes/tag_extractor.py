"""TagExtractor: Eq 2 and Eq 3."""

from comfy_api.latest import io

from ..iamg.interests import item_tags
from ..iamg.tagging import MINI_CLIP, TAGGERS, ItemTags
from .folders import scenarios
from .pictures import grown, shown
from .sockets import CATEGORY, Tags
from .taggers import NO_MODEL, ChosenModels, cached_tagger, model_inputs, show_progress


class TagExtractor(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TagExtractor",
            display_name="Tag Extractor (I-AM-G)",
            category=CATEGORY,
            description="Finds tags in items' pictures and texts: what the items show, and what they are about.",
            search_aliases=["iamg tags", "keywords", "caption tags", "interests"],
            has_intermediate_output=True,
            inputs=[
                io.Combo.Input("scenario", options=list(scenarios()), tooltip="What kind of item this is."),
                io.Combo.Input(
                    "tagger",
                    options=list(TAGGERS),
                    tooltip="Where tags come from: the picture's colours and light, the text's key phrases, what CLIP sees in "
                    "the picture, several of these, or what a model answers that runs here (transformers) or on a server (endpoint).",
                ),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="",
                    tooltip="The item's text. With several pictures: one line for each, the newest item first.",
                ),
                io.String.Input(
                    "typed_tags",
                    default="",
                    tooltip="Tags of your own, separated by commas; they join those found, for every item.",
                ),
                io.Autogrow.Input(
                    "images",
                    template=io.Autogrow.TemplatePrefix(
                        io.Image.Input("image", tooltip="The item's picture; one socket for each item."),
                        prefix="image",
                        min=0,
                        max=10,
                    ),
                    optional=True,
                ),
                *model_inputs(),
            ],
            outputs=[
                Tags.Output("tags", tooltip="One set of tags an item, the newest first."),
                io.String.Output("tags_text", tooltip="The same tags to read, one line an item."),
            ],
        )

    @classmethod
    def execute(
        cls,
        scenario,
        tagger,
        text,
        typed_tags,
        images=None,
        clip_model=MINI_CLIP,
        vision_model=NO_MODEL,
        language_model=NO_MODEL,
        keep_loaded=False,
    ) -> io.NodeOutput:
        pictures = grown(images)
        texts = _texts(text, len(pictures))
        typed = tuple(tag.strip() for tag in typed_tags.split(",") if tag.strip())
        if not pictures and not texts and not typed:
            raise ValueError("Tag Extractor has nothing to look at; connect a picture, write a text, or type tags")
        count = max(len(pictures), len(texts), 1)
        chosen = ChosenModels(clip_model, vision_model, language_model, keep_loaded)
        with cached_tagger(tagger, chosen, show_progress()) as asked:
            found = asked.tag(pictures or [None] * count, texts or [None] * count, scenarios()[scenario])
        tags = [ItemTags(item.image, (*typed, *item.text)) for item in found]
        data = {"items": [{"image": list(item.image), "text": list(item.text)} for item in tags]}
        lines = "\n".join(", ".join(item_tags(item)) for item in tags)
        return io.NodeOutput(tags, lines, ui=shown(cls, data))


def _texts(text: str, pictures: int) -> list[str]:
    """One text an item: the whole text for a single item, else its lines, one a picture."""
    if pictures <= 1:
        return [text] if text.strip() else []
    lines = [line.strip() for line in text.strip().splitlines()]
    if lines and len(lines) != pictures:
        raise ValueError(
            f"Tag Extractor has {pictures} pictures but {len(lines)} lines of text; write one line for each picture "
            "(an empty line for one without a text), or leave the text empty"
        )
    return lines
