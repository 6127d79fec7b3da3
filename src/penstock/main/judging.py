"""Joins judges with the rooms that they rest on: the gateway to ask, the registry to keep them, evaluations and traffic to label."""

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import Engine

from penstock.base.errors import InvalidInput, NotFound
from penstock.evals.catalogue import Catalogue
from penstock.evals.judges.labels import LabelService
from penstock.evals.judges.service import JudgeService
from penstock.evals.running.asking import Asker
from penstock.evals.running.budget import Budget
from penstock.evals.running.following import TraceFollower
from penstock.evals.running.pace import Pace
from penstock.evals.scorers.types import ScorerTools
from penstock.evals.service import EvaluationService
from penstock.main.dataset_traffic import RecordedTraffic
from penstock.main.engine_tools import EngineTools
from penstock.main.eval_gateway import HttpGateway
from penstock.main.eval_ports import StoredTraceFacts, read_registered_scorer
from penstock.registry.service import Registry
from penstock.spec.assets import parse_asset_ref
from penstock.spec.cases import Case, Output
from penstock.spec.evaluations import EvaluationBudget, ScorerSpec
from penstock.spec.scores import SpanScore
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.types import ScoreQuery
from penstock.traces.lists import TraceListService

CALL_TIMEOUT_S = 120.0
CALLS_AT_ONCE = 8
MAX_FEEDBACK = 10_000


@dataclass(frozen=True, kw_only=True)
class JudgingParts:
    """What judges are made from."""

    engine: Engine
    registry: Registry
    spans: DuckDBSpanStore
    trace_lists: TraceListService
    evaluations: EvaluationService
    gateway_url: str
    internal_key: str
    engine_tools: EngineTools | None = None


def create_judging(parts: JudgingParts) -> JudgeService:
    """Return the service over one home."""
    traffic = LabelTraffic(RecordedTraffic(parts.spans, parts.trace_lists), parts.spans)
    catalogue = Catalogue(read_registered=partial(read_registered_scorer, parts.registry))
    facts = StoredTraceFacts(parts.spans)

    def open_tools() -> Any:
        return open_judge_tools(parts.gateway_url, parts.internal_key, facts, parts.engine_tools)

    return JudgeService(
        parts.engine,
        LabelService(parts.engine, evaluations=parts.evaluations, traffic=traffic),
        open_tools=open_tools,
        evaluations=parts.evaluations,
        read_scored=parts.evaluations.scored_cases,
        versions=RegistryJudges(parts.registry),
        create_scorer=catalogue.create,
    )


@asynccontextmanager
async def open_judge_tools(
    gateway_url: str, key: str, facts: StoredTraceFacts, engine_tools: EngineTools | None
) -> AsyncIterator[ScorerTools]:
    """Yield what judges ask with, outside of any evaluation: the gateway at a bounded pace."""
    gateway = HttpGateway(gateway_url, key)
    follower = TraceFollower(facts, clock=time.monotonic)
    asker = Asker(
        gateway=gateway,
        pace=Pace(CALLS_AT_ONCE, clock=time.monotonic),
        budget=Budget(EvaluationBudget(), clock=time.monotonic),
        follower=follower,
        session="judges",
        timeout_s=CALL_TIMEOUT_S,
        clock=time.monotonic,
    )
    try:
        yield ScorerTools(
            ask=asker.ask,
            embed=asker.embed,
            embed_tokens=None if engine_tools is None else engine_tools.embed_tokens,
            likelihood=None if engine_tools is None else engine_tools.likelihood,
        )
    finally:
        await follower.close()
        await gateway.close()


class RegistryJudges:
    """`evals.judges.ports.JudgeVersions` over the registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def register(self, name: str, spec: ScorerSpec, *, actor: str) -> str:
        """Keep the specification as the newest version of `scorer:NAME`."""
        name = name.removeprefix("scorer:")
        version = self._registry.register("scorer", name, msgspec.to_builtins(spec), note=f"by {actor}")
        return version.label

    def resolve(self, ref: str) -> ScorerSpec:
        """Return what a version holds; the newest where no alias or number is named."""
        asset = parse_asset_ref(ref)
        if asset.kind != "scorer":
            raise InvalidInput(f"{ref!r} is no scorer.", hint="Write scorer:NAME or scorer:NAME@3.")
        return read_registered_scorer(self._registry, ref)

    def list(self) -> Iterable[tuple[str, ScorerSpec]]:
        """Return the newest version of each scorer."""
        found = []
        for asset in self._registry.list_assets("scorer"):
            ref = f"scorer:{asset.name}@{asset.latest}"
            try:
                found.append((ref, read_registered_scorer(self._registry, ref)))
            except msgspec.ValidationError:  # somebody registered something else under this kind
                continue
        return found


class LabelTraffic:
    """`evals.judges.ports.Traffic` over the span store."""

    def __init__(self, calls: RecordedTraffic, spans: DuckDBSpanStore) -> None:
        self._calls, self._spans = calls, spans

    def read(self, trace_id: str) -> tuple[Case, Output] | None:
        """Return the trace's root call as a case and its output."""
        try:
            row = self._calls.get_call(trace_id, None)
        except NotFound:
            return None
        if row.dropped or row.reply is None or not (row.messages or row.inputs):
            return None
        case = Case(id=row.trace_id, inputs=row.inputs, messages=row.messages, group=row.group)
        text = row.reply if isinstance(row.reply, str) else None
        model = row.facts.get("model")
        output = Output(
            case_id=case.id,
            text=text,
            data=None if text is not None else row.reply,
            trace_id=row.trace_id,
            model=model if isinstance(model, str) else None,
        )
        return case, output

    def feedback(self, name: str) -> Iterable[SpanScore]:
        """Return what people said of traces under this name."""
        return [
            SpanScore(
                name=row.name,
                value=row.value,
                label=row.label,
                source="human",
                scorer=row.scorer,
                identifier=row.identifier,
                comment=row.comment,
                time_ns=row.time_ns,
                trace_id=row.trace_id,
            )
            for row in self._spans.list_scores(ScoreQuery(name=name, limit=MAX_FEEDBACK))
            if row.source == "human" and row.status == "scored"
        ]
