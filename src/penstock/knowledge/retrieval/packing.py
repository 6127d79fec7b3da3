"""Packs found passages into a budget of the answering model's tokens, each thing once, and tells what was left out.

Passages are taken best first, whole or sentence by sentence; one that is too long for what is left makes room for
shorter ones behind it. Near-equal passages (web pages that quote each other, overlapping cuts) are shown once.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Literal, Protocol, TypeVar

CountTokens = Callable[[Sequence[str]], Sequence[int]]
"""Tokens of each text, as the answering model counts them."""
Unit = Literal["passages", "sentences"]
Order = Literal["best", "document"]
SHINGLE = 3
_WORD = re.compile(r"\w+")


class Packable(Protocol):
    """A found passage; `knowledge.types.Hit` is one."""

    @property
    def passage_id(self) -> str: ...
    @property
    def document(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def sentences(self) -> Sequence[str]: ...


P = TypeVar("P", bound=Packable)


@dataclass(frozen=True, kw_only=True)
class Packed(Generic[P]):
    """One thing to put before the model."""

    hit: P
    rank: int
    """Place of its passage among the hits, from 1."""
    text: str
    n_tokens: int
    sentence: int | None = None
    """Number of the sentence in its passage, from 0; None for a whole passage."""


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A passage, or sentences of it, that the model will not see."""

    passage_id: str
    rank: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Context(Generic[P]):
    """What is put before a model."""

    items: tuple[Packed[P], ...]
    n_tokens: int
    budget: int
    left_out: tuple[LeftOut, ...]


def pack_context(
    hits: Sequence[P],
    budget: int,
    count: CountTokens,
    *,
    unit: Unit = "passages",
    order: Order = "best",
    overhead: int = 0,
    max_items: int | None = None,
    near: float = 0.9,
) -> Context[P]:
    """Return what fits into `budget` tokens. `overhead` is added for each item: its number, a line break.

    `near` is the share of a passage's word triples that must stand in one above it for it to be left out; above 1
    only what is wholly equal is. `order` is that of the result: `best` first, or as the documents read.
    """
    packer = _Packer(budget=budget, overhead=overhead, max_items=max_items)
    fresh, left_out = _drop_near(hits, near)
    if unit == "passages":
        counts = count([hit.text for _, hit in fresh]) if fresh else []
        items = [
            Packed(hit=hit, rank=rank, text=hit.text, n_tokens=n)
            for (rank, hit), n in zip(fresh, counts, strict=True)
        ]
    else:
        items = _sentences(fresh, count, left_out)
    kept: list[Packed[P]] = []
    missed: dict[int, int] = {}
    full: set[int] = set()
    for item in items:
        if item.rank in full or not packer.takes(item.n_tokens):
            missed[item.rank] = missed.get(item.rank, 0) + 1
            full.add(item.rank)  # a passage with a hole in it reads as what it does not say
            continue
        kept.append(item)
    for rank, n in missed.items():
        what = f"{n} sentences do" if unit == "sentences" and n > 1 else "it does"
        bound = "the number of items is reached" if packer.is_full else f"{what} not fit into {budget} tokens"
        left_out.append(LeftOut(passage_id=hits[rank - 1].passage_id, rank=rank, reason=bound))
    if order == "document":
        kept = _as_read(kept)
    return Context(
        items=tuple(kept),
        n_tokens=packer.used,
        budget=budget,
        left_out=tuple(sorted(left_out, key=lambda each: each.rank)),
    )


@dataclass(kw_only=True)
class _Packer:
    budget: int
    overhead: int
    max_items: int | None
    used: int = 0
    n_items: int = 0

    @property
    def is_full(self) -> bool:
        return self.max_items is not None and self.n_items >= self.max_items

    def takes(self, n_tokens: int) -> bool:
        needed = n_tokens + self.overhead
        if self.is_full or self.used + needed > self.budget:
            return False
        self.used += needed
        self.n_items += 1
        return True


def _sentences(
    fresh: Sequence[tuple[int, P]], count: CountTokens, left_out: list[LeftOut]
) -> list[Packed[P]]:
    """Return the sentences, each once over all passages; white space within them is one blank."""
    seen: set[str] = set()
    found: list[tuple[int, P, int, str]] = []
    for rank, hit in fresh:
        n_before = len(found)
        for number, sentence in enumerate(hit.sentences):
            line = " ".join(sentence.split())
            if line and line not in seen:
                seen.add(line)
                found.append((rank, hit, number, line))
        if len(found) == n_before:
            left_out.append(
                LeftOut(passage_id=hit.passage_id, rank=rank, reason="all its sentences stand above")
            )
    counts = count([line for *_, line in found]) if found else []
    return [
        Packed(hit=hit, rank=rank, text=line, n_tokens=n, sentence=number)
        for (rank, hit, number, line), n in zip(found, counts, strict=True)
    ]


def _drop_near(hits: Sequence[P], near: float) -> tuple[list[tuple[int, P]], list[LeftOut]]:
    kept: list[tuple[int, P]] = []
    shingles: list[frozenset[tuple[str, ...]]] = []
    left_out: list[LeftOut] = []
    for rank, hit in enumerate(hits, start=1):
        own = _shingles(hit.text)
        twin = next(
            (
                other
                for (_, other), above in zip(kept, shingles, strict=True)
                if hit.text == other.text or (own and len(own & above) >= near * len(own))
            ),
            None,
        )
        if twin is None:
            kept.append((rank, hit))
            shingles.append(own)
        else:
            left_out.append(
                LeftOut(passage_id=hit.passage_id, rank=rank, reason=f"nearly the same as {twin.passage_id}")
            )
    return kept, left_out


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    words = [word.casefold() for word in _WORD.findall(text)]
    if len(words) < SHINGLE:
        return frozenset([tuple(words)]) if words else frozenset()
    return frozenset(tuple(words[at : at + SHINGLE]) for at in range(len(words) - SHINGLE + 1))


def _as_read(items: Sequence[Packed[P]]) -> list[Packed[P]]:
    """Documents in the order of their best passage, passages of one as they stand in it where that is known."""
    first: dict[str, int] = {}
    for item in items:
        first.setdefault(item.hit.document, item.rank)

    def key(item: Packed[P]) -> tuple[int, int, int, int]:
        start = getattr(item.hit, "start", None)
        return (
            first[item.hit.document],
            item.rank if start is None else int(start),
            item.rank,
            item.sentence or 0,
        )

    return [replace(item) for item in sorted(items, key=key)]
