"""Cases and outputs as text: what was asked in one line, what was answered, and how two texts differ."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.console.formats import format_count, format_json, format_money, format_ms
from penstock.console.score_words import format_score
from penstock.evals.types import CaseView, ScoreColumn
from penstock.spec.cases import Case, Output
from penstock.spec.scores import Score
from penstock.traces.alignment import Change, diff_words

PREVIEW_CHARS = 240
DIFF_CHARS = 20_000
"""What is compared of a text in a panel; in a list `PREVIEW_DIFF_CHARS`."""
PREVIEW_DIFF_CHARS = 700


@dataclass(frozen=True, kw_only=True)
class ScoreWord:
    """One score of one output."""

    score: Score
    name: str
    value: str
    title: str
    """Why it is what it is."""
    evidence: str
    """JSON; empty where there is none."""
    is_missing: bool


@dataclass(frozen=True, kw_only=True)
class OutputWords:
    """One output with its scores."""

    output: Output
    text: str
    problem: str
    """Why there is no answer; empty where there is one."""
    words: tuple[Change, ...]
    """Expected against output; empty where nothing is expected in words."""
    scores: tuple[ScoreWord, ...]
    facts: tuple[tuple[str, str], ...]


def preview(text: str, n_chars: int = PREVIEW_CHARS) -> str:
    """Return the beginning of a text in one line."""
    line = " ".join(text[: 4 * n_chars].split())
    return line if len(line) <= n_chars else f"{line[: n_chars - 1]}…"


def text_of(value: Any) -> str:
    """Return a text as it is, a list of texts one a line, anything else as JSON; empty for None."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return "\n".join(value)
    return format_json(value)


def content_of(message: Mapping[str, Any]) -> str:
    """Return what a message says, its texts only."""
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        return "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def asked_of(case: Case) -> str:
    """Return what a case asks, in words: its last question, its single text, or its variables."""
    for message in reversed(case.messages):
        if message.get("role") == "user" and content_of(message):
            return content_of(message)
    for name in ("input", "question", "query"):
        if isinstance(case.inputs.get(name), str):
            return str(case.inputs[name])
    return " · ".join(
        f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)}"
        for name, value in case.inputs.items()
    )


def answer_of(output: Output | None) -> str:
    """Return what was answered, in words; empty where there is no answer."""
    if output is None:
        return ""
    if output.text:
        return output.text
    if output.data is not None:
        return text_of(output.data)
    return format_json(output.tool_calls) if output.tool_calls else ""


def problem_of(output: Output | None) -> str:
    """Return why there is no answer; empty where there is one."""
    if output is None:
        return "Not asked yet."
    if output.error is not None:
        return f"{output.error.code}: {output.error.message}"
    if output.status in {"refused", "error"}:
        return (
            "The provider declined to answer."
            if output.status == "refused"
            else "It failed without a reason."
        )
    if output.status == "skipped":
        return "Not asked: the evaluation was stopped before."
    return ""


def tell_score(score: Score, column: ScoreColumn | None) -> ScoreWord:
    """Return a score in words."""
    value = (
        format_score(
            score.value, scale=column.scale if column else "bounded", unit=column.unit if column else None
        )
        if score.status == "scored"
        else score.status
    )
    return ScoreWord(
        score=score,
        name=score.name,
        value=_label(score, column) or value,
        title=score.reason or (column.summary if column else ""),
        evidence=format_json(score.evidence) if score.evidence else "",
        is_missing=score.status != "scored",
    )


def _label(score: Score, column: ScoreColumn | None) -> str:
    if score.status == "scored" and column is not None and column.scale == "binary":
        return "yes" if score.value == 1 else "no" if score.value == 0 else ""
    return ""


def diff_texts(left: str, right: str, *, n_chars: int = DIFF_CHARS) -> tuple[Change, ...]:
    """Return the texts as runs alike, removed or added; of long texts their beginnings."""
    return tuple(diff_words(left[:n_chars], right[:n_chars]))


def tell_outputs(view: CaseView, columns: Mapping[str, ScoreColumn]) -> tuple[OutputWords, ...]:
    """Return every repeat of a case in words, its expected text against its answer."""
    expected = text_of(view.case.expected)
    told = []
    for output in view.outputs:
        scores = view.repeat_scores.get(output.repeat) or (view.scores if output.repeat == 0 else [])
        text = answer_of(output)
        told.append(
            OutputWords(
                output=output,
                text=text,
                problem=problem_of(output),
                words=diff_texts(expected, text) if expected and text else (),
                scores=tuple(tell_score(each, columns.get(each.name)) for each in scores),
                facts=_facts(output),
            )
        )
    return tuple(told)


def _facts(output: Output) -> tuple[tuple[str, str], ...]:
    usage = output.usage
    facts = [
        ("Took", "" if output.latency_ms is None else format_ms(output.latency_ms)),
        ("First token", "" if output.ttft_ms is None else format_ms(output.ttft_ms)),
        ("Cost", "unknown" if output.cost_usd is None else format_money(output.cost_usd)),
        ("Model", output.model or ""),
        ("Ended by", output.finish_reason or ""),
    ]
    if usage is not None:
        facts.append(
            ("Tokens", f"{format_count(usage.input_tokens)} in, {format_count(usage.output_tokens)} out")
        )
    return tuple((name, value) for name, value in facts if value)
