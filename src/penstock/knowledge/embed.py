"""Where `embedding` stood before; goes when its callers have moved."""

from penstock.knowledge.embedding.filling import fill_cache
from penstock.knowledge.embedding.vectors import embed_digest, embed_rows, text_to_embed

__all__ = ["embed_digest", "embed_rows", "fill_cache", "text_to_embed"]
