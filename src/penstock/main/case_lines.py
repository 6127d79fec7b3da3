"""One case of an evaluation in one line of text."""

from collections.abc import Sequence
from typing import Any

MAX_TEXT = 80


def case_line(case_id: str, outputs: Sequence[dict[str, Any]], scores: Sequence[dict[str, Any]]) -> str:
    """Return one line that tells a case: id, scores, answer or error."""
    told = " ".join(
        f"{score['name']}={score['value']:.3g}"
        if score.get("value") is not None
        else f"{score['name']}={score.get('status', 'undefined')}"
        for score in scores
    )
    first = outputs[0] if outputs else {}
    error = first.get("error") or {}
    text = first.get("text") or error.get("message") or first.get("status") or ""
    plain = "".join(char if char.isprintable() else " " for char in " ".join(str(text).split()))
    return f"{case_id}  {told}  {plain[:MAX_TEXT]}".rstrip()
