"""The nouns of datasets: problems of rows, what a file turned out to hold, versions, pages, differences. Frozen."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from penstock.spec.datasets import DatasetFacts, DatasetFormat, DatasetRow

MAX_PROBLEMS = 50
"""Problems that are told one by one; the rest is counted."""
Tell = Callable[[float | None, str], None]
"""Told how far the work is: a share from 0 to 1, or None where nobody knows, and what is going on."""
REST_UNREAD = "the rest of the file could not be read"
ChangeKind = Literal["added", "removed", "changed"]


class RowProblem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong with one row of a source."""

    place: str
    """File and row, as an editor or a spreadsheet counts: `cases.jsonl:17`. Rows of tables count from the header, which is 1."""
    message: str
    reason: str
    """The kind of problem in a few words, equal for equal kinds: `not JSON`, `duplicate id`."""
    column: str | None = None
    """The field that is wrong, as the source calls it."""
    is_end: bool = False
    """Whether nothing after it could be read: leaving it out would leave out nobody knows how much."""


class RawRow(NamedTuple):
    """One row as a reader found it."""

    place: str
    value: dict[str, Any]
    kind: str = "file"
    """What the row's provenance says: `file`, `hub`, `import`."""


Read = RawRow | RowProblem
"""What readers yield: a row, or why there is none."""


class SourceReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a file, folder or upload turned out to hold, whether or not it was stored."""

    source: str
    layout: str
    """How it was read: `jsonl`, `json`, `csv`, `parquet`, `hugging face folder` …"""
    format: DatasetFormat | None
    n_rows: int
    """Rows that are well."""
    n_problems: int
    problems: list[RowProblem] = []
    """The first `MAX_PROBLEMS`."""
    left_out: dict[str, int] = {}
    """Reason to number of rows."""
    fields: list[str] = []
    splits: dict[str, int] = {}
    n_groups: int | None = None
    samples: list[DatasetRow] = []
    """The first three rows as they were understood."""
    mapping: dict[str, str] = {}
    """Field to column, where the source calls it otherwise."""

    @property
    def is_well(self) -> bool:
        """Whether it could be stored as it is."""
        return self.n_rows > 0 and not self.n_problems


class DatasetVersion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One immutable version of a dataset."""

    name: str
    number: int
    ref: str
    """Pinned: `dataset:NAME@NUMBER`."""
    stamp: str
    """`NUMBER@sha256:…`, as evaluations carry it."""
    digest: str
    facts: DatasetFacts
    parents: list[str]
    """Digests of the versions that it was made from."""
    created_ns: int
    note: str = ""
    aliases: list[str] = []
    is_new: bool = False
    """Whether the call that returned it has made it; the same rows again are the same version."""
    problems: list[RowProblem] = []
    """Of the rows that were left out on the way, where it was just made with `skip_invalid`."""


class DatasetSummary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One dataset in a list, described by its newest version."""

    name: str
    latest: int
    n_versions: int
    aliases: dict[str, int]
    created_ns: int
    updated_ns: int
    format: DatasetFormat | None
    """None for a version that holds no rows of ours."""
    n_rows: int | None
    splits: dict[str, int] = {}
    description: str = ""


class RowPage(msgspec.Struct, frozen=True, kw_only=True):
    """Rows in the order of the version."""

    ref: str
    rows: list[DatasetRow]
    n_rows: int
    """Of the whole version, whatever was asked for."""
    next_cursor: str | None = None


class RowChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one id between two versions."""

    id: str
    kind: ChangeKind
    fields: list[str] = []
    """Where both have it: what differs, such as `expected`, `split`, `metadata.lang`."""
    before: DatasetRow | None = None
    after: DatasetRow | None = None


class DatasetDiff(msgspec.Struct, frozen=True, kw_only=True):
    """How `other` differs from `base`, by id. Counts are of everything, `changes` is one page of it."""

    base: str
    other: str
    n_added: int
    n_removed: int
    n_changed: int
    n_same: int
    is_reordered: bool
    """Rows that both have come in another order."""
    fields_changed: dict[str, int]
    """Field to number of rows in which it differs."""
    changes: list[RowChange]
    next_cursor: str | None = None


class ReadOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """How a source is to be understood. Everything unsaid is found out, or refused with a question."""

    format: DatasetFormat | None = None
    layout: Literal["jsonl", "json", "csv", "tsv", "parquet"] | None = None
    """Of a single file; None: by its name and first bytes."""
    mapping: Mapping[str, str] = {}
    """Field to column: `input=Question`, `group=document`, `metadata.lang=language`, `expected=payload.answer`."""
    skip_invalid: bool = False
    """Store the good rows and count the others; without, one bad row keeps everything out."""
    split: str | None = None
    """Of every row that says none itself."""
    tags: tuple[str, ...] = ()
    """Of every row, beside its own."""
    limit: int | None = None
    """At most so many rows, from the first."""
    license: str | None = None
    description: str = ""


class RowEdit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Changes of rows by id. Each list applies to the version as it was."""

    set: list[DatasetRow] = []
    """Rows that take the place of those with their id, or come after the last where there is none."""
    delete: list[str] = []
    """Ids."""


class TrafficRow(msgspec.Struct, frozen=True, kw_only=True):
    """One call or trace as the record of traffic knows it, ready to become a row."""

    trace_id: str
    span_id: str
    messages: list[dict[str, Any]]
    """What was asked, in OpenAI's shape; empty where no conversation was led."""
    inputs: dict[str, Any]
    """What went in where no conversation was led, such as `{"input": …}`."""
    reply: Any
    """What came out: a text, or JSON of what is none; None when unknown."""
    dropped: bool
    """Its payloads are not kept."""
    status: str
    group: str | None
    """The session: calls of one are not independent."""
    facts: dict[str, Any]
    """Model, route, time and scores by name, as far as known."""


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """Feedback by a person on a call, with what was judged."""

    name: str
    value: float | None
    label: str | None
    comment: str | None
    correction: str | None
    """What the answer should have been, where the person said so."""
    time_ns: int
    call: TrafficRow | None
    """None where it is about a whole session, or its call is gone."""
