"""IAMGAdapterLoader: IP-Adapter weights, stock or fine-tuned with IRA."""

from pathlib import Path

import folder_paths
from comfy_api.latest import io

from .adapter_weights import load
from .folders import ADAPTERS
from .sockets import CATEGORY, Adapter


class IAMGAdapterLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IAMGAdapterLoader",
            display_name="Load Adapter (I-AM-G)",
            category=CATEGORY,
            description="Loads a stock IP-Adapter for SD1.5, or one that iamg-train fine-tuned together with IRA.",
            search_aliases=["iamg adapter", "ip-adapter loader"],
            inputs=[
                io.Combo.Input(
                    "adapter",
                    options=folder_paths.get_filename_list(ADAPTERS),
                    tooltip="A file in models/ipadapter, such as ip-adapter_sd15.safetensors.",
                ),
            ],
            outputs=[Adapter.Output("adapter")],
        )

    @classmethod
    def fingerprint_inputs(cls, adapter):
        status = Path(folder_paths.get_full_path_or_raise(ADAPTERS, adapter)).stat()
        return status.st_mtime_ns, status.st_size

    @classmethod
    def execute(cls, adapter) -> io.NodeOutput:
        return io.NodeOutput(load(Path(folder_paths.get_full_path_or_raise(ADAPTERS, adapter))))
