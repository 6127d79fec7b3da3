"""The demo's ten questions and how their answers are scored."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from penstock import data as package_data
from penstock.evals.scorers.words import squad_words

SHIPPED = Path(package_data.__file__).parent
ARTICLES = SHIPPED / "handbook" / "articles"
QUESTIONS = SHIPPED / "handbook" / "questions.jsonl"
N_QUESTIONS = 10


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question with its reference answer and the document that holds it."""

    id: str
    text: str
    reference: str
    document: str
    alternatives: tuple[str, ...] = ()
    phrasing: Literal["as_written", "rephrased"] = "as_written"

    def rephrased(self) -> "Question":
        """Return the question in its first other phrasing, or itself where there is none."""
        if not self.alternatives:
            return self
        return replace(self, text=self.alternatives[0], phrasing="rephrased")


def load_questions(path: Path = QUESTIONS, *, count: int = N_QUESTIONS) -> list[Question]:
    """Return the fixed selection: held-out, answerable, one an article, spread evenly over the articles.

    Every second one is asked in its first other phrasing, which shares fewer words with the answer.
    """
    by_document: dict[str, list[Question]] = {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            if row["split"] != "heldout" or row.get("answer") is None:
                continue
            question = Question(
                id=row["id"],
                text=row["question"],
                reference=row["answer"],
                document=row["document"],
                alternatives=tuple(row.get("alternatives", ())),
            )
            by_document.setdefault(question.document, []).append(question)
    documents = sorted(by_document)
    chosen: list[Question] = []
    for number in range(min(count, sum(map(len, by_document.values())))):
        document = (
            documents[number * len(documents) // count]
            if len(documents) >= count
            else documents[number % len(documents)]
        )
        candidates = [question for question in by_document[document] if question not in chosen]
        chosen.append(candidates[number % len(candidates)])
    return [question.rephrased() if number % 2 else question for number, question in enumerate(chosen)]


def token_f1(answer: str, reference: str) -> float:
    """Return the F1 of the words two texts share, between 0 and 1 (SQuAD's normalisation: case, articles, punctuation).

    Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text", 2016, §6.1.
    """
    given, wanted = squad_words(answer), squad_words(reference)
    shared = sum((Counter(given) & Counter(wanted)).values())
    if not given or not wanted:
        return float(given == wanted)
    if not shared:
        return 0.0
    precision, recall = shared / len(given), shared / len(wanted)
    return 2 * precision * recall / (precision + recall)


def citation_hit(cited: Sequence[str], document: str) -> float:
    """Return 1.0 when the document that holds the answer is among the cited ones, else 0.0."""
    return float(document in cited)
