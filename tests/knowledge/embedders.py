"""Embedders for tests: words hashed into signed buckets, with counters and faults on request."""

import re
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from penstock.base.digest import digest_bytes
from penstock.base.errors import UpstreamUnavailable
from penstock.knowledge.types import EmbedUsage
from penstock.spec.knowledge import EmbedRecipe
from penstock.store.errors import UnknownBlob


class HashingEmbedder:
    """Deterministic; counts the texts it was asked for."""

    def __init__(self, name: str = "hashing@1", dims: int = 64) -> None:
        self.id = name
        self.dims = dims
        self.n_texts = 0
        self.is_down = False
        self.kinds: list[str] = []
        self.max_tokens: int | None = None

    @property
    def usage(self) -> EmbedUsage:
        return EmbedUsage(n_requests=len(self.kinds), n_texts=self.n_texts)

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def open(self, recipe: EmbedRecipe, *, made_with: str | None = None) -> "HashingEmbedder":
        """The only embedder there is, whichever version is asked for."""
        del recipe, made_with
        return self

    def embed(
        self, texts: Sequence[str], kind: str, *, traceparent: str | None = None
    ) -> NDArray[np.float32]:
        if self.is_down:
            raise UpstreamUnavailable("the embedder is down.")
        self.n_texts += len(texts)
        self.kinds.append(kind)
        rows = np.zeros((len(texts), self.dims), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in re.findall(r"\w+", text.casefold()):
                code = zlib.crc32(word.encode())
                row[code % self.dims] += 1.0 if code >> 31 else -1.0
        return rows


class MemoryBlobs:
    """Blobs in a dictionary."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def put_bytes(self, data: bytes, /) -> str:
        digest = digest_bytes(data)
        self.kept[digest] = data
        return digest

    def get(self, digest: str, /) -> bytes:
        if digest not in self.kept:
            raise UnknownBlob(f"There is no blob {digest}.")
        return self.kept[digest]

    def exists(self, digest: str, /) -> bool:
        return digest in self.kept

    def delete(self, digest: str, /) -> None:
        self.kept.pop(digest, None)
