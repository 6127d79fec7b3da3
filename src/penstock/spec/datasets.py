"""Rows and versions of datasets, as every room that reads or writes them knows them. Frozen, no behaviour.

A dataset version is a registry version of kind `dataset`: its content is a `DatasetFacts`, its artefact `rows.jsonl.zst` holds
one `DatasetRow` a line, in order.
"""

from typing import Any, Literal

import msgspec

DatasetFormat = Literal["cases", "instruct", "chat", "preference", "label", "retrieval"]
ROWS_FILE = "rows.jsonl.zst"


class Provenance(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a row came from."""

    kind: Literal["file", "trace", "feedback", "synthetic", "import", "edit", "hub"]
    source: str = ""
    """File name and row (`cases.jsonl:17`), trace and span id (`TRACE/SPAN`), the model that proposed it, a hub's dataset."""
    detail: dict[str, Any] = {}
    """For what a model proposed: model, prompt digest, seed row, cost, who accepted it."""


class DatasetRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One row. `fields` holds what the format says:

    cases       inputs (object) or input (text) or messages; expected; passages; relevant; any other key is metadata
    instruct    instruction, input (optional), output
    chat        messages (the last one an assistant's for training), tools (optional)
    preference  prompt (text) or messages; chosen, rejected (text or messages)
    label       text, label
    retrieval   query, relevant (ids) or passages; answer (optional)
    """

    id: str
    """Given by the source or derived from the digest of `fields`; unique within a version, stable over versions."""
    fields: dict[str, Any]
    split: str | None = None
    group: str | None = None
    tags: list[str] = []
    metadata: dict[str, Any] = {}
    provenance: Provenance | None = None


class DatasetFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The content of a dataset version in the registry: what is in it and how it came about, all of it counted."""

    format: DatasetFormat
    n_rows: int
    rows_digest: str
    """Over the rows, so that the same rows are the same version however they were made."""
    fields: list[str] = []
    """Names of fields, the commonest first."""
    splits: dict[str, int] = {}
    """Rows of each; rows without one count under `""`."""
    n_groups: int | None = None
    tags: dict[str, int] = {}
    sources: list[dict[str, Any]] = []
    """{kind, source, n_rows, n_left_out, digest}"""
    steps: list[dict[str, Any]] = []
    """What was done on the way (`deduplicate`, `split`, `decontaminate`, `scrub`, …) with its parameters and counts."""
    left_out: dict[str, int] = {}
    """Reason to number of rows that were offered and are not in it."""
    license: str | None = None
    restores: int | None = None
    """The older version that held the same rows, where a change was taken back: it is the newest again under a number of
    its own, and `follows` the one that is newest until then."""
    follows: int | None = None
    description: str = ""
