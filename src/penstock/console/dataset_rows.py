"""Rows of datasets as pages show them: one line in a table, in full beside it, and where each came from."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from penstock.console.formats import format_json
from penstock.datasets.cases import message_text
from penstock.datasets.cleaning.texts import answer_fields, question_fields, texts_of
from penstock.datasets.types import DatasetVersion
from penstock.spec.datasets import DatasetRow

PREVIEW_CHARS = 160
_PROVENANCE = {
    "file": "from a file",
    "trace": "from traffic",
    "feedback": "from feedback",
    "synthetic": "proposed by a model, accepted by a person",
    "import": "imported",
    "edit": "written here",
    "hub": "from a hub",
}


@dataclass(frozen=True, kw_only=True)
class RowLine:
    """One row in a table."""

    id: str
    href: str
    question: str
    answer: str
    split: str
    tags: tuple[str, ...]
    source: str


@dataclass(frozen=True, kw_only=True)
class ShownField:
    """One field of a row: talk, text or JSON."""

    name: str
    text: str = ""
    turns: tuple[tuple[str, str], ...] = ()
    json: str = ""


@dataclass(frozen=True, kw_only=True)
class ShownRow:
    """One row in full."""

    id: str
    fields: tuple[ShownField, ...]
    facts: tuple[tuple[str, str], ...]
    metadata: tuple[tuple[str, str], ...]
    source: str
    trace_href: str | None
    detail: tuple[tuple[str, str], ...]


def version_href(version: DatasetVersion, **query: str | None) -> str:
    """Return the page of a version."""
    return page_href(version.name, version.number, **query)


def page_href(name: str, number: int, **query: str | None) -> str:
    """Return the page of a version by name and number."""
    wanted = urlencode({key: value for key, value in query.items() if value})
    return f"/datasets/{quote(name)}/{number}" + (f"?{wanted}" if wanted else "")


def row_line(row: DatasetRow, version: DatasetVersion) -> RowLine:
    """Return a row as one line."""
    return RowLine(
        id=row.id,
        href=f"/datasets/{quote(version.name)}/{version.number}/row?{urlencode({'id': row.id})}",
        question=_preview(question_fields(row).values()) or row.id,
        answer=_preview(answer_fields(row).values()),
        split=row.split or "",
        tags=tuple(row.tags[:4]),
        source=row.provenance.kind if row.provenance else "unknown",
    )


def show_row(row: DatasetRow) -> ShownRow:
    """Return a row in full."""
    facts = [("Split", row.split or "none"), ("Group", row.group or "none")]
    if row.tags:
        facts.append(("Tags", ", ".join(row.tags)))
    provenance = row.provenance
    source, trace_href = "Nobody noted where it is from.", None
    detail: tuple[tuple[str, str], ...] = ()
    if provenance is not None:
        source = f"{_PROVENANCE[provenance.kind]}: {provenance.source}".rstrip(": ")
        detail = tuple((name, _plain(value)) for name, value in provenance.detail.items())
        trace_href = _trace_href(provenance.kind, provenance.source, provenance.detail)
    return ShownRow(
        id=row.id,
        fields=show_fields(row.fields),
        facts=tuple(facts),
        metadata=tuple((name, _plain(value)) for name, value in row.metadata.items()),
        source=source,
        trace_href=trace_href,
        detail=detail,
    )


def show_fields(fields: dict[str, Any]) -> tuple[ShownField, ...]:
    """Return fields as talk, text or JSON."""
    return tuple(_show_field(name, value) for name, value in fields.items())


def _show_field(name: str, value: Any) -> ShownField:
    if isinstance(value, str):
        return ShownField(name=name, text=value)
    is_talk = isinstance(value, list) and all(isinstance(each, dict) and "role" in each for each in value)
    if is_talk and value:
        turns = tuple((str(each["role"]), message_text(each) or format_json(each)) for each in value)
        return ShownField(name=name, turns=turns)
    if isinstance(value, list) and all(
        isinstance(each, dict) and isinstance(each.get("text"), str) for each in value
    ):
        named = tuple(
            (str(each.get("id") or each.get("document") or "passage"), each["text"]) for each in value
        )
        return ShownField(name=name, turns=named)
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ShownField(name=name, text="\n".join(value))
    return ShownField(name=name, json=format_json(value))


def _trace_href(kind: str, source: str, detail: dict[str, Any]) -> str | None:
    trace_id, _, span_id = source.partition("/") if kind in {"trace", "feedback"} else ("", "", "")
    trace_id = trace_id or str(detail.get("trace_id") or "")
    if not trace_id or not all(char in "0123456789abcdef" for char in trace_id):
        return None
    return f"/traces/{trace_id}" + (f"?{urlencode({'span': span_id})}" if span_id else "")


def _preview(values: Iterable[Any]) -> str:
    text = " ".join(" ".join(texts_of(list(values))).split())
    return text if len(text) <= PREVIEW_CHARS else text[: PREVIEW_CHARS - 1] + "…"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else format_json(value)
