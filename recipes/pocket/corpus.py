"""Corpus: reads the handbook and the reading passages into one form.

It knows nothing about tokens. The split is decided here and nowhere else: held-out articles never leave
`load_articles(split="heldout")`, and a fixed share of the reading passages is kept for validation.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

HERE = Path(__file__).resolve().parent
HANDBOOK = HERE.parent / "handbook"
READING = HERE / "reading"

Split = Literal["train", "heldout"]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question in one or more phrasings; `answer` is an index into the text's sentences, or None."""

    phrasings: tuple[str, ...]
    answer: int | None


@dataclass(frozen=True, kw_only=True)
class Text:
    """A passage or article: sentences, the section each belongs to, and its questions."""

    name: str
    sentences: tuple[str, ...]
    section_of: tuple[int, ...]
    questions: tuple[Question, ...]

    def sections(self) -> list[list[int]]:
        """Sentence indexes by section, in order, without empty sections."""
        found: dict[int, list[int]] = {}
        for index, section in enumerate(self.section_of):
            found.setdefault(section, []).append(index)
        return list(found.values())


def load_articles(split: Split) -> list[Text]:
    """Read the handbook articles of one split with their questions."""
    texts: list[Text] = []
    for path in sorted((HANDBOOK / "articles").glob("*.md")):
        head, body = path.read_text(encoding="utf-8").split("---\n", 2)[1:]
        found = re.search(r"^split: *(\w+)", head, re.MULTILINE)
        lines = HANDBOOK / "questions" / f"{path.stem}.jsonl"
        if found is None or found[1] != split or not lines.exists():
            continue
        sentences: list[str] = []
        section_of: list[int] = []
        for number, section in enumerate(re.split(r"^## .*$", body, flags=re.MULTILINE)):
            plain = " ".join(line for line in section.splitlines() if not line.startswith("#"))
            for sentence in filter(None, re.split(r"(?<=[.?!])\s+", plain.strip())):
                sentences.append(sentence)
                section_of.append(number)
        questions: list[Question] = []
        for line in lines.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row["answer"] is not None and row["answer"] not in sentences:
                continue
            answer = None if row["answer"] is None else sentences.index(row["answer"])
            questions.append(Question(phrasings=(row["question"], *row["alternatives"]), answer=answer))
        texts.append(
            Text(
                name=path.stem,
                sentences=tuple(sentences),
                section_of=tuple(section_of),
                questions=tuple(questions),
            )
        )
    return texts


def load_reading(validation_share: float) -> tuple[list[Text], list[Text]]:
    """Read the practice passages as (train, validation); every n-th passage of a file is for validation."""
    train: list[Text] = []
    validation: list[Text] = []
    stride = round(1 / validation_share)
    for path in sorted(READING.glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
            try:
                row = json.loads(line)
            except ValueError:
                continue
            answered = [Question(phrasings=(item["q"],), answer=item["s"]) for item in row["questions"]]
            nulls = [Question(phrasings=(text,), answer=None) for text in row["unanswerable"]]
            text = Text(
                name=f"{path.stem}-{number}",
                sentences=tuple(row["passage"]),
                section_of=(0,) * len(row["passage"]),
                questions=(*answered, *nulls),
            )
            (validation if number % stride == stride - 1 else train).append(text)
    return train, validation
