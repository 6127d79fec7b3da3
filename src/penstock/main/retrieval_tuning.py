"""Joins tuning with what it needs: searching, scorers, labelled questions of datasets or of a file."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.datasets.cases import row_to_case
from penstock.datasets.filters import make_filter
from penstock.knowledge.quality.ports import Questions
from penstock.knowledge.quality.types import LabelledQuestion, MadeQuestions, QuestionSet
from penstock.knowledge.retrieval.tuner import Tuner
from penstock.main.dataset_rooms import create_datasets
from penstock.main.knowledge_rooms import KnowledgeRooms
from penstock.main.retrieval_questions import DatasetQuestions, case_to_question
from penstock.main.retrieval_scoring import EvaluationScoring
from penstock.spec.datasets import DatasetRow

HANDBOOK = "handbook"
SHIPPED = "handbook:questions"
MAX_FILE_BYTES = 64 * 1024 * 1024


class FileQuestions:
    """Labelled questions of one JSONL file: `{"query": …, "relevant": ["guide.md#Setup"]}`; others by the datasets."""

    def __init__(self, datasets: DatasetQuestions) -> None:
        self._datasets = datasets

    def list_sets(self) -> Sequence[QuestionSet]:
        """Return those of the datasets."""
        return self._datasets.list_sets()

    def pin(self, ref: str) -> str:
        """Return the path of a file, the shipped questions for `handbook`, or the version of a dataset."""
        if ref == HANDBOOK:
            return SHIPPED
        return ref if _is_file(ref) else self._datasets.pin(ref)

    def read(self, ref: str, *, where: str | None = None) -> Iterator[LabelledQuestion]:
        """Yield the questions; raise `InvalidInput` that names the line."""
        if not _is_file(ref):
            yield from self._datasets.read(ref, where=where)
            return
        test = make_filter(where)
        for row in _read_rows(Path(ref)):
            if test is None or test(row):
                question = case_to_question(row_to_case(row, "retrieval"))
                if question.question:
                    yield question

    def add(
        self, name: str, questions: Sequence[LabelledQuestion], *, actor: str, note: str
    ) -> MadeQuestions:
        """Add to a dataset."""
        return self._datasets.add(name, questions, actor=actor, note=note)


def make_tuner(rooms: KnowledgeRooms) -> Tuner:
    """Return the tuner of a home."""
    datasets = DatasetQuestions(create_datasets(rooms.home, rooms.registry, rooms.blobs))
    questions: Questions = FileQuestions(datasets)
    return Tuner(rooms.engine, rooms.knowledge, EvaluationScoring(), questions)


def _is_file(ref: str) -> bool:
    return ref.endswith((".jsonl", ".ndjson")) or "/" in ref


def _read_rows(path: Path) -> Iterator[DatasetRow]:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InvalidInput(
                f"{str(path)!r} is over {MAX_FILE_BYTES:,} bytes.", hint="Import it as a dataset."
            )
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InvalidInput(f"{str(path)!r} cannot be read: {error.strerror or error}.") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = msgspec.json.decode(line, type=_Line)
        except msgspec.DecodeError as error:
            raise InvalidInput(
                f"Line {number} of {str(path)!r} is no labelled question: {error}.",
                hint='Write {"query": "…", "relevant": ["guide.md#Setup"]}.',
            ) from error
        fields: dict[str, Any] = {"query": value.query, "relevant": value.relevant}
        if value.passages:
            fields["passages"] = value.passages
        if value.answer:
            fields["answer"] = value.answer
        yield DatasetRow(
            id=value.id or f"line-{number}",
            fields=fields,
            group=value.group,
            split=value.split,
            tags=value.tags,
            metadata=value.metadata,
        )


class _Line(msgspec.Struct):
    query: str
    relevant: list[str] = []
    passages: list[str | dict[str, str]] = []
    answer: str | None = None
    id: str | None = None
    group: str | None = None
    split: str | None = None
    tags: list[str] = []
    metadata: dict[str, object] = {}
