"""The nouns of the preflight: what it is told, what it finds. Frozen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from penstock.spec.prompts import PromptContent
from penstock.spec.tuning import Recipe
from penstock.tuning.renderer import Renderer
from penstock.tuning.rows.types import AsCase, RowSource, RowsReport

FindingCode = Literal[
    "zero-rows",
    "rows-not-understood",
    "empty-mask",
    "eos-not-trained",
    "truncated",
    "template-mismatch",
    "double-bos",
    "unknown-special-tokens",
    "vocabulary-mismatch",
    "contaminated",
    "duplicates",
    "base-without-revision",
    "base-not-trainable",
    "too-little-memory",
    "too-little-disk",
    "over-budget",
    "licence",
    "one-class-labels",
    "chosen-is-rejected",
    "adapter-not-servable",
    "split-by-turn",
]
Severity = Literal["refuse", "warn"]
MAX_ROWS_TOLD = 20
MAX_ROWS_PRINTED = 8


def rows_text(rows: Sequence[int], n_rows: int, source: str | None) -> str:
    """Return which rows are meant, `rows 17, 203, 204 … of dataset:faq@3`; empty where it is not about rows."""
    if not rows:
        return f"of {source}" if source and n_rows else ""
    told = ", ".join(str(number) for number in rows[:MAX_ROWS_PRINTED])
    more = " …" if n_rows > min(len(rows), MAX_ROWS_PRINTED) else ""
    return f"{'row' if n_rows == 1 else 'rows'} {told}{more}" + (f" of {source}" if source else "")


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong, or worth knowing, before anything starts."""

    code: FindingCode
    severity: Severity
    message: str
    hint: str
    rows: list[int] = []
    """Numbers of the first rows, from 1; at most `MAX_ROWS_TOLD`."""
    n_rows: int = 0
    """How many there are; 0 where it is not about rows."""
    source: str | None = None
    """The dataset that the row numbers are of."""


class Preflight(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that was found, refusals first."""

    findings: list[Finding]
    train: RowsReport | None = None
    heldout: RowsReport | None = None
    seconds: float | None = None

    @property
    def is_refused(self) -> bool:
        """Whether the run must not start."""
        return any(each.severity == "refuse" for each in self.findings)


@dataclass(frozen=True, kw_only=True)
class BaseFacts:
    """What is known of the model that training begins from."""

    ref: str
    """`model:NAME@NUMBER`"""
    digest: str | None
    """None: nobody knows which weights these are."""
    revision: str | None
    """Of the hub it was pulled from; `shipped` or `trained` for what came from no hub. None: floating."""
    license: str | None
    context_length: int
    vocab_size: int | None = None
    """Rows of the embedding table."""
    precision: str | None = None
    """Of its file, such as `q8_0`; None where the Hugging Face form is kept."""
    renderer_digest: str | None = None
    """That its version declares."""
    adapter_base: str | None = None
    """Digest of its own base, where it is an adapter."""


@dataclass(frozen=True, kw_only=True)
class Flight:
    """Everything that a preflight looks at."""

    recipe: Recipe
    renderer: Renderer | None
    """None: a tokenizer will be trained on the rows (scratch)."""
    train: RowSource
    as_case: AsCase
    heldout: RowSource | None = None
    """`data.eval`; None takes the split or share of `train`."""
    guards: Sequence[RowSource] = ()
    """`data.guard_against`."""
    prompt: PromptContent | None = None
    """`data.template`"""
    base: BaseFacts | None = None
