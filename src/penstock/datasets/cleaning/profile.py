"""What rows look like: lengths, languages, labels, and rows that a person should look at, each with the reason.

Nothing here changes a row. A note is a suspicion with ids, not a verdict: a short answer may be right.
"""

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from penstock.datasets.cleaning.languages import guess_language
from penstock.datasets.cleaning.texts import (
    answer_fields,
    normalise,
    question_fields,
    row_key,
    texts_of,
    tokens_of,
)
from penstock.spec.datasets import DatasetFormat, DatasetRow

NoteKind = Literal[
    "empty question", "empty answer", "very short", "very long", "repeated text", "cut off", "broken characters",
    "leaked answer", "contradiction",
]  # fmt: skip
MAX_IDS = 50
MAX_LABELS = 50
MAX_LABEL_CHARS = 60
SHORT_CHARS = 3
LONG_CHARS = 50_000
REPEATED_RATIO = 8.0
"""A text that shrinks so much when compressed says the same over and over (prose: 2 to 4)."""
MIN_REPEATED_CHARS = 400
MIN_CUT_CHARS = 200
MIN_LEAKED_CHARS = 4
RARE_LABEL = 5
SKEWED = 0.9
_BROKEN = re.compile("\ufffd|\u00c3[\u0080-\u00bf]|\u00e2\u20ac|[\x00-\x08\x0b\x0c\x0e-\x1f]")
"""Replacement characters, UTF-8 that was read as Latin-1 or Windows-1252, control characters."""
_ENDED = re.compile(r"[.!?:;\u2026\u3002\uff01\uff1f\u0964)\]}>\"'\u201d\u2019\u300d`*|]\s*$|```\s*$|\d\s*$")
_UNENDED_SCRIPTS = frozenset({"th", "zh", "ja", "ko", None})
"""Texts in these may end without a mark."""


