"""Embeds what is not in the cache, in batches, one recorded step each.

The cache is keyed by embedder and digest of the text that is embedded (title, headings, passage), so an edit
re-embeds only what changed, and going back to an older embedder costs nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine

from penstock.base.digest import digest_json
from penstock.knowledge import queries
from penstock.knowledge.embedding.errors import WrongDimensions
from penstock.knowledge.embedding.vectors import embed_rows, text_to_embed
from penstock.knowledge.types import Embedder, IngestContext
from penstock.spec.knowledge import EmbedRecipe

BATCHES_PER_STEP = 4
"""So many requests are made side by side, where the embedder does that, and recorded as one step."""
_BYTES_PER_NUMBER = 4


@dataclass(frozen=True, kw_only=True)
class Filled:
    """What embedding took. Unknown is None."""

    n_embedded: int = 0
    n_tokens: int | None = 0
    cost_nano_usd: int | None = 0
    n_in_parts: int = 0

    def __add__(self, other: "Filled") -> "Filled":
        return Filled(
            n_embedded=self.n_embedded + other.n_embedded,
            n_tokens=_plus(self.n_tokens, other.n_tokens),
            cost_nano_usd=_plus(self.cost_nano_usd, other.cost_nano_usd),
            n_in_parts=self.n_in_parts + other.n_in_parts,
        )

    @property
    def cost_usd(self) -> float | None:
        """What it cost, in US dollars."""
        return None if self.cost_nano_usd is None else self.cost_nano_usd / 1e9

    @property
    def problems(self) -> tuple[str, ...]:
        """What a reader of the report should know."""
        if not self.n_in_parts:
            return ()
        return (
            f"{self.n_in_parts} passages were too long for the embedder at once and were embedded in parts",
        )


def fill_cache(
    engine: Engine,
    embedder: Embedder,
    digests: Sequence[str],
    ctx: IngestContext,
    *,
    recipe: EmbedRecipe | None = None,
    traceparent: str | None = None,
) -> Filled:
    """Embed every digest that has no vector yet; return what that took.

    Raises what the embedder raises, and `WrongDimensions` when its vectors are of another length than those kept
    under its id. Vectors of steps that ended are kept.
    """
    recipe = recipe or EmbedRecipe()
    with engine.connect() as connection:
        cached = queries.find_cached(connection, embedder.id, digests)
        kept = _kept_dims(queries.find_vectors(connection, embedder.id, sorted(cached)[:1]))
    missing = [digest for digest in digests if digest not in cached]
    per_step = recipe.batch_size * BATCHES_PER_STEP
    filled = Filled()
    for start in range(0, len(missing), per_step):
        ctx.check_cancelled()
        part = missing[start : start + per_step]
        step = _Step(engine, embedder, recipe, kept, traceparent)
        took: dict[str, Any] = ctx.step(
            "embed",
            {"embedder": embedder.id, "texts": digest_json(part)},
            lambda step=step, part=part: step.run(part),  # type: ignore[misc]
        )
        filled += (
            Filled(**took)
            if isinstance(took, dict)
            else Filled(n_embedded=len(part), n_tokens=None, cost_nano_usd=None)
        )
        done = min(start + per_step, len(missing))
        ctx.progress(0.4 + 0.5 * done / len(missing), f"embedded {done} of {len(missing)} passages")
    return filled


@dataclass(frozen=True)
class _Step:
    engine: Engine
    embedder: Embedder
    recipe: EmbedRecipe
    dims: int | None
    traceparent: str | None

    def run(self, digests: Sequence[str]) -> dict[str, Any]:
        """Embed the texts and keep their vectors; what is there already, from a run that was cut off, is left out."""
        with self.engine.connect() as connection:
            there = queries.find_cached(connection, self.embedder.id, digests)
            wanted = [digest for digest in digests if digest not in there]
            rows = queries.find_texts(connection, wanted)
        before = self.embedder.usage
        if wanted:
            texts = [self._text(rows[each]) for each in wanted]
            self._keep(wanted, embed_rows(self.embedder, texts, "document", traceparent=self.traceparent))
        after = self.embedder.usage
        return {
            "n_embedded": len(wanted),
            "n_tokens": _minus(after.n_tokens, before.n_tokens),
            "cost_nano_usd": _minus(after.cost_nano_usd, before.cost_nano_usd),
            "n_in_parts": after.n_in_parts - before.n_in_parts,
        }

    def _text(self, row: Any) -> str:
        if self.recipe.context == "none":
            return str(row.text)
        return text_to_embed(
            title=row.title,
            section=row.section,
            text=row.text,
            headings=row.headings or (),
            lead=row.lead,
        )

    def _keep(self, digests: Sequence[str], vectors: NDArray[np.float32]) -> None:
        if self.dims is not None and vectors.shape[1] != self.dims:
            raise WrongDimensions(
                f"{self.embedder.id!r} answers with {vectors.shape[1]} numbers a text; the vectors that are kept "
                f"under that name have {self.dims}.",
                hint="What the route serves has changed without a new version. Give the route a version of its own.",
            )
        with self.engine.begin() as connection:
            queries.insert_missing(
                connection,
                queries.embeddings,
                [
                    {
                        "embedder": self.embedder.id,
                        "embed_digest": digest,
                        "vector": vector.astype("<f4").tobytes(),
                    }
                    for digest, vector in zip(digests, vectors, strict=True)
                ],
            )


def _kept_dims(vectors: dict[str, bytes]) -> int | None:
    return next((len(vector) // _BYTES_PER_NUMBER for vector in vectors.values()), None)


def _plus(total: int | None, more: int | None) -> int | None:
    return None if total is None or more is None else total + more


def _minus(after: int | None, before: int | None) -> int | None:
    return None if after is None or before is None else after - before
