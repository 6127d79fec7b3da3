"""What an app asks of whoever knows documents: to pack passages into a budget, and to check an answer against what it cites.

`main` fills these ports. Both may load a tokenizer or compare much text, so they run on threads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from penstock.apps.types import FoundPassage


class PackedSentence(Protocol):
    """A sentence to put before a model."""

    @property
    def hit(self) -> FoundPassage: ...
    @property
    def text(self) -> str: ...


class LeftOutPassage(Protocol):
    """A passage, or sentences of it, that the model will not see."""

    @property
    def passage_id(self) -> str: ...
    @property
    def rank(self) -> int: ...
    @property
    def reason(self) -> str: ...


class PackedContext(Protocol):
    """What is put before a model; `knowledge.retrieval.packing.Context` is one."""

    @property
    def items(self) -> Sequence[PackedSentence]: ...
    @property
    def n_tokens(self) -> int: ...
    @property
    def left_out(self) -> Sequence[LeftOutPassage]: ...


class PackSentences(Protocol):
    """Packs sentences of passages, best first, near-equal passages once."""

    def __call__(
        self, hits: Sequence[FoundPassage], *, model: str, budget: int, max_items: int
    ) -> tuple[PackedContext, str]:
        """Return what fits into `budget` tokens of the route `model`, and what counted them."""


@dataclass(frozen=True, kw_only=True)
class CitedText:
    """A passage that an answer cites, and the words it takes from it."""

    passage_id: str
    text: str
    quote: str | None = None


class CheckedQuote(Protocol):
    """Whether a quote stands in the passage it is said to be from."""

    @property
    def passage_id(self) -> str: ...
    @property
    def quote(self) -> str: ...
    @property
    def verdict(self) -> Literal["exact", "near", "absent"]: ...


class CheckedClaim(Protocol):
    """Whether a sentence of an answer is carried by what it cites."""

    @property
    def claim(self) -> str: ...
    @property
    def passage_id(self) -> str | None: ...
    @property
    def overlap(self) -> float: ...
    @property
    def missing_numbers(self) -> Sequence[str]: ...
    @property
    def is_carried(self) -> bool: ...


class CitationReport(Protocol):
    """Verdicts of one answer; `knowledge.retrieval.citations.CitationReport` is one."""

    @property
    def quotes(self) -> Sequence[CheckedQuote]: ...
    @property
    def claims(self) -> Sequence[CheckedClaim]: ...
    @property
    def share_carried(self) -> float | None: ...


class CheckCitations(Protocol):
    """Checks quotes and sentences of an answer."""

    def __call__(self, answer: str, cited: Sequence[CitedText], /) -> CitationReport:
        """Return a verdict for each quote and each sentence of `answer` (without marks) against what it cites."""
