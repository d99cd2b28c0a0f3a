"""ComfyUI's face of the method: one thin node a file."""

from .adapter_apply import IAMGAdapterApply
from .adapter_loader import IAMGAdapterLoader
from .foreground import IAMGForeground
from .interest_rewrite import InterestRewrite
from .ira_fuse import IRAFuse
from .mini_model import IAMGMiniModel
from .pool_builder import IAMGPoolBuilder
from .pool_from_pictures import IAMGPoolFromPictures
from .pool_loader import EmbeddingPoolLoader
from .tag_extractor import TagExtractor
from .tagging_prompt import IAMGTaggingPrompt
from .tags_from_text import IAMGTagsFromText
from .top_k_retriever import TopKRetriever
from .user_history import IAMGUserHistory

NODES = [
    TagExtractor,
    InterestRewrite,
    EmbeddingPoolLoader,
    TopKRetriever,
    IRAFuse,
    IAMGAdapterApply,
    IAMGAdapterLoader,
    IAMGPoolBuilder,
    IAMGPoolFromPictures,
    IAMGUserHistory,
    IAMGForeground,
    IAMGMiniModel,
    IAMGTaggingPrompt,
    IAMGTagsFromText,
]
