"""IAMGPoolBuilder: a folder of items → a pool (Eq 6)."""

import comfy.model_management
import comfy.utils
from comfy_api.latest import io

from ..iamg.crop import CROPS
from ..iamg.items import read_items
from ..iamg.pool import EmbeddingPool
from ..iamg.pool_builder import build_pool
from ..iamg.tagging import MINI_CLIP, TAGGERS
from .encoders import ComfyEncoders
from .folders import catalogues, input_path, new_pool_path, scenarios
from .pictures import shown
from .sockets import CATEGORY, Pool
from .taggers import NO_MODEL, ChosenModels, cached_tagger, model_inputs


class IAMGPoolBuilder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IAMGPoolBuilder",
            display_name="Build Embedding Pool (I-AM-G)",
            category=CATEGORY,
            description="Encodes and tags a folder of items once, so that they can be retrieved. It can be stopped at "
            "any time and goes on where it was.",
            search_aliases=["iamg pool builder", "index catalogue", "embed folder"],
            is_output_node=True,
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=catalogues(),
                    tooltip="A folder under input/: pictures, with metadata.jsonl, .csv or .parquet, or .txt captions.",
                ),
                io.String.Input("name", default="my_pool", tooltip="The pool's name in models/iamg_pools."),
                io.Clip.Input("clip", tooltip="The CLIP of your SD1.5 checkpoint."),
                io.ClipVision.Input("clip_vision", tooltip="The image encoder that your IP-Adapter expects."),
                io.Combo.Input("scenario", options=list(scenarios()), tooltip="What kind of items these are."),
                io.Combo.Input("tagger", options=list(TAGGERS), tooltip="Where the items' tags come from."),
                io.Combo.Input(
                    "crop",
                    options=list(CROPS),
                    advanced=True,
                    tooltip="How a picture meets the encoder's square: its middle, the whole of it on white, or squeezed.",
                ),
                *model_inputs(),
            ],
            outputs=[
                Pool.Output("pool"),
                io.String.Output("report", tooltip="How many items; which were left out, why."),
            ],
        )

    @classmethod
    def execute(
        cls,
        folder,
        name,
        clip,
        clip_vision,
        scenario,
        tagger,
        crop,
        clip_model=MINI_CLIP,
        vision_model=NO_MODEL,
        language_model=NO_MODEL,
        keep_loaded=False,
    ) -> io.NodeOutput:
        destination, source, skipped = new_pool_path(name), input_path(folder), []
        items = list(read_items(source, lambda item, reason: skipped.append((item, reason))))
        bar = comfy.utils.ProgressBar(len(items))

        def progress(done: int, total: int | None) -> None:
            bar.update_absolute(done)
            comfy.model_management.throw_exception_if_processing_interrupted()

        encoders = ComfyEncoders(clip, clip_vision, crop)
        chosen = ChosenModels(clip_model, vision_model, language_model, keep_loaded)
        with cached_tagger(tagger, chosen) as asked:
            result = build_pool(destination, items, source, encoders, asked, scenarios()[scenario], progress=progress)
        skipped += result.skipped
        report = "\n".join(
            [f"{result.count} items in pool '{name}', {len(skipped)} left out"]
            + [f"{item}: {reason}" for item, reason in skipped]
        )
        data = {"name": name, "count": result.count, "skipped": skipped}
        return io.NodeOutput(EmbeddingPool.open(destination), report, ui=shown(cls, data))
