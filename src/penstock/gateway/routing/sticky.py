"""Assigns users or sessions to targets by weighted rendezvous hashing.

Each (person, target) pair has a score of its own, and the highest wins: a target that goes takes only its own people
away, and one that comes takes its share evenly from all others (Thaler and Ravishankar, "Using name-based mappings to
increase hit rates", 1998; weights after Schindelhauer and Schomaker, "Weighted Distributed Hash Tables", 2005).
"""

from collections.abc import Sequence
from hashlib import blake2b
from math import log
from typing import Protocol, TypeVar

_SPAN = float(1 << 64)


class Placed(Protocol):
    """What can be assigned to."""

    @property
    def health_id(self) -> str:
        """A name that stays the same as long as it is the same place."""
        ...

    @property
    def weight(self) -> float:
        """Its share."""
        ...


T = TypeVar("T", bound=Placed)


def rank(key: str, targets: Sequence[T]) -> list[T]:
    """Return `targets` in the order in which they serve `key`: the same for the same key, in every process.

    Targets without weight come last.
    """
    return sorted(targets, key=lambda target: _score(key, target), reverse=True)


def _score(key: str, target: Placed) -> float:
    digest = blake2b(f"{len(key)}:{key}{target.health_id}".encode(), digest_size=8).digest()
    draw = (int.from_bytes(digest, "big") + 0.5) / _SPAN
    if target.weight <= 0 or draw >= 1.0:
        return -1.0 + draw if target.weight <= 0 else float("inf")
    return -target.weight / log(draw)
