"""Providers' usage and cost exports, read into one form: a day, a model, and what was counted for it.

Known are the JSON pages of OpenAI's usage and costs endpoints, of Anthropic's usage and cost reports, the CSV files of
both consoles, and any other CSV whose columns are named as ours or mapped. Days are UTC, as both providers count.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

import msgspec

from penstock.traces.costs.errors import UnreadableExport

Measure = Literal[
    "requests",
    "input",
    "input_cache_read",
    "input_cache_write",
    "input_cache_write_1h",
    "input_audio",
    "input_image",
    "output",
    "output_reasoning",
    "output_audio",
    "output_image",
    "cost_usd",
]
MEASURES: tuple[Measure, ...] = (
    "requests",
    "input",
    "input_cache_read",
    "input_cache_write",
    "input_cache_write_1h",
    "input_audio",
    "input_image",
    "output",
    "output_reasoning",
    "output_audio",
    "output_image",
    "cost_usd",
)
"""`input` and `output` are totals; the classes below them are parts of these."""
UNCACHED = "input_uncached"
"""Columns of input without cached tokens; the parts are added to give `input`."""


class ExportRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider counted for one model on one day. Measures that it did not tell are missing."""

    day: str
    model: str | None
    """None where the export tells costs of a day without naming models."""
    counts: dict[str, Decimal]


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was understood."""

    kind: str
    provider: str | None
    """Whose format it is, None for a CSV of unknown origin."""
    rows: list[ExportRow]


_OPENAI_USAGE = {
    "input_tokens": "input",
    "input_cached_tokens": "input_cache_read",
    "input_audio_tokens": "input_audio",
    "output_tokens": "output",
    "output_audio_tokens": "output_audio",
    "num_model_requests": "requests",
    "n_context_tokens_total": "input",
    "n_generated_tokens_total": "output",
    "n_cached_context_tokens_total": "input_cache_read",
    "n_requests": "requests",
}
_ANTHROPIC_CSV = {
    "usage_input_tokens_no_cache": UNCACHED,
    "usage_input_tokens_cache_write_5m": "input_cache_write",
    "usage_input_tokens_cache_write_1h": "input_cache_write_1h",
    "usage_input_tokens_cache_read": "input_cache_read",
    "usage_output_tokens": "output",
    "cost_usd": "cost_usd",
}
_DAY_COLUMNS = ("day", "date", "usage_date_utc", "start_time_iso", "start_time", "starting_at")
_MODEL_COLUMNS = ("model", "model_version", "model_id", "line_item", "snapshot_id")
_OWN_COLUMNS = {name: name for name in (*MEASURES, UNCACHED)}
_USUAL_NAMES = {
    **{name: name for name in (*MEASURES, UNCACHED)},
    **dict.fromkeys(("input_tokens", "prompt_tokens"), "input"),
    **dict.fromkeys(("output_tokens", "completion_tokens"), "output"),
    **dict.fromkeys(("cached_tokens", "cached_input_tokens", "cache_read_tokens"), "input_cache_read"),
    **dict.fromkeys(("calls", "num_requests", "request_count"), "requests"),
    **dict.fromkeys(("cost", "total_cost", "usd", "cost_in_usd", "amount_usd", "spend"), "cost_usd"),
    **dict.fromkeys(("day", "date", "usage_date"), "day"),
    **dict.fromkeys(("model", "model_name", "model_id"), "model"),
}
"""What columns of other files are usually called, in lower case."""
_UNCACHED_PARTS = (UNCACHED, "input_cache_read", "input_cache_write", "input_cache_write_1h")


def read_export(data: bytes, *, columns: Mapping[str, str] | None = None) -> Export:
    """Return the rows of a file; raise `UnreadableExport` that says what was expected.

    `columns` maps our names (`day`, `model`, measures) to the file's, for a CSV of another origin.
    """
    text = data.decode("utf-8-sig", "replace").strip()
    if not text:
        raise UnreadableExport("The export is empty.")
    if text[0] in "{[":
        return _read_json(text)
    try:
        return _read_csv(text, dict(columns or {}))
    except csv.Error as error:
        raise UnreadableExport(f"The export is no valid CSV: {error}.") from error


# -- JSON of the providers' administration interfaces


def _read_json(text: str) -> Export:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise UnreadableExport(f"The export is no valid JSON: {error}.") from error
    pages = value if isinstance(value, list) else [value]
    buckets = [
        bucket
        for page in pages
        if isinstance(page, dict)
        if isinstance(page.get("data"), list)
        for bucket in page["data"]
        if isinstance(bucket, dict) and isinstance(bucket.get("results"), list)
    ]
    if not buckets:
        raise UnreadableExport(
            "The JSON has no buckets with results.",
            hint="Give the answer of OpenAI's /organization/usage/… or /organization/costs, or of Anthropic's"
            " usage_report or cost_report.",
        )
    is_anthropic = any("starting_at" in bucket for bucket in buckets)
    rows = list(_anthropic_rows(buckets) if is_anthropic else _openai_rows(buckets))
    has_money = any("cost_usd" in row.counts for row in rows)
    provider = "anthropic" if is_anthropic else "openai"
    return Export(
        kind=f"{provider} {'costs' if has_money else 'usage'}", provider=provider, rows=_merged(rows)
    )


def _openai_rows(buckets: Iterable[Mapping[str, Any]]) -> Iterator[ExportRow]:
    for bucket in buckets:
        day = _day(bucket.get("start_time"))
        for result in _results(bucket):
            amount = result.get("amount")
            if isinstance(amount, dict):
                money = {"cost_usd": _number(amount.get("value"), "amount.value")}
                yield ExportRow(day=day, model=_line_model(result.get("line_item")), counts=money)
                continue
            counts = {
                ours: _number(result[theirs], theirs)
                for theirs, ours in _OPENAI_USAGE.items()
                if result.get(theirs) is not None
            }
            yield ExportRow(day=day, model=_text(result.get("model")), counts=counts)


def _anthropic_rows(buckets: Iterable[Mapping[str, Any]]) -> Iterator[ExportRow]:
    for bucket in buckets:
        day = _day(bucket.get("starting_at"))
        for result in _results(bucket):
            if "amount" in result:
                cents = _number(result["amount"], "amount")  # told in the smallest unit of the currency
                money = {"cost_usd": cents / 100}
                yield ExportRow(day=day, model=_text(result.get("model")), counts=money)
                continue
            written = result.get("cache_creation")
            written = written if isinstance(written, dict) else {}
            counts = {
                UNCACHED: _number(result.get("uncached_input_tokens") or 0, "uncached_input_tokens"),
                "input_cache_read": _number(result.get("cache_read_input_tokens") or 0, "cache_read"),
                "input_cache_write": _number(written.get("ephemeral_5m_input_tokens") or 0, "5m"),
                "input_cache_write_1h": _number(written.get("ephemeral_1h_input_tokens") or 0, "1h"),
                "output": _number(result.get("output_tokens") or 0, "output_tokens"),
            }
            yield ExportRow(day=day, model=_text(result.get("model")), counts=_with_total(counts))


def _results(bucket: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return (result for result in bucket["results"] if isinstance(result, dict))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


# -- CSV


def _read_csv(text: str, columns: dict[str, str]) -> Export:
    reader = csv.DictReader(io.StringIO(text, newline=None))
    names = [name.strip() for name in reader.fieldnames or []]
    reader.fieldnames = names
    for ours, theirs in columns.items():
        if theirs not in names:
            raise UnreadableExport(
                f"The export has no column {theirs!r} for {ours!r}.", hint=f"It has: {', '.join(names)}."
            )
    kind, provider, table = _recognise(names, columns)
    usual = _usual_columns(names)
    day_column = columns.get("day") or next(
        (name for name in _DAY_COLUMNS if name in names), usual.get("day")
    )
    model_column = columns.get("model") or next(
        (name for name in _MODEL_COLUMNS if name in names), usual.get("model")
    )
    measures = {theirs: ours for theirs, ours in table.items() if theirs in names}
    if day_column is None or not measures:
        raise UnreadableExport(
            "The CSV has no column for the day, or none with counts.",
            hint=f"It has: {', '.join(names)}. Map them: --map day=COLUMN --map model=COLUMN --map input=COLUMN …",
        )
    rows = []
    for record in reader:
        day = (record.get(day_column) or "").strip()
        if not day:
            continue
        counts: dict[str, Decimal] = {}
        for theirs, ours in measures.items():
            cell = (record.get(theirs) or "").strip()
            if cell:
                counts[ours] = counts.get(ours, Decimal(0)) + _number(cell, theirs)
        model = (record.get(model_column) or "").strip() if model_column else ""
        if model_column == "line_item":
            model = _line_model(model) or ""
        rows.append(ExportRow(day=_day(day), model=model or None, counts=_with_total(counts)))
    return Export(kind=kind, provider=provider, rows=_merged(rows))


def _recognise(names: list[str], columns: dict[str, str]) -> tuple[str, str | None, dict[str, str]]:
    """Return what the file is, whose, and its columns that hold measures."""
    mapped = {theirs: ours for ours, theirs in columns.items() if ours not in ("day", "model")}
    unknown = sorted(set(mapped.values()) - set(_OWN_COLUMNS))
    if unknown:
        raise UnreadableExport(
            f"{unknown[0]!r} is nothing that is compared.", hint=f"Use: {', '.join(_OWN_COLUMNS)}."
        )
    if mapped:
        return "csv", None, mapped
    if any(name in names for name in ("usage_input_tokens_no_cache", "usage_output_tokens")):
        return "anthropic usage", "anthropic", _ANTHROPIC_CSV
    if "usage_date_utc" in names and "cost_usd" in names:
        return "anthropic costs", "anthropic", _ANTHROPIC_CSV
    if "amount_value" in names:
        return "openai costs", "openai", {"amount_value": "cost_usd"}
    if any(name in names for name in ("num_model_requests", "n_context_tokens_total")):
        return "openai usage", "openai", _OPENAI_USAGE
    return (
        "csv",
        None,
        {theirs: ours for ours, theirs in _usual_columns(names).items() if ours in _OWN_COLUMNS},
    )


def _usual_columns(names: list[str]) -> dict[str, str]:
    """Return the columns that are named as ours or as is usual, by our name. Two for one thing would count it twice:
    then ours is taken, else the first."""
    found: dict[str, str] = {name: name for name in names if name in _OWN_COLUMNS}
    for name in names:
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        if plain in _USUAL_NAMES:
            found.setdefault(_USUAL_NAMES[plain], name)
    return found


# -- values


def _with_total(counts: dict[str, Decimal]) -> dict[str, Decimal]:
    """Replace the count of uncached input by that of all input."""
    if UNCACHED not in counts:
        return counts
    total = sum((counts.get(name, Decimal(0)) for name in _UNCACHED_PARTS), Decimal(0))
    return {"input": total, **{name: count for name, count in counts.items() if name != UNCACHED}}


def _merged(rows: Iterable[ExportRow]) -> list[ExportRow]:
    """Add up the rows of one day and model: exports split by key, project and tier."""
    found: dict[tuple[str, str | None], dict[str, Decimal]] = {}
    for row in rows:
        counts = found.setdefault((row.day, row.model), {})
        for name, count in row.counts.items():
            counts[name] = counts.get(name, Decimal(0)) + count
    order = sorted(found, key=lambda key: (key[0], key[1] or ""))
    return [ExportRow(day=day, model=model, counts=found[day, model]) for day, model in order]


def _line_model(text: object) -> str | None:
    """Return the model of a line item such as `gpt-4o-mini-2024-07-18, input`."""
    if not isinstance(text, str) or not text.strip():
        return None
    return text.split(",")[0].strip().lower().replace(" ", "-") or None


def _number(value: object, name: str) -> Decimal:
    try:
        number = Decimal(str(value).replace(",", "").replace("$", "").strip())
    except InvalidOperation as error:
        raise UnreadableExport(f"{value!r} in {name!r} is no number.") from error
    if not number.is_finite():
        raise UnreadableExport(f"{value!r} in {name!r} is no number.")
    return number


def _day(value: object) -> str:
    """Return the UTC day of a Unix time or of an ISO date or time."""
    try:
        if isinstance(value, int | float) or (isinstance(value, str) and value.isdigit() and len(value) > 8):
            return datetime.fromtimestamp(float(value), tz=UTC).date().isoformat()
        text = str(value).strip()
        if len(text) <= 10:
            return date.fromisoformat(text).isoformat()
        moment = datetime.fromisoformat(text.replace(" UTC", "+00:00"))
        return (moment if moment.tzinfo is None else moment.astimezone(UTC)).date().isoformat()
    except (ValueError, OverflowError, OSError) as error:
        raise UnreadableExport(f"{value!r} is no day.", hint="Write days as 2026-03-31.") from error
