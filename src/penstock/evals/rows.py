"""Rows of outputs and scores, what is summed over them, and by which slices a case counts. No I/O."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import median
from typing import Any

import msgspec
from sqlalchemy import Row

from penstock.base.digest import digest_bytes
from penstock.base.json_text import clean_text
from penstock.spec.cases import Case, Output
from penstock.spec.scores import Score

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, kw_only=True)
class StoredOutput:
    """An output and what is kept beside it."""

    position: int
    output: Output
    is_final: bool = True
    request_key: str | None = None


def slices_of(case: Case, keys: Sequence[str]) -> list[str]:
    """Return `KEY=VALUE` of every slice that the case belongs to, for the keys that figures are asked by."""
    found: list[str] = []
    for key in keys:
        if key == "split":
            found += [f"split={case.split}"] if case.split is not None else []
        elif key in {"tag", "tags"}:
            found += [f"tag={tag}" for tag in case.tags]
        elif key == "group":
            found += [f"group={case.group}"] if case.group is not None else []
        else:
            value = case.metadata.get(key)
            values = value if isinstance(value, list) else [value]
            found += [f"{key}={_word(each)}" for each in values if each is not None]
    return list(dict.fromkeys(found))


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def question_digest(case: Case) -> str:
    """Return what is equal for cases that ask the same and have the same good answer, whatever their id, group, split and tags."""
    checks = {key: case.metadata[key] for key in ("checks", "threshold") if key in case.metadata}
    told = [case.inputs, case.messages, case.expected, case.passages, case.relevant, checks]
    return digest_bytes(msgspec.json.encode(told, order="sorted")).removeprefix("sha256:")


def text_digest(output: Output) -> str | None:
    """Return what is equal for equal answers: of text, data and tool calls."""
    if output.text is None and output.data is None and not output.tool_calls:
        return None
    told = [output.text, output.data, output.tool_calls]
    return digest_bytes(msgspec.json.encode(told, order="sorted")).removeprefix("sha256:")


def output_row(evaluation_id: str, stored: StoredOutput, now_ns: int) -> dict[str, Any]:
    """Return the row of an output."""
    output = stored.output
    usage = output.usage
    return {
        "evaluation_id": evaluation_id,
        "case_id": output.case_id,
        "repeat": output.repeat,
        "position": stored.position,
        "status": output.status,
        "is_final": stored.is_final,
        "request_key": stored.request_key,
        "text_digest": text_digest(output),
        "error_code": output.error.code[:100] if output.error is not None else None,
        "latency_ms": output.latency_ms,
        "ttft_ms": output.ttft_ms,
        "cost_usd": _money(output.cost_usd),
        "original_cost_usd": _money(output.original_cost_usd),
        "input_tokens": usage.input_tokens if usage is not None else None,
        "output_tokens": usage.output_tokens if usage is not None else None,
        "is_cached": output.is_cached,
        "trace_id": output.trace_id,
        "finished_ns": now_ns,
        "content": clean_text(_encode(output).decode()),
    }


def score_row(evaluation_id: str, case_id: str, repeat: int, score: Score) -> dict[str, Any]:
    """Return the row of a score."""
    return {
        "evaluation_id": evaluation_id,
        "case_id": case_id,
        "repeat": repeat,
        "name": score.name[:200],
        "stamp": score.scorer[:300],
        "status": score.status,
        "value": score.value,
        "statistics": json.dumps(score.statistics) if score.statistics else None,
        "fault": score.fault,
        "cost_usd": _money(score.cost_usd),
        "is_free": score.source != "model",
        "content": clean_text(_encode(score).decode()),
    }


def sum_outputs(rows: Sequence[Row[Any]], judged: Sequence[str | None]) -> dict[str, Any]:
    """Return the sums of a record, from its outputs and the costs of its judgements."""
    asked = [row for row in rows if row.status != "skipped"]
    costs = [row.cost_usd for row in asked]
    # What failed without a trace was never sent: nothing is owed for it.
    n_unknown = sum(
        row.cost_usd is None and (row.status == "ok" or row.trace_id is not None) for row in asked
    )
    known = [Decimal(cost) for cost in costs if cost is not None]
    judge = [Decimal(cost) for cost in judged if cost is not None]
    latencies = [row.latency_ms for row in asked if row.status == "ok" and row.latency_ms is not None]
    return {
        "n_outputs": sum(bool(row.is_final) for row in rows),
        "n_ok": sum(row.status == "ok" for row in rows),
        "n_refused": sum(row.status == "refused" for row in rows),
        "n_errors": sum(row.status == "error" for row in rows),
        "n_skipped": sum(row.status == "skipped" for row in rows),
        "n_cached": sum(bool(row.is_cached) for row in rows),
        "cost_usd": sum([*known, *judge], Decimal(0)) if known or judge else None,
        "judge_cost_usd": sum(judge, Decimal(0)) if judge else None,
        "n_cost_unknown": n_unknown + sum(cost is None for cost in judged),
        "input_tokens": _total(row.input_tokens for row in asked if not row.is_cached),
        "output_tokens": _total(row.output_tokens for row in asked if not row.is_cached),
        "p50_latency_ms": median(latencies) if latencies else None,
    }


def _total(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _money(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:f}"
