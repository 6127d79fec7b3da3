"""How two versions of a prompt differ: turn by turn and word by word, and every setting that changed. Pure."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

import msgspec

from penstock.spec.prompts import PromptContent, PromptMessage

Change = Literal["same", "added", "removed", "changed"]
PieceKind = Literal["same", "added", "removed"]
_WORD = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\w+|\s+|[^\w\s]", re.DOTALL)
MAX_WORDS = 6000
"""Of a turn, for a comparison by word; longer ones are compared by line."""
_ALIKE = 0.3
_MIN_COMMON_CHARS = 3


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A run of text that both have, or one of them."""

    kind: PieceKind
    text: str


@dataclass(frozen=True, kw_only=True)
class DiffRow:
    """One turn or one setting in both versions, side by side."""

    part: str
    """`message` or the name of a setting: `variables.tone`, `parameters.temperature`, `few_shot`, `output_schema`."""
    change: Change
    before: str | None
    after: str | None
    role: str | None = None
    """Of a message; `system → user` when it changed."""
    before_place: int | None = None
    after_place: int | None = None
    pieces: tuple[Piece, ...] = ()
    """The text of both in order: what is `removed` stands in the first, what is `added` in the second."""


@dataclass(frozen=True, kw_only=True)
class PromptDiff:
    """All rows, the unchanged turns too."""

    before: str
    after: str
    rows: tuple[DiffRow, ...]
    n_added_words: int = 0
    n_removed_words: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        return all(row.change == "same" for row in self.rows)


def diff_prompts(
    before: PromptContent, after: PromptContent, *, names: tuple[str, str] = ("", "")
) -> PromptDiff:
    """Return how `after` differs from `before`."""
    rows = (*_message_rows(before.messages, after.messages), *_setting_rows(before, after))
    counts = {"added": 0, "removed": 0, "same": 0}
    for row in rows:
        for piece in row.pieces:
            counts[piece.kind] += len(re.findall(r"\w+", piece.text))
    return PromptDiff(
        before=names[0],
        after=names[1],
        rows=rows,
        n_added_words=counts["added"],
        n_removed_words=counts["removed"],
    )


def diff_words(before: str, after: str) -> tuple[Piece, ...]:
    """Return the pieces of both texts, matched by words; joined, those that are not `added` give `before` back."""
    a, b = _words(before), _words(after)
    pieces: list[Piece] = []
    for kind, a0, a1, b0, b1 in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if kind == "equal":
            _put(pieces, "same", "".join(a[a0:a1]))
        else:
            _put(pieces, "removed", "".join(a[a0:a1]))
            _put(pieces, "added", "".join(b[b0:b1]))
    return tuple(_without_specks(pieces))


def _words(text: str) -> list[str]:
    words = _WORD.findall(text)
    return words if len(words) <= MAX_WORDS else text.splitlines(keepends=True)


def _put(pieces: list[Piece], kind: PieceKind, text: str) -> None:
    if not text:
        return
    if pieces and pieces[-1].kind == kind:
        text = pieces.pop().text + text
    pieces.append(Piece(kind=kind, text=text))


