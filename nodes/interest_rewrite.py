"""InterestRewrite: Eq 4, Eq 5 and T*."""

from dataclasses import asdict

from comfy_api.latest import io

from ..iamg.interests import rewrite
from ..iamg.tag_text import split_tags
from ..iamg.tagging import ItemTags
from ..iamg.tagging.filters import TagFilter
from .encoders import ClipText
from .folders import scenarios
from .pictures import shown
from .sockets import CATEGORY, Tags


class InterestRewrite(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InterestRewrite",
            display_name="Interest Rewrite (I-AM-G)",
            category=CATEGORY,
            description="Rewrites the item's text for one user: the item's own tags, then the tags that user's last "
            "items share. Fits CLIP's one window; what had to be cut is reported.",
            search_aliases=["iamg rewrite", "personal prompt", "interest prompt"],
            has_intermediate_output=True,
            inputs=[
                io.Clip.Input("clip", tooltip="SD1.5's text encoder; it counts the tokens."),
                io.String.Input("text", multiline=True, default="", tooltip="The item's own text."),
                io.Combo.Input("scenario", options=list(scenarios()), tooltip="What kind of item this is."),
                io.Int.Input(
                    "max_interest_tags",
                    default=8,
                    min=0,
                    max=20,
                    tooltip="H: how many of the history's most frequent tags are named. 5 to 8 work well.",
                ),
                io.String.Input(
                    "typed_interests",
                    default="",
                    tooltip="The user's interests in your own words, separated by commas, instead of those of the history.",
                ),
                Tags.Input("item_tags", optional=True, tooltip="Tags of the item that is redrawn."),
                Tags.Input("history_tags", optional=True, tooltip="Tags of the user's last items, the newest first."),
                io.String.Input(
                    "exclude_tags",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Tags never to name, separated by commas, in any spelling: of the item and of the history.",
                ),
                io.String.Input(
                    "only_tags",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Tags of which alone any are named, separated by commas. Empty: all.",
                ),
            ],
            outputs=[
                io.String.Output("prompt", tooltip="The rewritten text, ready for CLIP Text Encode."),
                io.String.Output("report", tooltip="What was kept, cut and merged, and how many tokens it takes."),
            ],
        )

    @classmethod
    def execute(
        cls,
        clip,
        text,
        scenario,
        max_interest_tags,
        typed_interests,
        item_tags=None,
        history_tags=None,
        exclude_tags="",
        only_tags="",
    ) -> io.NodeOutput:
        wanted = TagFilter(split_tags(exclude_tags), split_tags(only_tags))
        typed = [tag.strip() for tag in typed_interests.split(",") if tag.strip()]
        history = [ItemTags(text=(tag,)) for tag in typed] or [wanted.keep(tags) for tags in history_tags or []]
        # typed interests stand in for the history: each counts once, in the order typed
        own = item_tags or [ItemTags()]
        if len(own) > 1:
            raise ValueError(
                f"item_tags holds the tags of {len(own)} items, but one item is rewritten at a time; connect the Tag "
                "Extractor of that item, and the others' to history_tags"
            )
        result = rewrite(
            text, wanted.keep(own[0]), history, scenarios()[scenario], ClipText(clip).count, max_interest_tags
        )
        return io.NodeOutput(result.prompt, result.report(), ui=shown(cls, asdict(result)))
