"""Joins apps with what knows documents: sentences packed in tokens of the answering model, answers checked against passages."""

from collections.abc import Sequence

from penstock.apps.evidence import PackSentences
from penstock.apps.types import FoundPassage
from penstock.knowledge.chunk.counting import estimate_tokens
from penstock.knowledge.retrieval.packing import Context, pack_context
from penstock.main.prompt_rooms import EmbeddedTokenizers

MARK_TOKENS = 4
"""Of a sentence's number in brackets and its line break."""
ESTIMATE = "estimate"


def make_packing(tokenizers: EmbeddedTokenizers) -> PackSentences:
    """Return what packs by the tokenizer of an embedded model, and by a rather high estimate for any other."""

    def pack(
        hits: Sequence[FoundPassage], *, model: str, budget: int, max_items: int
    ) -> tuple[Context[FoundPassage], str]:
        told = [ESTIMATE]

        def count(texts: Sequence[str]) -> Sequence[int]:
            counted = tokenizers.count_texts(model, texts)
            if counted is None:
                return estimate_tokens(texts)
            told[0] = counted[1]
            return counted[0]

        packed = pack_context(
            hits, budget, count, unit="sentences", overhead=MARK_TOKENS, max_items=max_items
        )
        return packed, told[0]

    return pack
