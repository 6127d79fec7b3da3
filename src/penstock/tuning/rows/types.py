"""The nouns of training rows. Frozen.

A row of a dataset becomes one `TrainingRow` (messages), that one or several sequences (ids with a mask), and those
files. Row numbers count from 1 in the order of the dataset's version, so that a person finds the row again.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from penstock.spec.cases import Case
from penstock.spec.datasets import DatasetFacts, DatasetFormat, DatasetRow
from penstock.spec.tuning import TuneMethod

RowKind = Literal["supervised", "preference", "kto"]
AsCase = Callable[[DatasetRow, DatasetFormat], Case]
"""How evaluations read a row (`datasets.cases.row_to_case`), so that training asks as evaluations do."""
ROW_KINDS: dict[TuneMethod, RowKind] = {"dpo": "preference", "kto": "kto"}
"""Every other method is supervised."""


@dataclass(frozen=True, kw_only=True)
class RowSource:
    """A version of a dataset to be read, as often as needed."""

    ref: str
    """Pinned: `dataset:NAME@NUMBER`."""
    facts: DatasetFacts
    read: Callable[[], Iterable[DatasetRow]]


class TrainingRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One row of a dataset as what is said to the model and what it should say. Messages have OpenAI's shape."""

    number: int
    """In the dataset's version, from 1."""
    id: str
    messages: list[dict[str, Any]]
    """supervised: the whole conversation, ending with the assistant. preference, kto: what comes before the answer."""
    tools: list[dict[str, Any]] = []
    chosen: list[dict[str, Any]] = []
    """preference: turns of the better answer. kto: turns of the one answer that `label` judges."""
    rejected: list[dict[str, Any]] = []
    label: bool | None = None
    """kto: whether the answer is a good one."""
    question: str = ""
    """What is asked, without system message or prompt template: compared with evaluation data."""
    answer: str = ""
    group: str | None = None
    untrained: frozenset[int] = frozenset()
    """Places of assistant messages that belong to what is asked (examples of a prompt, OpenAI's `weight: 0`)."""
    is_text: bool = False
    """Text without turns (`messages` holds it as one assistant turn): it is encoded as it stands."""


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Quantiles of a whole number over all sequences."""

    p50: int
    p90: int
    p99: int
    largest: int


class RowsReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of the rows, all of it counted; stored with the run."""

    kind: RowKind
    n_read: int
    """Rows that were meant for this folder."""
    n_kept: int
    """Of them: rows that are trained (or measured) on."""
    n_sequences: int
    """More than `n_kept` where rows were split by turn or by length."""
    n_tokens: int
    n_trained_tokens: int
    """Tokens on which the loss counts."""
    n_truncated: int = 0
    n_dropped: int = 0
    """Too long, under `truncate = "drop"`."""
    n_lost_tokens: int = 0
    """Cut off or dropped for length."""
    n_split_by_turn: int = 0
    """Rows whose template rewrites earlier turns: one sequence an assistant turn."""
    lengths: Spread | None = None
    """Tokens of a sequence before anything was cut; None where there is none."""
    trained: Spread | None = None
    max_length: int | None = None
    labels: dict[str, int] = {}
    """kto: how many are `good` and `bad`."""
    digest: str | None = None
    """Over the files; None where none were written."""
    folder: str | None = None
