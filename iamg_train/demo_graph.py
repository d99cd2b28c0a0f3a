"""A shipped workflow in API format, and its inputs changed."""

import json
from copy import deepcopy
from pathlib import Path

# what a weight file is called in ComfyUI: its folder of models, the node that loads it, that node's field
MODEL_PLACES = {
    "checkpoint": ("checkpoints", "CheckpointLoaderSimple", "ckpt_name"),
    "clip_vision": ("clip_vision", "CLIPVisionLoader", "clip_name"),
    "ip_adapter": ("ipadapter", "IAMGAdapterLoader", "adapter"),
}


class Graph:
    """Nodes are named by their class, of which there must be exactly one where it is asked for."""

    def __init__(self, name: str, prompt: dict):
        self.name, self.prompt = name, prompt

    @classmethod
    def read(cls, path: Path) -> "Graph":
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; run from a clone installed with `pip install -e .`")
        return cls(path.name, json.loads(path.read_text(encoding="utf-8")))

    def copy(self) -> "Graph":
        return Graph(self.name, deepcopy(self.prompt))

    def has(self, node: str) -> bool:
        return any(content["class_type"] == node for content in self.prompt.values())

    def id_of(self, node: str) -> str:
        found = [node_id for node_id, content in self.prompt.items() if content["class_type"] == node]
        if len(found) != 1:
            raise ValueError(f"{self.name} has {len(found)} {node} nodes; the demo needs exactly one")
        return found[0]

    def value(self, node: str, field: str):
        return self.prompt[self.id_of(node)]["inputs"][field]

    def put(self, node: str, **values: object) -> None:
        """Set a node's inputs; those that are None stay as the workflow has them."""
        given = {field: value for field, value in values.items() if value is not None}
        self.prompt[self.id_of(node)]["inputs"].update(given)

    def remove(self, node: str) -> None:
        """Take a node out, and every link from it."""
        node_id = self.id_of(node)
        del self.prompt[node_id]
        for content in self.prompt.values():
            links = {field: x for field, x in content["inputs"].items() if isinstance(x, list) and x[0] == node_id}
            for field in links:
                del content["inputs"][field]

    def model_places(self) -> dict[str, tuple[str, str, str]]:
        """Those of MODEL_PLACES that this workflow loads from."""
        return {name: place for name, place in MODEL_PLACES.items() if self.has(place[1])}
