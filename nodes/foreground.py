"""IAMGForeground: I*, what of the item's picture conditions the drawing (section 4.3)."""

from comfy_api.latest import io

from ..iamg.foreground import on_white
from .sockets import CATEGORY


class IAMGForeground(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IAMGForeground",
            display_name="Foreground on White (I-AM-G)",
            category=CATEGORY,
            description="Keeps the masked foreground and sets it on white, so that the background guides nothing. Without a "
            "mask the picture passes as it is.",
            search_aliases=["iamg foreground", "remove background", "mask on white"],
            inputs=[
                io.Image.Input("image", tooltip="The item's picture."),
                io.Mask.Input("mask", optional=True, tooltip="White where the foreground is; any size."),
            ],
            outputs=[
                io.Image.Output("image"),
                io.String.Output("note", tooltip="Whether a foreground was cut out."),
            ],
        )

    @classmethod
    def execute(cls, image, mask=None) -> io.NodeOutput:
        if mask is None:
            return io.NodeOutput(image, "No mask: the whole picture is used, background and all.")
        if len(mask) not in (1, len(image)):
            raise ValueError(
                f"{len(mask)} masks do not fit {len(image)} pictures; give one mask, or one for each picture"
            )
        picture = on_white(image[..., :3], mask)
        return io.NodeOutput(picture, f"The foreground covers {mask.mean():.0%} of the picture.")
