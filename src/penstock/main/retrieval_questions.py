"""Sets of labelled questions as datasets: `knowledge.quality.ports.Questions`.

A row of format `retrieval` (or `cases`) is a question. What should be found stands in `relevant` (`alcohol.md`,
`alcohol.md#Lower risk drinking`) and in `passages` (words of a document); `metadata.grades` gives names a grade other than 1,
0 meaning judged and not relevant; `metadata.alternatives` other wordings. `handbook:questions` is shipped and needs no import.
"""

import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from penstock.base.errors import InvalidInput, NotFound
from penstock.datasets.cases import row_to_case
from penstock.datasets.errors import ClashingIds, EmptyDataset
from penstock.datasets.filters import make_filter
from penstock.datasets.handbook import QUESTIONS, write_handbook
from penstock.datasets.service import DatasetService
from penstock.datasets.types import DatasetSummary
from penstock.knowledge.quality.types import Label, LabelledQuestion, MadeQuestions, QuestionSet
from penstock.spec.cases import Case
from penstock.spec.datasets import DatasetFormat, DatasetRow, Provenance

_FORMATS: tuple[DatasetFormat, ...] = ("retrieval", "cases")
_PASSAGE_ID = re.compile(r"psg_[0-9a-z]+")
_PREVIEW = 10


class DatasetQuestions:
    """Reads and writes sets of questions. May be called from any thread."""

    def __init__(self, datasets: DatasetService) -> None:
        self._datasets = datasets

    def list_sets(self) -> Sequence[QuestionSet]:
        """Return every dataset of a format that can label, and the shipped one."""
        shipped = QuestionSet(ref=QUESTIONS, name=QUESTIONS, is_shipped=True, n_questions=_count_shipped())
        found = [shipped]
        for each in self._datasets.list_datasets():
            if each.format != "retrieval" and not self._has_labels(each):
                continue
            found.append(
                QuestionSet(
                    ref=f"dataset:{each.name}@{each.latest}",
                    name=each.name,
                    n_questions=each.n_rows,
                    updated_ns=each.updated_ns,
                )
            )
        return found

    def _has_labels(self, each: DatasetSummary) -> bool:
        if each.format != "cases":
            return False
        facts = self._datasets.facts(f"dataset:{each.name}@{each.latest}")
        return not {"relevant", "passages"}.isdisjoint(facts.fields)

    def pin(self, ref: str) -> str:
        """Return the version that `ref` names."""
        if ref == QUESTIONS:
            return QUESTIONS
        return self._datasets.get(ref).ref

    def read(self, ref: str, *, where: str | None = None) -> Iterator[LabelledQuestion]:
        """Yield the questions of a set; raise `InvalidInput` for a dataset that holds none."""
        if ref == QUESTIONS:
            test = make_filter(where)
            rows = read_shipped()
            yield from (
                case_to_question(row_to_case(row, "cases"))
                for row in (rows if test is None else filter(test, rows))
            )
            return
        form = self._datasets.facts(ref).format
        if form not in _FORMATS:
            raise InvalidInput(
                f"{ref} is of format {form}; questions with what should be found are of {' or '.join(_FORMATS)}.",
                hint="Import it with --format retrieval.",
                where="questions",
            )
        for row in self._datasets.read(ref, where):
            question = case_to_question(row_to_case(row, form), row.provenance)
            if question.question:
                yield question

    def add(
        self, name: str, questions: Sequence[LabelledQuestion], *, actor: str, note: str
    ) -> MadeQuestions:
        """Add questions to a set, creating it; what is asked there already is counted and left as it is."""
        try:
            known = {_key(each.question) for each in self.read(f"dataset:{name}@latest")}
            is_new = False
        except NotFound:
            known, is_new = set(), True
        fresh: list[LabelledQuestion] = []
        left_out: Counter[str] = Counter()
        n_known = 0
        for each in questions:
            key = _key(each.question)
            if not key:
                left_out["the question is empty"] += 1
            elif key in known:
                n_known += 1
            else:
                known.add(key)
                fresh.append(each)
        if not fresh:
            return MadeQuestions(ref=None, n_added=0, n_known=n_known, left_out=dict(left_out))
        rows = [question_to_row(each, actor) for each in fresh]
        text = note or f"{len(rows)} questions by {actor}"
        try:
            made = (
                self._datasets.create_from_rows(name, rows, "retrieval", note=text)
                if is_new
                else self._datasets.append(f"dataset:{name}@latest", rows, note=text)
            )
        except (ClashingIds, EmptyDataset) as error:
            raise InvalidInput(f"These questions cannot be added to {name!r}: {error.message}") from error
        return MadeQuestions(
            ref=made.ref,
            n_added=len(rows),
            n_known=n_known,
            left_out=dict(left_out),
            preview=fresh[:_PREVIEW],
        )


