"""What of a row is compared: its question side, its answer side or both, as one normalised text.

The surprise: two rows that differ in case, width of letters, spaces or a final full stop alone are the same text here.
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any, Literal

from penstock.base.digest import digest_bytes
from penstock.spec.datasets import DatasetRow

Part = Literal["inputs", "answers", "all"]
"""`inputs`: what is asked, `answers`: what is known or trained to be right, `all`: both."""
ANSWER_FIELDS = frozenset(
    {"expected", "output", "chosen", "rejected", "label", "answer", "relevant", "passages"}
)
"""Every other field belongs to the question side; of `messages`, a last one of the assistant is an answer."""
_UNCOMPARED = frozenset({"relevant", "passages", "tools"})
"""Ids, and texts that many rows of a dataset share on purpose."""
_UNSPACED = re.compile(
    "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af\u0e00-\u0e7f\u0e80-\u0eff\u1000-\u109f\u1780-\u17ff]"
)
"""Kana, Han, Hangul, Thai, Lao, Burmese, Khmer: written (mostly) without spaces between words."""
_TOKEN = re.compile(f"{_UNSPACED.pattern}|[^\\W_]+")


def question_fields(row: DatasetRow) -> dict[str, Any]:
    """Return the fields of the question side."""
    return _side(row, is_answer=False)


def answer_fields(row: DatasetRow) -> dict[str, Any]:
    """Return the fields of the answer side."""
    return _side(row, is_answer=True)


def _side(row: DatasetRow, *, is_answer: bool) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in row.fields.items():
        if name == "messages" and isinstance(value, list):
            is_answered = bool(value) and isinstance(value[-1], dict) and value[-1].get("role") == "assistant"
            cut = len(value) - 1 if is_answered else len(value)
            piece = value[cut:] if is_answer else value[:cut]
            if piece:
                kept[name] = piece
        elif (name in ANSWER_FIELDS) is is_answer and name not in _UNCOMPARED:
            kept[name] = value
    return kept


def row_text(row: DatasetRow, part: Part = "all") -> str:
    """Return the text of a part of a row, its pieces in the order of field names, one a line."""
    fields: dict[str, Any] = {}
    if part in {"inputs", "all"}:
        fields |= _side(row, is_answer=False)
    if part in {"answers", "all"}:
        answers = _side(row, is_answer=True)
        if "messages" in fields and "messages" in answers:
            answers["messages"] = fields["messages"] + answers["messages"]
        fields |= answers
    return "\n".join(text for name in sorted(fields) for text in texts_of(fields[name]))


def texts_of(value: Any, depth: int = 0) -> Iterator[str]:
    """Yield every text in a JSON value, keys of objects and roles of messages left out."""
    if isinstance(value, str):
        if value.strip():
            yield value
    elif isinstance(value, bool) or value is None or depth > 50:
        return
    elif isinstance(value, int | float):
        yield str(value)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in {"role", "type", "tool_call_id", "weight"}:
                yield from texts_of(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts_of(item, depth + 1)


def named_texts(fields: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield every text of a row's fields with the name of the field that it stands in."""
    for name, value in fields.items():
        for text in texts_of(value):
            yield name, text


def normalise(text: str) -> str:
    """Return the text as it is compared: NFKC, case folded, spaces as one, no final punctuation."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split()).rstrip(" .!?\u3002\uff01\uff1f\u2026,;:")


def row_key(row: DatasetRow, part: Part = "all") -> str:
    """Return what rows have in common exactly when this part of them says the same: shape, names, roles, texts.

    Unlike the text that near-duplicates are found by, it covers reference passages and ids too.
    """
    fields = {
        name: value
        for name, value in row.fields.items()
        if part == "all" or name == "messages" or (name in ANSWER_FIELDS) is (part == "answers")
    }
    if part != "all" and "messages" in fields:
        fields["messages"] = _side(row, is_answer=part == "answers").get("messages", [])
    text = json.dumps(_folded(fields), sort_keys=True, separators=(",", ":"))  # ASCII: surrogates stay apart
    return digest_bytes(text.encode())


def _folded(value: Any) -> Any:
    if isinstance(value, str):
        return normalise(value)
    if isinstance(value, dict):
        return {name: _folded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_folded(item) for item in value]
    return value


def tokens_of(text: str) -> list[str]:
    """Return the words of a text, folded; in scripts without spaces every character is one."""
    return _TOKEN.findall(normalise(text))


def is_unspaced(text: str) -> bool:
    """Return whether most of the text belongs to a script that is written without spaces."""
    return not text.isascii() and 2 * len(_UNSPACED.findall(text)) > len(text)
