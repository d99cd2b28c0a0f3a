"""TopKRetriever: Eq 7-9."""

import torch
from comfy_api.latest import io

from ..iamg.pool import LeaveOut, Neighbour
from ..iamg.prompt_text import escape_prompt
from ..iamg.retrieval import Retrieved
from . import sockets
from .encoders import ComfyEncoders
from .pictures import shown, to_batch, to_pictures

NEAR_DUPLICATE = 0.985


class TopKRetriever(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TopKRetriever",
            display_name="Top-K Retriever (I-AM-G)",
            category=sockets.CATEGORY,
            description="Finds the pool's texts nearest to the rewritten text, and its pictures nearest to the item's.",
            search_aliases=["iamg retrieve", "nearest neighbours", "similar items"],
            has_intermediate_output=True,
            inputs=[
                sockets.Pool.Input("pool", tooltip="The items to look among."),
                io.Clip.Input("clip", tooltip="The CLIP that the pool was made with."),
                io.String.Input(
                    "text",
                    force_input=True,
                    tooltip="The rewritten text (prompt of Interest Rewrite). Beyond 77 tokens it is not read.",
                ),
                io.ClipVision.Input("clip_vision", tooltip="The CLIP Vision model that the pool was made with."),
                io.Image.Input("image", tooltip="The whole picture of the item, not only its foreground."),
                io.Int.Input("top_k", default=5, min=1, max=100, tooltip="K: how many texts and how many pictures."),
                io.String.Input(
                    "leave_out_id", default="", tooltip="The item's own id in the pool, so that it never finds itself."
                ),
                io.Boolean.Input(
                    "leave_one_out",
                    default=True,
                    advanced=True,
                    tooltip="Off keeps the item itself and its near-duplicates, as the paper does.",
                ),
                io.Float.Input(
                    "near_duplicate",
                    default=NEAR_DUPLICATE,
                    min=0.5,
                    max=1.0,
                    step=0.005,
                    advanced=True,
                    tooltip="Items whose picture is at least this similar to the item's count as the item itself.",
                ),
            ],
            outputs=[
                sockets.Retrieved.Output("retrieved"),
                io.Image.Output("pictures", tooltip="The retrieved items: by text first, then by picture."),
            ],
        )

    @classmethod
    def execute(
        cls, pool, clip, text, clip_vision, image, top_k, leave_out_id, leave_one_out, near_duplicate
    ) -> io.NodeOutput:
        encoders = ComfyEncoders(clip, clip_vision, pool.crop)
        encoders.check(pool)
        text_tokens, pooled = encoders.text.encode_prompts([text])
        image_query = encoders.encode_images(to_pictures(image[:1]))[0]
        leave_out = LeaveOut(leave_out_id.strip() or None, image_query, near_duplicate) if leave_one_out else None
        texts = pool.search_text(pooled[0].numpy(), top_k, leave_out)
        images = pool.search_image(image_query, top_k, leave_out)
        retrieved = Retrieved(
            text_tokens,
            pooled,
            encoders.text.encode_prompts([escape_prompt(encoders.fit_text(x.item.description)) for x in texts])[0],
            torch.from_numpy(pool.image_embeds([x.item.row for x in images])),
            texts,
            images,
            [pool.thumbnail(x.item.row) for x in texts],
            [pool.thumbnail(x.item.row) for x in images],
        )
        pictures = to_batch(retrieved.text_pictures + retrieved.image_pictures, side=256)
        data = {"text": [_found(x) for x in texts], "image": [_found(x) for x in images]}
        return io.NodeOutput(retrieved, pictures, ui=shown(cls, data, pictures))


def _found(neighbour: Neighbour) -> dict:
    item = neighbour.item
    return {"item_id": item.item_id, "title": item.title, "similarity": round(neighbour.similarity, 4)}
