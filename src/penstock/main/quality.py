"""Joins the rooms of quality: datasets, prompts, scorers, evaluations, judges and gates over one home.

The rooms do not know each other; what one needs of another is passed in here.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import Engine

from penstock.datasets.cleaning.service import CleaningService
from penstock.datasets.proposals.service import ProposalService
from penstock.datasets.service import DatasetService
from penstock.evals.experiments import ExperimentService
from penstock.evals.gates.service import GateService
from penstock.evals.judges.service import JudgeService
from penstock.evals.service import EvaluationService
from penstock.jobs.service import JobService
from penstock.knowledge.quality.service import RetrievalQuality
from penstock.knowledge.service import KnowledgeService
from penstock.knowledge.types import EmbedderSource
from penstock.main.chat_calls import ChatCalls
from penstock.main.copies import hold_copies
from penstock.main.dataset_proposing import GatewayModels, create_cleaning
from penstock.main.dataset_rooms import create_datasets
from penstock.main.dataset_traffic import RecordedTraffic
from penstock.main.engine_tools import EngineTools
from penstock.main.eval_ports import RoutePrices
from penstock.main.evaluating import EvaluationParts, create_evaluating, evaluation_loops
from penstock.main.instance import find_addresses
from penstock.main.judging import JudgingParts, create_judging
from penstock.main.prompt_rooms import create_prompts, gateway_embed
from penstock.main.retrieval_quality import RetrievalParts, create_retrieval_quality, measuring_loops
from penstock.prompts.service import PromptService
from penstock.registry.service import Registry
from penstock.spec.home import Home
from penstock.spec.snapshot import Snapshot
from penstock.store.blobs import BlobStore
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.traces.ingest import IngestService
from penstock.traces.lists import TraceListService
from penstock.traces.scores import ScoreService


@dataclass(frozen=True, kw_only=True)
class QualityParts:
    """What the rooms of quality are made from."""

    home: Home
    engine: Engine
    """The control tables."""
    blobs: BlobStore
    registry: Registry
    jobs: JobService
    spans: DuckDBSpanStore
    trace_lists: TraceListService
    ingest: IngestService
    """Takes the spans that carry scores."""
    gateway_url: str
    """Such as `http://127.0.0.1:4600`."""
    internal_key: str
    read_snapshot: Callable[[], Snapshot | None] = lambda: None
    """What gateways were told last."""
    knowledge: KnowledgeService | None = None
    """Whose passages a model can be asked for questions about, and whose retrieval is measured."""
    embedders: EmbedderSource | None = None
    """Turn questions into vectors, to tell those that ask the same."""
    publish: Callable[[str, str], None] = lambda _actor, _note: None
    """Tells gateways what changed: actor and note."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """The services that control and console are given."""

    datasets: DatasetService
    cleaning: CleaningService
    proposals: ProposalService
    prompts: PromptService
    evaluations: EvaluationService
    experiments: ExperimentService
    gates: GateService
    judges: JudgeService
    retrieval: RetrievalQuality | None = None
    """None without knowledge bases."""
    loops: tuple[Callable[[threading.Event], None], ...] = field(default=())
    """What control runs in the background, one thread each."""


def create_quality(parts: QualityParts) -> Quality:
    """Return the services over one home."""
    datasets = create_datasets(
        parts.home, parts.registry, parts.blobs, RecordedTraffic(parts.spans, parts.trace_lists)
    )
    prices = RoutePrices(parts.read_snapshot, parts.registry)
    cleaning = create_cleaning(
        parts.engine,
        parts.registry,
        datasets,
        parts.jobs,
        GatewayModels(ChatCalls(lambda: parts.gateway_url, lambda: parts.internal_key), prices),
        knowledge=parts.knowledge,
    )
    engine_tools = EngineTools(lambda: find_addresses(parts.home).engine_url, parts.internal_key)
    evaluating = create_evaluating(
        EvaluationParts(
            engine=parts.engine,
            registry=parts.registry,
            jobs=parts.jobs,
            datasets=lambda: datasets,
            hold_folder=partial(hold_copies, parts.home),
            gateway_url=parts.gateway_url,
            internal_key=parts.internal_key,
            read_snapshot=parts.read_snapshot,
            spans=parts.spans,
            scores=ScoreService(parts.spans, parts.ingest.store),
            private_root=parts.home.root,
            correct_report=lambda record, report: judges.correct_report(record, report),  # noqa: PLW0108 - judges come after
            engine_tools=engine_tools,
        )
    )
    judges = create_judging(
        JudgingParts(
            engine=parts.engine,
            registry=parts.registry,
            spans=parts.spans,
            trace_lists=parts.trace_lists,
            evaluations=evaluating.evaluations,
            gateway_url=parts.gateway_url,
            internal_key=parts.internal_key,
            engine_tools=engine_tools,
        )
    )
    retrieval = None
    if parts.knowledge is not None:
        retrieval = create_retrieval_quality(
            RetrievalParts(
                engine=parts.engine,
                knowledge=parts.knowledge,
                datasets=datasets,
                embedders=parts.embedders,
                spans=parts.spans,
                trace_lists=parts.trace_lists,
                judges=judges,
                scores=ScoreService(parts.spans, parts.ingest.store),
            )
        )
    prompts = create_prompts(
        parts.home,
        parts.registry,
        parts.blobs,
        embed=gateway_embed(lambda: parts.gateway_url, parts.internal_key, parts.read_snapshot),
        read_snapshot=parts.read_snapshot,
        lists=parts.trace_lists,
        publish=parts.publish,
    )
    return Quality(
        datasets=datasets,
        cleaning=cleaning.cleaning,
        proposals=cleaning.proposals,
        prompts=prompts,
        evaluations=evaluating.evaluations,
        experiments=evaluating.experiments,
        judges=judges,
        gates=GateService(parts.engine, evaluating.evaluations, evaluating.evaluations.figures.figure),
        retrieval=retrieval,
        loops=(
            *evaluation_loops(parts.engine, evaluating.handlers),
            cleaning.loop,
            *(() if retrieval is None else measuring_loops(parts.engine, retrieval)),
        ),
    )
