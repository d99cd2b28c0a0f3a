"""IAMGUserHistory: a catalogue user's last items, and the item to redraw for them."""

from pathlib import Path

from comfy_api.latest import io
from PIL import Image

from ..iamg.interactions import read_history
from ..iamg.interests import item_tags
from ..iamg.pictures import open_picture, resolve_inside
from ..iamg.pool import PoolItem
from .folders import input_path, interaction_files
from .pictures import shown, to_batch, to_tensor
from .sockets import CATEGORY, Pool, Tags


class IAMGUserHistory(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IAMGUserHistory",
            display_name="User History (I-AM-G)",
            category=CATEGORY,
            description="Looks up what a user liked before the item that is redrawn, in a pool and its interactions file.",
            search_aliases=["iamg user", "interactions", "ratings"],
            has_intermediate_output=True,
            inputs=[
                Pool.Input("pool", tooltip="The pool that holds the items and their tags."),
                io.Combo.Input(
                    "interactions",
                    options=interaction_files(),
                    tooltip="A CSV file under input/ with user_id, item_id, rating, timestamp; the pictures lie beside it.",
                ),
                io.String.Input("user_id", default="", tooltip="Whose history."),
                io.String.Input("objective_id", default="", tooltip="The item to redraw; empty: the user's latest."),
                io.Int.Input(
                    "history_length", default=5, min=1, max=50, tooltip="k: how many items; 4 or 5 work well."
                ),
                io.Float.Input(
                    "min_rating",
                    default=4.0,
                    min=0.0,
                    max=10.0,
                    step=0.5,
                    tooltip="From which rating on an item counts as liked; items without a rating always do.",
                ),
            ],
            outputs=[
                Tags.Output("history_tags", tooltip="The tags of the history, the newest item first."),
                io.Image.Output("history_pictures", tooltip="The pictures of the history, the newest first."),
                io.Image.Output("objective_image", tooltip="The picture of the item to redraw."),
                io.String.Output("objective_text", tooltip="Its text."),
                Tags.Output("objective_tags", tooltip="Its tags."),
                io.String.Output("objective_id", tooltip="Its id, for Top-K Retriever's leave_out_id."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, interactions, pool=None, **widgets):
        status = input_path(interactions).stat()
        return status.st_mtime_ns, status.st_size

    @classmethod
    def execute(cls, pool, interactions, user_id, objective_id, history_length, min_rating) -> io.NodeOutput:
        path = input_path(interactions)
        history = read_history(
            path, user_id.strip(), pool.contains, objective_id.strip() or None, history_length, min_rating
        )
        objective, *items = (pool.item(item_id) for item_id in (history.objective, *history.items))
        pictures = to_batch([_picture(path, item) for item in items], side=512)
        data = {
            "user_id": history.user_id,
            "objective": {**_described(objective), "text": objective.description},
            "history": [_described(item) for item in items],
        }
        return io.NodeOutput(
            [item.tags for item in items],
            pictures,
            to_tensor(_picture(path, objective)),
            objective.description,
            [objective.tags],
            objective.item_id,
            ui=shown(cls, data, pictures),
        )


def _described(item: PoolItem) -> dict:
    return {"item_id": item.item_id, "title": item.title, "tags": list(item_tags(item.tags))}


def _picture(interactions: Path, item: PoolItem) -> Image.Image:
    path = resolve_inside(interactions.parent, item.picture)
    if not path.is_file():
        raise FileNotFoundError(
            f"the picture '{item.picture}' of item '{item.item_id}' is not beside '{interactions.name}' in input/; put the "
            "interactions file into the folder that the pool was built from"
        )
    return open_picture(path)
