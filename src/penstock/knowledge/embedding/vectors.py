"""What is embedded of a passage, under which key it is kept, and the check of what an embedder answered."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from penstock.base.digest import digest_bytes
from penstock.knowledge.errors import UnusableEmbedding
from penstock.knowledge.index.dense import normalise_rows
from penstock.knowledge.types import Embedder, TextKind


def text_to_embed(
    *,
    title: str | None,
    section: str | None,
    text: str,
    headings: Sequence[str] = (),
    lead: str | None = None,
) -> str:
    """Return the passage with what stands above it: a passage alone often does not say what it is about."""
    path = headings or (section,)
    return "\n".join(part for part in (title, *path, lead, text) if part)


def embed_digest(
    *,
    title: str | None,
    section: str | None,
    text: str,
    headings: Sequence[str] = (),
    lead: str | None = None,
) -> str:
    """Return the key of a passage's vector within those of one embedder id."""
    whole = text_to_embed(title=title, section=section, text=text, headings=headings, lead=lead)
    return digest_bytes(whole.encode())


def embed_rows(
    embedder: Embedder, texts: Sequence[str], kind: TextKind, *, traceparent: str | None = None
) -> NDArray[np.float32]:
    """Return one unit row a text; raise `UnusableEmbedding` when the embedder's answer has another shape."""
    rows = np.asarray(embedder.embed(texts, kind, traceparent=traceparent), dtype=np.float32)
    if rows.ndim != 2 or rows.shape[0] != len(texts) or rows.shape[1] == 0:
        raise UnusableEmbedding(
            f"{embedder.id!r} answered {len(texts)} texts with an array of shape {rows.shape}."
        )
    if not np.isfinite(rows).all():
        raise UnusableEmbedding(f"{embedder.id!r} answered with values that are not finite.")
    return normalise_rows(rows)
