"""Cuts parsed documents into passages. Pure: no files, no models, no indexes."""

from penstock.knowledge.chunk.counting import TokenCounter, count_words, estimate_tokens
from penstock.knowledge.chunk.document import CHUNKER, Chunks, check_recipe, chunk_document, name_chunker

__all__ = [
    "CHUNKER",
    "Chunks",
    "TokenCounter",
    "check_recipe",
    "chunk_document",
    "count_words",
    "estimate_tokens",
    "name_chunker",
]