def _without_specks(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """Join changes that only a blank or a comma keeps apart: many small ones read worse than one."""
    run: list[Piece] = []
    for number, piece in enumerate(pieces):
        is_speck = (
            piece.kind == "same"
            and not re.search(r"\w", piece.text)
            and len(piece.text) <= _MIN_COMMON_CHARS
            and "\n" not in piece.text
            and 0 < number < len(pieces) - 1
        )
        if piece.kind != "same" or is_speck:
            run.append(piece)
            continue
        yield from _joined_run(run)
        run = []
        yield piece
    yield from _joined_run(run)


def _joined_run(run: Sequence[Piece]) -> Iterator[Piece]:
    removed = "".join(piece.text for piece in run if piece.kind != "added")
    added = "".join(piece.text for piece in run if piece.kind != "removed")
    if removed:
        yield Piece(kind="removed", text=removed)
    if added:
        yield Piece(kind="added", text=added)


def message_body(message: PromptMessage) -> str:
    """Return a turn as text: its template, or its parts as JSON."""
    if message.role == "slot":
        return f"({message.content})"
    if isinstance(message.content, str):
        return message.content
    return json.dumps(message.content, ensure_ascii=False, indent=2)


def _message_rows(before: Sequence[PromptMessage], after: Sequence[PromptMessage]) -> Iterator[DiffRow]:
    for a, b in _aligned(before, after):
        old = None if a is None else before[a]
        new = None if b is None else after[b]
        old_text = None if old is None else message_body(old)
        new_text = None if new is None else message_body(new)
        is_same = old is not None and new is not None and old == new
        yield DiffRow(
            part="message",
            change="same" if is_same else "added" if old is None else "removed" if new is None else "changed",
            role=_roles(old, new),
            before=old_text,
            after=new_text,
            before_place=a,
            after_place=b,
            pieces=diff_words(old_text or "", new_text or ""),
        )


def _roles(old: PromptMessage | None, new: PromptMessage | None) -> str:
    roles = list(dict.fromkeys(each.role for each in (old, new) if each is not None))
    return " → ".join(roles)


def _aligned(
    before: Sequence[PromptMessage], after: Sequence[PromptMessage]
) -> list[tuple[int | None, int | None]]:
    """Return pairs of turns in order, so that the texts of pairs are most alike (an alignment of least cost)."""
    n, m = len(before), len(after)
    likeness = [[_likeness(a, b) for b in after] for a in before]
    best = [[0.0] * (m + 1) for _ in range(n + 1)]
    for i in range(n - 1, -1, -1):
        for j in range(m - 1, -1, -1):
            paired = likeness[i][j] + best[i + 1][j + 1] if likeness[i][j] > 0 else -1.0
            best[i][j] = max(paired, best[i + 1][j], best[i][j + 1])
    pairs: list[tuple[int | None, int | None]] = []
    i = j = 0
    while i < n or j < m:
        if i < n and j < m and likeness[i][j] > 0 and best[i][j] == likeness[i][j] + best[i + 1][j + 1]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif i < n and (j == m or best[i][j] == best[i + 1][j]):
            pairs.append((i, None))
            i += 1
        else:
            pairs.append((None, j))
            j += 1
    return pairs


def _likeness(a: PromptMessage, b: PromptMessage) -> float:
    if a == b:
        return 2.0
    matcher = SequenceMatcher(None, _words(message_body(a)), _words(message_body(b)), autojunk=False)
    ratio = matcher.quick_ratio() if matcher.real_quick_ratio() > _ALIKE else 0.0
    if a.role == b.role:
        return 0.5 + ratio
    return ratio if ratio > _ALIKE else 0.0


def _setting_rows(before: PromptContent, after: PromptContent) -> Iterator[DiffRow]:
    old, new = _settings(before), _settings(after)
    for name in dict.fromkeys((*old, *new)):
        a, b = old.get(name), new.get(name)
        if a == b:
            continue
        yield DiffRow(
            part=name,
            change="added" if a is None else "removed" if b is None else "changed",
            before=a,
            after=b,
            pieces=diff_words(a or "", b or ""),
        )


def _settings(content: PromptContent) -> dict[str, str]:
    found: dict[str, str] = {}
    plain: dict[str, Any] = msgspec.to_builtins(content)
    plain.pop("messages", None)
    for name in ("variables", "parameters"):
        for inner, value in (plain.pop(name, None) or {}).items():
            found[f"{name}.{inner}"] = _shown(value)
    for number, tool in enumerate(plain.pop("tools", None) or ()):
        function = tool.get("function") if isinstance(tool.get("function"), dict) else {}
        found[f"tools.{function.get('name') or number}"] = _shown(tool)
    found.update({name: _shown(value) for name, value in plain.items()})
    return found


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
