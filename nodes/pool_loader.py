"""EmbeddingPoolLoader: opens a pool of Eq 6."""

from comfy_api.latest import io

from ..iamg.pool import EmbeddingPool
from .folders import pools
from .sockets import CATEGORY, Pool


class EmbeddingPoolLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmbeddingPoolLoader",
            display_name="Load Embedding Pool (I-AM-G)",
            category=CATEGORY,
            description="Opens a pool of items made by Build Embedding Pool or by iamg-train pool build.",
            search_aliases=["iamg pool", "catalogue", "embeddings"],
            inputs=[
                io.Combo.Input("pool", options=sorted(pools()), tooltip="A folder in models/iamg_pools."),
            ],
            outputs=[Pool.Output("pool")],
        )

    @classmethod
    def fingerprint_inputs(cls, pool):
        status = (pools()[pool] / "pool.json").stat()
        return status.st_mtime_ns, status.st_size

    @classmethod
    def execute(cls, pool) -> io.NodeOutput:
        return io.NodeOutput(EmbeddingPool.open(pools()[pool]))
