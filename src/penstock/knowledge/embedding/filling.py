"""Embeds what is not in the cache, in batches, one recorded step each.

The cache is keyed by embedder and digest of the text that is embedded (title, heading, passage), so an edit
re-embeds only what changed, and going back to an older embedder costs nothing.
"""

from collections.abc import Sequence

from sqlalchemy import Engine

from penstock.base.digest import digest_json
from penstock.knowledge import queries
from penstock.knowledge.embedding.vectors import embed_rows, text_to_embed
from penstock.knowledge.types import Embedder, IngestContext

BATCH_SIZE = 32


def fill_cache(engine: Engine, embedder: Embedder, digests: Sequence[str], ctx: IngestContext) -> int:
    """Embed every digest that has no vector yet; return how many were embedded."""
    with engine.connect() as connection:
        cached = queries.find_cached(connection, embedder.id, digests)
    missing = [digest for digest in digests if digest not in cached]
    for start in range(0, len(missing), BATCH_SIZE):
        ctx.check_cancelled()
        batch = missing[start : start + BATCH_SIZE]
        ctx.step(
            "embed",
            {"embedder": embedder.id, "texts": digest_json(batch)},
            lambda batch=batch: _embed_batch(engine, embedder, batch),  # type: ignore[misc]
        )
        done = min(start + BATCH_SIZE, len(missing))
        ctx.progress(0.4 + 0.5 * done / len(missing), f"embedded {done} of {len(missing)} passages")
    return len(missing)


def _embed_batch(engine: Engine, embedder: Embedder, digests: Sequence[str]) -> int:
    with engine.connect() as connection:
        rows = queries.find_texts(connection, digests)
    texts = [
        text_to_embed(title=rows[each].title, section=rows[each].section, text=rows[each].text)
        for each in digests
    ]
    vectors = embed_rows(embedder, texts, "document")
    with engine.begin() as connection:
        queries.insert_missing(
            connection,
            queries.embeddings,
            [
                {"embedder": embedder.id, "embed_digest": digest, "vector": vector.astype("<f4").tobytes()}
                for digest, vector in zip(digests, vectors, strict=True)
            ],
        )
    return len(digests)
