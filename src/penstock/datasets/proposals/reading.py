"""Reads a model's reply strictly: what is not exactly what was asked for is counted and never becomes a row."""

import re
from collections import Counter
from collections.abc import Collection
from typing import Any

import msgspec

from penstock.datasets.proposals.ports import ModelAnswer
from penstock.datasets.proposals.types import Outcome

MAX_CHARS = 20_000
_FENCE = "```"
_REFUSAL = re.compile(
    r"\A\W*(?:i(?:'|\u2019)?m sorry|i am sorry|sorry,|i can(?:'|\u2019|no)?t (?:help|assist|comply|do that|create|write|provide)"
    r"|i cannot|i won(?:'|\u2019)t|as an ai\b|unfortunately, i)",
    re.IGNORECASE,
)


def read_answer(
    answer: ModelAnswer,
    *,
    n: int,
    wants_answer: bool,
    passage_ids: Collection[str] | None,
    cost_usd: str | None,
) -> Outcome:
    """Return what a reply holds: the items that are well, and why the others are not.

    An item is an object with exactly `question`, with `wants_answer` also `answer`, and where `passage_ids` is given
    also `passage_ids`, at least one and only of those.
    """
    made: dict[str, Any] = {"cost_usd": cost_usd, "trace_id": answer.trace_id}
    if answer.status != "ok":
        return Outcome(status=answer.status, reason=answer.reason, **made)
    found = _parse(answer.text)
    if isinstance(found, str):
        if _REFUSAL.match(answer.text):
            return Outcome(status="refused", reason="the model declined in words", **made)
        return Outcome(status="garbage", reason=found, **made)
    items: list[dict[str, Any]] = []
    left_out: Counter[str] = Counter()
    for item in found:
        problem = _problem(item, wants_answer, passage_ids)
        if problem is None and len(items) == n:
            problem = "more than was asked for"
        if problem is None:
            items.append({name: _clean(value) for name, value in item.items()})
        else:
            left_out[problem] += 1
    return Outcome(status="ok", items=items, left_out=dict(left_out), **made)


def _parse(text: str) -> list[Any] | str:
    """Return the list of proposals, or what is wrong."""
    try:
        value = msgspec.json.decode(_unfence(text.strip()))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return "no JSON" if text.strip() else "an empty reply"
    if not isinstance(value, dict) or not isinstance(value.get("proposals"), list):
        return "JSON without a list `proposals`"
    return list(value["proposals"])


def _unfence(text: str) -> str:
    """Return what stands within a Markdown fence, without patterns: a model may loop on blanks for very long."""
    if len(text) < 2 * len(_FENCE) or not (text.startswith(_FENCE) and text.endswith(_FENCE)):
        return text
    language, _, rest = text[len(_FENCE) : -len(_FENCE)].partition("\n")
    return rest.strip() if not language.strip() or language.strip().isalpha() else text


def _problem(item: Any, wants_answer: bool, passage_ids: Collection[str] | None) -> str | None:
    if not isinstance(item, dict):
        return "not an object"
    wanted = {"question"} | ({"answer"} if wants_answer else set())
    wanted |= {"passage_ids"} if passage_ids is not None else set()
    if missing := sorted(wanted - set(item)):
        return f"no {missing[0]}"
    if set(item) - wanted:
        return "keys that were not asked for"
    for name in sorted(wanted - {"passage_ids"}):
        value = item[name]
        if not isinstance(value, str) or not value.strip():
            return f"{name} is no text"
        if len(value) > MAX_CHARS:
            return f"{name} is too long"
    if passage_ids is not None:
        given = item["passage_ids"]
        if not isinstance(given, list) or not given or any(each not in passage_ids for each in given):
            return "passages that were not given"
    return None


def _clean(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value
