"""IAMGPoolFromPictures: a pool of the connected pictures, for those who have no catalogue."""

import shutil

from comfy_api.latest import io

from ..iamg.items import Item
from ..iamg.pool import EmbeddingPool
from ..iamg.pool_builder import build_pool
from ..iamg.tagging import make_tagger
from .encoders import ComfyEncoders
from .folders import scenarios, temporary_folder
from .pictures import grown
from .sockets import CATEGORY, Pool


class IAMGPoolFromPictures(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IAMGPoolFromPictures",
            display_name="Pool from Pictures (I-AM-G)",
            category=CATEGORY,
            description="Makes the connected pictures the pool that is searched. It lasts until ComfyUI is closed.",
            search_aliases=["iamg small pool", "pictures to pool"],
            inputs=[
                io.Clip.Input("clip", tooltip="The CLIP of your SD1.5 checkpoint."),
                io.ClipVision.Input("clip_vision", tooltip="The image encoder that your IP-Adapter expects."),
                io.Combo.Input("scenario", options=list(scenarios()), tooltip="What kind of items these are."),
                io.String.Input("texts", multiline=True, default="", tooltip="One line for each picture, in order."),
                io.Autogrow.Input(
                    "images",
                    template=io.Autogrow.TemplatePrefix(
                        io.Image.Input("image", tooltip="An item's picture."), prefix="image", min=1, max=20
                    ),
                ),
            ],
            outputs=[Pool.Output("pool")],
        )

    @classmethod
    def execute(cls, clip, clip_vision, scenario, texts, images) -> io.NodeOutput:
        pictures = grown(images)
        lines = [line.strip() for line in texts.strip().splitlines()]
        if len(lines) != len(pictures):
            raise ValueError(
                f"Pool from Pictures has {len(pictures)} pictures but {len(lines)} lines of text; write one line for each"
            )
        destination = temporary_folder()
        folder = destination / "items"
        folder.mkdir()
        items = []
        for number, (picture, line) in enumerate(zip(pictures, lines, strict=True), start=1):
            picture.save(folder / f"{number}.png")
            items.append(Item(str(number), f"picture {number}", line, (), f"{number}.png"))
        encoders = ComfyEncoders(clip, clip_vision, "center_crop")
        build_pool(
            destination / "pool", items, folder, encoders, make_tagger("visual + keywords"), scenarios()[scenario]
        )
        shutil.rmtree(folder)
        return io.NodeOutput(EmbeddingPool.open(destination / "pool"))
