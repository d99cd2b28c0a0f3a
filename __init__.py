"""ComfyUI's entry point to the I-AM-G nodes."""

from comfy_api.latest import ComfyExtension, io

from .nodes import NODES
from .nodes.folders import register_model_folders

WEB_DIRECTORY = "./web"


class IAMGExtension(ComfyExtension):
    async def on_load(self) -> None:
        register_model_folders()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES


async def comfy_entrypoint() -> IAMGExtension:
    return IAMGExtension()
