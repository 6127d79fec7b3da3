"""Labelled questions made ready for one generation: wordings, groups, slices, and which passages would be right."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from penstock.knowledge.quality.asking import Question
from penstock.knowledge.quality.labels import LabelMapper, Target, choose_labels, make_target
from penstock.knowledge.quality.types import (
    MAX_QUESTIONS,
    Granularity,
    Label,
    LabelledQuestion,
    MappedLabel,
    Phrasing,
    UnmappedLabel,
)
from penstock.knowledge.quality.words import split_words

MAX_SLICED_DOCUMENTS = 30
_SHORT, _MIDDLE = 5, 10
"""Words below which a question is short, and below which it is of middle length."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Questions with their labels in one generation."""

    questions: Sequence[Question]
    """Wordings: several may belong to one labelled question, and then share its group."""
    mapped: dict[str, list[MappedLabel]]
    """By the id of the wording."""
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def n_labels(self) -> int:
        """Labels that name something relevant, of all wordings."""
        return sum(each.label.grade > 0 for labels in self.mapped.values() for each in labels)

    @property
    def n_graded(self) -> int:
        """Wordings with a grade beyond yes and no."""
        return sum(any(each.label.grade > 1 for each in labels) for labels in self.mapped.values())

    def unmapped(self) -> list[UnmappedLabel]:
        """Return the labels that no passage fulfils, each of each question once."""
        return [
            UnmappedLabel(question_id=question.id, label=each.label.name, reason=each.reason or "")
            for question in self.questions
            for each in self.mapped[question.id]
            if each.label.grade > 0 and not each.passages
        ]

    def targets(self, *, count_unmapped: bool) -> dict[str, Target]:
        """Return what each wording should find; wordings that have nothing to find are left out."""
        made = {
            name: make_target(labels, count_unmapped=count_unmapped) for name, labels in self.mapped.items()
        }
        return {name: target for name, target in made.items() if target.wanted}


def prepare(
    questions: Iterable[LabelledQuestion],
    mapper: LabelMapper,
    *,
    by: Granularity,
    phrasing: Phrasing = "asked",
    limit: int | None = None,
) -> Prepared:
    """Return wordings and mapped labels. What cannot be asked is left out, counted by reason.

    With a `limit` questions are drawn by their ids: the same ones each time, from all over a set that is written in order.
    """
    left_out: Counter[str] = Counter()
    asked: list[Question] = []
    mapped: dict[str, list[MappedLabel]] = {}
    askable: list[tuple[LabelledQuestion, list[str], list[Label]]] = []
    for each in questions:
        labels = choose_labels(each, by)
        if not any(label.grade > 0 for label in labels):
            left_out["names nothing that should be found" + (f" by {by}" if by != "finest" else "")] += 1
            continue
        texts = [text for text in wordings(each, phrasing) if text.strip()]
        if not texts:
            left_out["has no such wording"] += 1
            continue
        askable.append((each, texts, labels))
    bound = min(limit or MAX_QUESTIONS, MAX_QUESTIONS)
    if len(askable) > bound:
        left_out[f"over the {bound:,} questions asked for"] = len(askable) - bound
        drawn = sorted(range(len(askable)), key=lambda at: _draw(askable[at][0].id))[:bound]
        askable = [askable[at] for at in sorted(drawn)]
    taken = [(each, texts, [mapper.map(label) for label in labels]) for each, texts, labels in askable]
    documents = {_document_of(each) for each, _, _ in taken}
    is_sliced = 1 < len(documents) <= MAX_SLICED_DOCUMENTS
    for each, texts, found in taken:
        document = _document_of(each)
        for number, text in enumerate(texts):
            name = each.id if number == 0 else f"{each.id}/{number}"
            slices = [f"length={_length(text)}", *(f"tag={tag}" for tag in each.tags)]
            if each.split:
                slices.append(f"split={each.split}")
            if is_sliced and document is not None:
                slices.append(f"document={document}")
            # wordings of one question, and questions about one document, are not independent
            group = each.group or document or (each.id if len(texts) > 1 else None)
            asked.append(Question(id=name, text=text, group=group, slices=tuple(dict.fromkeys(slices))))
            mapped[name] = found
    return Prepared(questions=asked, mapped=mapped, left_out=left_out)


def wordings(question: LabelledQuestion, phrasing: Phrasing) -> list[str]:
    """Return the wordings of a question that are asked."""
    if phrasing == "asked":
        return [question.question]
    if phrasing == "alternatives":
        return list(question.alternatives)
    return [question.question, *question.alternatives]


def _draw(question_id: str) -> bytes:
    return hashlib.sha256(question_id.encode()).digest()


def _document_of(question: LabelledQuestion) -> str | None:
    return next((label.document for label in question.labels if label.document and label.grade), None)


def _length(text: str) -> str:
    n = len(split_words(text))
    return "short" if n < _SHORT else "middle" if n < _MIDDLE else "long"
