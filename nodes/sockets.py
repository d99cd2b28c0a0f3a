"""The socket types that only these nodes share, and what travels on each."""

from comfy_api.latest import io

CATEGORY = "I-AM-G"

Tags = io.Custom("IAMG_TAGS")  # list[ItemTags], the newest item first
Pool = io.Custom("IAMG_POOL")  # EmbeddingPool
Retrieved = io.Custom("IAMG_RETRIEVED")  # Retrieved
Adapter = io.Custom("IAMG_ADAPTER")  # ModelPatcher of an Adapter
Interest = io.Custom("IAMG_INTEREST")  # (1, queries, width), IRA's z̃
