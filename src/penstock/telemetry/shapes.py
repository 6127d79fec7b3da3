"""What is known of a span from the names of its attributes alone, worked out once for all spans that have the same ones.

A program sends the same few sets of names again and again, and most of the table speaks of names that a span has not:
so the table is asked once a set, and each span after that only about what it has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from penstock.spec.spans import SpanKind

MAX_REMEMBERED_NAMES = 100_000
"""Names of all remembered sets together; beyond it all are forgotten."""


@dataclass(frozen=True, kw_only=True)
class PayloadNames:
    """Where payloads are found, in order."""

    messages: frozenset[str]
    input: Sequence[str]
    output: Sequence[str]
    system: str
    tools: Sequence[str]
    events: Sequence[str]
    joined_name: str
    joined_content: Sequence[str]
    joined_tool_calls: str
    levels: frozenset[str]
    is_joined: bool = True
    """Whether there may be an answer in several attributes."""
    has_system: bool = True
    is_plain: bool = False
    """Whether input and output each stand in one attribute and nowhere else."""


class Shape(NamedTuple):
    """One set of attribute names."""

    candidates: Sequence[tuple[str, Sequence[str]]]
    """By field that may be filled, the names for it that are there, the best first."""
    kinds: Sequence[tuple[str, Mapping[str, SpanKind]]]
    """Attributes that may name the kind, the one that decides first, and which value means which kind."""
    hints: Sequence[tuple[str, SpanKind]]
    errors: Sequence[tuple[str, str]]
    flat: list[str]
    """Names that are parts of flattened lists."""
    unknown: list[str]
    """Names that the table does not know."""
    expanded: Sequence[str]
    """Names of JSON texts whose members are names of their own."""
    payload: PayloadNames
    """Without the sources that are not there."""
    has_metadata: bool


class Shapes:
    """Remembers shapes by their names, in the order in which those came; may be shared by threads."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], Shape] = {}
        self._n_names = 0
        self.find = self._known.get

    def keep(self, names: tuple[str, ...], shape: Shape) -> None:
        """Remember a shape; where there are too many, forget all others."""
        self._n_names += len(names)
        if self._n_names > MAX_REMEMBERED_NAMES:
            self._known.clear()
            self._n_names = len(names)
            if self._n_names > MAX_REMEMBERED_NAMES:
                self._n_names = 0
                return
        self._known[names] = shape