def read_shipped() -> Iterable[DatasetRow]:
    """Yield the rows of the handbook's questions as an import would make them."""
    with tempfile.TemporaryDirectory(prefix="penstock-questions-") as folder:
        lines = write_handbook(Path(folder), QUESTIONS).read_bytes().splitlines()
    for line in lines:
        value = msgspec.json.decode(line)
        fields = {
            name: value[name] for name in ("input", "expected", "relevant", "passages") if name in value
        }
        if value.get("expected") is None:  # asks for what the document does not say
            fields.pop("relevant", None)
        yield DatasetRow(
            id=value["id"],
            fields=fields,
            split=value.get("split"),
            group=value.get("group"),
            metadata=value.get("metadata", {}),
        )


def _count_shipped() -> int:
    return sum(1 for _ in read_shipped())


def case_to_question(case: Case, provenance: Provenance | None = None) -> LabelledQuestion:
    """Return a case as a labelled question; its `question` is empty when the case asks in no single text."""
    text = case.inputs.get("input") or case.inputs.get("question") or case.inputs.get("query")
    grades = _grades(case.metadata.get("grades"))
    labels: list[Label] = []
    own_ids = set()
    for each in case.passages:
        if each.id is not None:
            own_ids.add(each.id)
        grade = grades.pop(each.id, None) if each.id is not None else None
        labels.append(Label(document=each.document, quote=each.text, grade=1 if grade is None else grade))
    named = [name for name in case.relevant if name not in own_ids]
    section = case.metadata.get("section")
    if isinstance(section, str) and len(named) == 1 and "#" not in named[0]:
        labels.append(Label(document=named[0], section=section))
    labels += [read_label(name, grades.pop(name, 1)) for name in named]
    labels += [read_label(name, grade) for name, grade in grades.items()]
    told = case.metadata.get("alternatives")
    expected = case.expected[0] if isinstance(case.expected, list) and case.expected else case.expected
    return LabelledQuestion(
        id=case.id,
        question=text if isinstance(text, str) else "",
        labels=labels,
        alternatives=[each for each in told if isinstance(each, str)] if isinstance(told, list) else [],
        answer=expected if isinstance(expected, str) else None,
        group=case.group,
        split=case.split,
        tags=list(case.tags),
        source=None if provenance is None else provenance.source or None,
    )


def read_label(name: str, grade: int = 1) -> Label:
    """Return what a name in `relevant` means: a document, a section of one, or a passage."""
    if _PASSAGE_ID.fullmatch(name):
        return Label(passage_id=name, grade=grade)
    document, mark, section = name.partition("#")
    if mark and document and section:
        return Label(document=document, section=section, grade=grade)
    return Label(document=name, grade=grade)


def question_to_row(question: LabelledQuestion, actor: str) -> DatasetRow:
    """Return the row of format `retrieval` that `case_to_question` reads again."""
    relevant: list[str] = []
    passages: list[dict[str, Any]] = []
    grades: dict[str, int] = {}
    for label in question.labels:
        if label.quote is not None:
            name = f"quote-{len(passages) + 1}"
            passages.append(
                {"text": label.quote, "id": name, **({"document": label.document} if label.document else {})}
            )
        else:
            name = label.name
            if label.grade > 0 and name not in relevant:
                relevant.append(name)
        if label.grade != 1:
            grades[name] = label.grade
    fields: dict[str, Any] = {"query": question.question, "relevant": relevant}
    if passages:
        fields["passages"] = passages
    if question.answer:
        fields["answer"] = question.answer
    metadata: dict[str, Any] = {}
    if question.alternatives:
        metadata["alternatives"] = list(question.alternatives)
    if grades:
        metadata["grades"] = grades
    return DatasetRow(
        id=question.id,
        fields=fields,
        group=question.group,
        split=question.split,
        tags=list(question.tags),
        metadata=metadata,
        provenance=_provenance(question.source, actor),
    )


def _provenance(source: str | None, actor: str) -> Provenance:
    kind, colon, rest = (source or "").partition(":")
    known = {"trace": "trace", "feedback": "feedback", "model": "synthetic", "import": "import"}
    if colon and kind in known:
        return msgspec.convert({"kind": known[kind], "source": rest}, Provenance)
    return Provenance(kind="edit", source=source or actor)


def _key(text: str) -> str:
    return " ".join(text.split()).casefold()


def _grades(told: Any) -> dict[str, int]:
    if not isinstance(told, Mapping):
        return {}
    return {
        str(name): int(grade)
        for name, grade in told.items()
        if isinstance(grade, int | float) and not isinstance(grade, bool) and 0 <= grade <= 10
    }
