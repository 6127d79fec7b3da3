"""The quality of retrieval for the command line: asked of the running control process, or done here on a stopped home.

Done here, questions are embedded by nobody (the gateway is down), so that searches go by words and say so, and only `--modes lexical`
has figures; what the record of traffic says is read from its file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import quote

import msgspec

from penstock.base.late import late_imports
from penstock.knowledge.quality.report_types import Explanation, StaleReport, UnansweredReport, UnusedReport
from penstock.knowledge.quality.types import (
    CompareRequest,
    ComparisonPage,
    GenerationComparison,
    LabelledQuestion,
    MadeQuestions,
    Measurement,
    MeasurementPage,
    MeasureRequest,
    QuestionSet,
)
from penstock.knowledge.types import InlineContext
from penstock.main.control_client import ControlClient
from penstock.main.instance import running_instance
from penstock.spec.home import Home
from penstock.spec.knowledge import ChosenScope

with late_imports():
    from penstock.knowledge.quality import service as quality_service
    from penstock.knowledge.retrieval import filters
    from penstock.main import dataset_rooms, job_wait, knowledge_rooms, retrieval_quality
    from penstock.store.spans import duckdb as duckdb_store
    from penstock.store.spans import trace_lists
    from penstock.traces import lists as trace_lists_service

Tell = Callable[[float | None, str], None]
Report = UnansweredReport | StaleReport | UnusedReport
_LONG_S = 600.0
_ACTOR = "command line"
_REPORTS: Mapping[str, type[Report]] = {
    "unanswered": UnansweredReport,
    "stale": StaleReport,
    "unused": UnusedReport,
}


class RetrievalAccess(Protocol):
    """What commands ask."""

    def measure(self, base: str, request: MeasureRequest, tell: Tell) -> Measurement:
        """Measure, telling how far it is."""

    def compare(self, base: str, request: CompareRequest, tell: Tell) -> GenerationComparison:
        """Compare, telling how far it is."""

    def explain(self, base: str, asked: Mapping[str, Any]) -> Explanation:
        """Explain a question; `asked` as the body of the REST route."""

    def report(self, base: str, kind: str, options: Mapping[str, Any]) -> Report:
        """Return a report: `unanswered`, `stale`, `unused`."""

    def make_questions(self, base: str, asked: Mapping[str, Any]) -> MadeQuestions:
        """Make a set of questions; `asked` as the body of the REST route."""


class RetrievalLists(Protocol):
    """What commands list."""

    def list_measurements(self, base: str, options: Mapping[str, Any]) -> MeasurementPage:
        """Return measurements, newest first."""

    def list_comparisons(self, base: str, limit: int) -> ComparisonPage:
        """Return comparisons, newest first."""

    def list_sets(self) -> list[QuestionSet]:
        """Return sets of labelled questions."""

    def read_questions(self, ref: str, where: str | None, limit: int) -> list[LabelledQuestion]:
        """Return questions of a set."""


class BothAccess(RetrievalAccess, RetrievalLists, Protocol):
    """Both."""


@contextmanager
def open_retrieval(home: Home) -> Iterator[BothAccess]:
    """Yield access to a home, running or not."""
    rooms = knowledge_rooms.KnowledgeRooms(home)
    if running_instance(home) is not None:
        try:
            yield _Remote(ControlClient(home), rooms)
        finally:
            rooms.close()
        return
    spans = duckdb_store.DuckDBSpanStore(home.span_db, read_only=True) if home.span_db.exists() else None
    try:
        quality = retrieval_quality.create_retrieval_quality(
            retrieval_quality.RetrievalParts(
                engine=rooms.engine,
                knowledge=rooms.knowledge,
                datasets=dataset_rooms.create_datasets(home, rooms.registry, rooms.blobs),
                spans=spans,
                trace_lists=None
                if spans is None
                else trace_lists_service.TraceListService(trace_lists.DuckDBTraceLists(spans.file)),
            )
        )
        yield _Local(quality)
    finally:
        rooms.close()
        if spans is not None:
            spans.close()


class _Local:
    """On the home itself."""

    def __init__(self, quality: quality_service.RetrievalQuality) -> None:
        self._quality = quality

    def measure(self, base: str, request: MeasureRequest, tell: Tell) -> Measurement:
        return self._quality.measuring.measure(base, request, InlineContext(tell), actor=_ACTOR)

    def compare(self, base: str, request: CompareRequest, tell: Tell) -> GenerationComparison:
        return self._quality.comparing.compare(base, request, InlineContext(tell), actor=_ACTOR)

    def explain(self, base: str, asked: Mapping[str, Any]) -> Explanation:
        told = asked.get("filter")
        scope = ChosenScope(
            conditions=[] if told is None else [filters.read_filter(told)], principals=asked.get("principals")
        )
        return self._quality.explainer.explain(
            base,
            asked["question"],
            expect=asked.get("expect", ()),
            named=asked.get("track"),
            k=asked.get("k", 5),
            scope=scope,
        )

    def report(self, base: str, kind: str, options: Mapping[str, Any]) -> Report:
        made: Report = getattr(self._quality.reports, kind)(base, **options)
        return made

    def make_questions(self, base: str, asked: Mapping[str, Any]) -> MadeQuestions:
        options = {name: value for name, value in asked.items() if name not in {"kind", "name", "dry_run"}}
        make = self._quality.questions.from_feedback
        if asked["kind"] == "traces":
            return self._quality.questions.from_traces(
                base, asked["name"], actor=_ACTOR, is_dry=asked["dry_run"], **options
            )
        return make(base, asked["name"], actor=_ACTOR, is_dry=asked["dry_run"], **options)

    def list_measurements(self, base: str, options: Mapping[str, Any]) -> MeasurementPage:
        return self._quality.measuring.list_measurements(base, **options)

    def list_comparisons(self, base: str, limit: int) -> ComparisonPage:
        return self._quality.comparing.list_comparisons(base, limit=limit)

    def list_sets(self) -> list[QuestionSet]:
        return list(self._quality.questions.list_sets())

    def read_questions(self, ref: str, where: str | None, limit: int) -> list[LabelledQuestion]:
        return self._quality.questions.read(ref, where=where, limit=limit)


class _Remote:
    """Through the running control process."""

    def __init__(self, client: ControlClient, rooms: knowledge_rooms.KnowledgeRooms) -> None:
        self._client = client
        self._rooms = rooms

    def measure(self, base: str, request: MeasureRequest, tell: Tell) -> Measurement:
        made = self._do(f"{_path(base)}/measurements", request, tell)["measurement"]
        return msgspec.convert(self._client.get(f"{_path(base)}/measurements/{made}"), Measurement)

    def compare(self, base: str, request: CompareRequest, tell: Tell) -> GenerationComparison:
        made = self._do(f"{_path(base)}/comparisons", request, tell)["comparison"]
        return msgspec.convert(self._client.get(f"{_path(base)}/comparisons/{made}"), GenerationComparison)

    def _do(self, path: str, request: MeasureRequest | CompareRequest, tell: Tell) -> dict[str, Any]:
        job = self._client.post(path, msgspec.to_builtins(request))["job"]
        return job_wait.wait_for_job(self._rooms.jobs, job, tell).result or {}

    def explain(self, base: str, asked: Mapping[str, Any]) -> Explanation:
        answer = self._client.post(f"{_path(base)}/explain", dict(asked), timeout_s=_LONG_S)
        return msgspec.convert(answer, Explanation)

    def report(self, base: str, kind: str, options: Mapping[str, Any]) -> Report:
        answer = self._client.get(f"{_path(base)}/reports/{kind}", **options)
        made: Report = msgspec.convert(answer, _REPORTS[kind])
        return made

    def make_questions(self, base: str, asked: Mapping[str, Any]) -> MadeQuestions:
        answer = self._client.post(f"{_path(base)}/questions", dict(asked), timeout_s=_LONG_S)
        return msgspec.convert(answer, MadeQuestions)

    def list_measurements(self, base: str, options: Mapping[str, Any]) -> MeasurementPage:
        answer = self._client.get(f"{_path(base)}/measurements", **options)
        return msgspec.convert(answer, MeasurementPage)

    def list_comparisons(self, base: str, limit: int) -> ComparisonPage:
        return msgspec.convert(self._client.get(f"{_path(base)}/comparisons", limit=limit), ComparisonPage)

    def list_sets(self) -> list[QuestionSet]:
        answer = self._client.get("/api/v1/knowledge-questions")
        return msgspec.convert(answer["sets"], list[QuestionSet])

    def read_questions(self, ref: str, where: str | None, limit: int) -> list[LabelledQuestion]:
        answer = self._client.get("/api/v1/knowledge-questions/rows", ref=ref, where=where, limit=limit)
        return msgspec.convert(answer["questions"], list[LabelledQuestion])


def _path(base: str) -> str:
    return f"/api/v1/knowledge/{quote(base)}"
