"""Joins the quality of retrieval with the rooms it rests on: evaluations, datasets, the record of traffic, judges, jobs."""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Engine

from penstock.base.errors import InvalidInput
from penstock.datasets.service import DatasetService
from penstock.evals.judges.service import JudgeService
from penstock.jobs.context import JobContext
from penstock.jobs.worker import Handler, Worker
from penstock.knowledge.quality.building import QuestionBuilder
from penstock.knowledge.quality.comparing import ComparingService
from penstock.knowledge.quality.explaining import Explainer
from penstock.knowledge.quality.feedback import FeedbackService
from penstock.knowledge.quality.finding import GenerationFinder
from penstock.knowledge.quality.measuring import MeasuringService
from penstock.knowledge.quality.reporting import ReportService
from penstock.knowledge.quality.service import RetrievalQuality
from penstock.knowledge.quality.types import CompareRequest, MeasureRequest
from penstock.knowledge.quality.watching import TriadService
from penstock.knowledge.service import KnowledgeService
from penstock.knowledge.types import EmbedderSource
from penstock.main.job_kinds import KNOWLEDGE_COMPARE, KNOWLEDGE_MEASURE
from penstock.main.retrieval_questions import DatasetQuestions
from penstock.main.retrieval_scoring import EvaluationScoring
from penstock.main.retrieval_traffic import EmbeddedQuestions, JudgedAnswers, RecordedRetrievals
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.traces.lists import TraceListService
from penstock.traces.scores import ScoreService

Request = TypeVar("Request", MeasureRequest, CompareRequest)


@dataclass(frozen=True, kw_only=True)
class RetrievalParts:
    """What the quality of retrieval is made from."""

    engine: Engine
    knowledge: KnowledgeService
    datasets: DatasetService
    embedders: EmbedderSource | None = None
    """Turn questions into vectors, so that those that ask the same are put together; None: by words alone."""
    spans: DuckDBSpanStore | None = None
    """The record of traffic; None where it cannot be read."""
    trace_lists: TraceListService | None = None
    judges: JudgeService | None = None
    scores: ScoreService | None = None
    """Where scores of judged answers go. With judges and the record of traffic, answers can be judged as they come."""


def create_retrieval_quality(parts: RetrievalParts) -> RetrievalQuality:
    """Return the services over one home."""
    scoring = EvaluationScoring()
    questions = DatasetQuestions(parts.datasets)
    feedback = FeedbackService(parts.engine)
    recorded = None
    watches = None
    if parts.spans is not None and parts.trace_lists is not None:
        recorded = RecordedRetrievals(parts.spans, parts.trace_lists)
        if parts.judges is not None and parts.scores is not None:
            answers = JudgedAnswers(parts.spans, parts.trace_lists, parts.judges, parts.scores)
            watches = TriadService(parts.engine, answers)
    vectors = None
    if parts.embedders is not None:
        finder = GenerationFinder(parts.engine, parts.knowledge)

        def read_recipe_of(base: str) -> tuple[Mapping[str, Any], str]:
            found = finder.find(base)
            return found.recipe, found.embedder

        vectors = EmbeddedQuestions(parts.embedders, read_recipe_of)
    return RetrievalQuality(
        measuring=MeasuringService(parts.engine, parts.knowledge, scoring, questions),
        comparing=ComparingService(
            parts.engine, parts.knowledge, scoring, judging=scoring, questions=questions, recorded=recorded
        ),
        explainer=Explainer(parts.engine, parts.knowledge),
        questions=QuestionBuilder(parts.engine, questions, feedback, recorded),
        feedback=feedback,
        reports=ReportService(parts.engine, parts.knowledge, recorded, vectors),
        watches=watches,
    )


def measuring_handlers(quality: RetrievalQuality) -> Mapping[str, Handler]:
    """Return the handlers of jobs that measure and compare."""

    def measure(ctx: JobContext, spec: dict[str, Any]) -> dict[str, Any]:
        base, actor, request = _read(spec, MeasureRequest)
        made = quality.measuring.measure(base, request, ctx, actor=actor)
        return {"measurement": made.id, "base": base, "generation": made.generation}

    def compare(ctx: JobContext, spec: dict[str, Any]) -> dict[str, Any]:
        base, actor, request = _read(spec, CompareRequest)
        made = quality.comparing.compare(base, request, ctx, actor=actor)
        return {"comparison": made.id, "base": base, "verdict": made.verdict, "reason": made.reason}

    return {KNOWLEDGE_MEASURE: measure, KNOWLEDGE_COMPARE: compare}


def measuring_loops(engine: Engine, quality: RetrievalQuality) -> Sequence[Callable[[threading.Event], None]]:
    """Return what control runs beside everything else: a worker of its own, so that a long measurement holds no other job
    up, and the watch over answers."""
    worker = Worker(engine, measuring_handlers(quality), f"measuring-{os.getpid()}")
    return (worker.run, *(() if quality.watches is None else (quality.watches.run,)))


def make_spec(base: str, request: MeasureRequest | CompareRequest, actor: str) -> dict[str, Any]:
    """Return the spec of a job that does what is asked for."""
    return {"base": base, "actor": actor, "request": msgspec.to_builtins(request)}


def _read(spec: Mapping[str, Any], kind: type[Request]) -> tuple[str, str, Request]:
    try:
        return str(spec["base"]), str(spec.get("actor", "")), msgspec.convert(spec["request"], kind)
    except (KeyError, msgspec.ValidationError) as error:
        raise InvalidInput(f"The job's spec cannot be read: {error}.") from error