@dataclass(kw_only=True)
class Note:
    """One kind of suspicion, and where."""

    kind: NoteKind
    n_rows: int = 0
    row_ids: list[str] = field(default_factory=list)
    """The first of them."""


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """How long one side of the rows is, in characters; None of an empty side."""

    n: int
    min: int | None
    median: int | None
    p95: int | None
    max: int | None
    total: int


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What the rows look like."""

    n_rows: int
    question_chars: Lengths
    answer_chars: Lengths
    languages: dict[str, int]
    """Of the questions, guessed; rows whose language nobody can tell count under `unknown`."""
    labels: dict[str, int]
    """Of format `label`, and of short answers that many rows share; the commonest first, empty where there are none."""
    n_labels: int
    notes: tuple[Note, ...]
    remarks: tuple[str, ...]
    """About the whole: skewed or rare labels."""


@dataclass
class _Gathered:
    questions: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    languages: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    n_answered: int = 0
    first: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    notes: dict[NoteKind, Note] = field(default_factory=dict)


def profile_rows(rows: Iterable[DatasetRow], form: DatasetFormat) -> Profile:
    """Return what the rows look like. Memory grows by about 200 bytes a row."""
    gathered = _Gathered()
    for row in rows:
        _gather(row, form, gathered)
    labels = _labels(gathered, form)
    notes = tuple(sorted(gathered.notes.values(), key=lambda each: -each.n_rows))
    return Profile(
        n_rows=len(gathered.questions),
        question_chars=_lengths(gathered.questions),
        answer_chars=_lengths([each for each in gathered.answers if each]),
        languages=dict(gathered.languages.most_common()),
        labels=dict(labels.most_common(MAX_LABELS)),
        n_labels=len(labels),
        notes=notes,
        remarks=tuple(_remarks(labels)),
    )


def _gather(row: DatasetRow, form: DatasetFormat, gathered: _Gathered) -> None:
    answers = answer_fields(row)
    question = "\n".join(text for value in question_fields(row).values() for text in texts_of(value))
    answer = "\n".join(text for value in answers.values() for text in texts_of(value))
    gathered.questions.append(len(question))
    gathered.answers.append(len(answer))
    language = guess_language(question)
    gathered.languages[language or "unknown"] += 1
    if answer:
        gathered.n_answered += 1
        if len(answer) <= MAX_LABEL_CHARS:
            gathered.labels[answer.strip()] += 1
    for kind in _find_notes(question, answer, answers, form):
        _note(gathered, kind, row.id)
    if question.strip() and (answer or row.fields.get("relevant")):
        _compare_with_first(row, gathered)


def _find_notes(question: str, answer: str, answers: dict[str, Any], form: DatasetFormat) -> list[NoteKind]:
    found: list[NoteKind] = []
    both = f"{question}\n{answer}"
    if not question.strip():
        found.append("empty question")
    elif len(question.strip()) < SHORT_CHARS:
        found.append("very short")
    if not answer.strip() and (answers or form in {"instruct", "label", "preference"}):
        found.append("empty answer")
    if len(both) > LONG_CHARS:
        found.append("very long")
    if is_repeated(question) or is_repeated(answer):
        found.append("repeated text")
    if form in {"instruct", "chat"} and is_cut_off(answer):
        found.append("cut off")
    if _BROKEN.search(both):
        found.append("broken characters")
    if is_leaked(
        question, answers.get("label", answers.get("expected")) if form in {"cases", "label"} else None
    ):
        found.append("leaked answer")
    return found


def is_repeated(text: str) -> bool:
    """Return whether a long text says the same over and over."""
    if len(text) < MIN_REPEATED_CHARS:
        return False
    data = text[:LONG_CHARS].encode("utf-8", "surrogatepass")
    return len(data) / len(zlib.compress(data, 6)) > REPEATED_RATIO


def is_cut_off(text: str) -> bool:
    """Return whether a long answer ends in the middle of a sentence."""
    if len(text) < MIN_CUT_CHARS or _ENDED.search(text):
        return False
    return guess_language(text) not in _UNENDED_SCRIPTS


def is_leaked(question: str, expected: Any) -> bool:
    """Return whether the question says its own answer, as whole words; answers under four letters say nothing."""
    answer = normalise(expected) if isinstance(expected, str) else ""
    if len(answer) < MIN_LEAKED_CHARS:
        return False
    wanted, said = tokens_of(answer), tokens_of(question)
    return bool(wanted) and f" {' '.join(wanted)} " in f" {' '.join(said)} "


def _compare_with_first(row: DatasetRow, gathered: _Gathered) -> None:
    """Note two rows that ask the same and answer differently."""
    key = row_key(row, "inputs")
    mine = row_key(row, "answers")
    first_id, first_answer, noted = gathered.first.setdefault(key, (row.id, mine, ""))
    if first_answer != mine:
        if not noted:
            _note(gathered, "contradiction", first_id)
            gathered.first[key] = (first_id, first_answer, "noted")
        _note(gathered, "contradiction", row.id)


def _note(gathered: _Gathered, kind: NoteKind, row_id: str) -> None:
    note = gathered.notes.setdefault(kind, Note(kind=kind))
    note.n_rows += 1
    if len(note.row_ids) < MAX_IDS:
        note.row_ids.append(row_id)


def _labels(gathered: _Gathered, form: DatasetFormat) -> Counter[str]:
    """Return the labels; answers of other formats count as labels where few of them serve many rows."""
    is_labelled = form == "label" or (
        gathered.labels.total() == gathered.n_answered >= 20
        and len(gathered.labels) <= gathered.n_answered / 5
    )
    return gathered.labels if is_labelled else Counter()


def _remarks(labels: Counter[str]) -> list[str]:
    total = labels.total()
    if not total:
        return []
    remarks = []
    (name, n_most), *_ = labels.most_common(1)
    if len(labels) == 1:
        remarks.append(f"Every labelled row is {name!r}: nothing can be told apart by them.")
    elif n_most >= SKEWED * total:
        remarks.append(
            f"{n_most / total:.0%} of the labels are {name!r}: always answering it would score as much in accuracy."
        )
    rare = [label for label, n in labels.items() if n < RARE_LABEL]
    if rare:
        shown = ", ".join(repr(label) for label in rare[:5]) + (" …" if len(rare) > 5 else "")
        remarks.append(f"{len(rare)} labels have fewer than {RARE_LABEL} rows: {shown}.")
    return remarks


def _lengths(values: Sequence[int]) -> Lengths:
    ranked = sorted(values)
    if not ranked:
        return Lengths(n=0, min=None, median=None, p95=None, max=None, total=0)
    return Lengths(
        n=len(ranked),
        min=ranked[0],
        median=ranked[(len(ranked) - 1) // 2],
        p95=ranked[min(len(ranked) - 1, -(-95 * len(ranked) // 100) - 1)],
        max=ranked[-1],
        total=sum(ranked),
    )
