"""IRAFuse: Eq 10 and Eq 11."""

import torch
from comfy_api.latest import io

from ..iamg.explanation import Share, draw, tell
from . import sockets
from .adapter_weights import on_device
from .pictures import shown, to_tensor


class IRAFuse(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IRAFuse",
            display_name="Fuse Interests (IRA)",
            category=sockets.CATEGORY,
            description="Interest Retrieve Attention: fuses what was retrieved, first texts with the rewritten text, then "
            "pictures with the result, and tells which items counted how much.",
            search_aliases=["iamg fuse", "interest retrieve attention", "ira"],
            has_intermediate_output=True,
            inputs=[
                sockets.Adapter.Input("adapter", tooltip="From Load Adapter; a stock IP-Adapter works untrained."),
                sockets.Retrieved.Input("retrieved", tooltip="From Top-K Retriever."),
                io.Combo.Input(
                    "query",
                    options=["tokens", "pooled"],
                    advanced=True,
                    tooltip="Ask with every token of the rewritten text, or with its one pooled vector.",
                ),
            ],
            outputs=[
                sockets.Interest.Output("interest"),
                io.String.Output("explanation", tooltip="Which items counted, and how much."),
                io.Image.Output("explanation_picture", tooltip="The same as a picture."),
            ],
        )

    @classmethod
    def execute(cls, adapter, retrieved, query) -> io.NodeOutput:
        asked = retrieved.text_tokens if query == "tokens" else retrieved.pooled[:, None]
        width = adapter.model.width
        if asked.shape[-1] != width:
            raise ValueError(
                f"the adapter's tokens are {width}-d, but the text encoder gives {asked.shape[-1]}-d; connect the CLIP of "
                "the checkpoint family that the adapter was trained for"
            )
        with on_device(adapter) as (weights, device):
            projected = weights.project_image(retrieved.image_embeds.to(device))
            interest = weights.ira(asked.to(device), retrieved.retrieved_text[None].to(device), projected[None])
        texts = _shares(retrieved.text_neighbours, interest.text_mass[0], retrieved.text_pictures)
        images = _shares(retrieved.image_neighbours, interest.image_mass[0], retrieved.image_pictures)
        picture = to_tensor(draw(texts, images))
        data = {
            "text": [share.as_dict() for share in texts],
            "image": [share.as_dict() for share in images],
            "trained": adapter.model.has_trained_ira,
        }
        explanation = tell(texts, images, adapter.model.has_trained_ira)
        return io.NodeOutput(interest.tokens.cpu(), explanation, picture, ui=shown(cls, data, picture))


def _shares(neighbours: list, mass: torch.Tensor, pictures: list) -> list[Share]:
    return [
        Share(x.item.item_id, x.item.title, x.similarity, attention, picture)
        for x, attention, picture in zip(neighbours, mass.tolist(), pictures, strict=True)
    ]
