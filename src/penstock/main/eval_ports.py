"""What evaluations need of other rooms: versions pinned, traces of calls, prices, judgements on traces, background jobs."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from penstock.base.clock import now_ns
from penstock.base.digest import digest_json, short_digest
from penstock.base.errors import NotFound
from penstock.evals.ports import PinnedTarget, TraceFact
from penstock.main.job_kinds import EVAL_RUN, EXPERIMENT_RUN
from penstock.main.queued_jobs import QueuedJobs
from penstock.providers.prices import PriceBook
from penstock.registry.service import Registry
from penstock.registry.types import Version
from penstock.spec.assets import ASSET_KINDS, parse_asset_ref
from penstock.spec.cases import Passage
from penstock.spec.evaluations import ScorerSpec, TargetSpec
from penstock.spec.rendering import RENDERER_ASSET, RENDERER_ATTRIBUTE
from penstock.spec.routes import Provider, Route
from penstock.spec.scores import SpanScore
from penstock.spec.snapshot import Snapshot
from penstock.spec.usage import Usage
from penstock.store.spans.port import TraceReader
from penstock.traces.scores import MAX_SCORES, ScoreService

_PINNED_KINDS = frozenset({"prompt", "model", "app"})
ReadSnapshot = Callable[[], Snapshot | None]


class RegistryPins:
    """`evals.ports.TargetPins` over registry and snapshot."""

    def __init__(self, registry: Registry, read_snapshot: ReadSnapshot) -> None:
        self._registry = registry
        self._read_snapshot = read_snapshot

    def pin(self, target: TargetSpec) -> PinnedTarget:
        """Return the target with numbers for aliases; see the port."""
        versions: dict[str, str] = {}
        takes: frozenset[str] | None = None
        model, prompt = target.model, target.prompt
        if model is not None and model.partition(":")[0] in _PINNED_KINDS:
            version = self._registry.resolve(model)
            model = f"{version.kind}:{version.name}@{version.number}"
            versions[version.asset] = version.stamp
            takes = _variables_of(version)
        if prompt is not None:
            named = prompt if prompt.partition(":")[0] in ASSET_KINDS else f"prompt:{prompt}"
            version = self._registry.resolve(parse_asset_ref(named))
            prompt = f"prompt:{version.name}@{version.number}"
            versions[version.asset] = version.stamp
            takes = _variables_of(version)
        asked_route = self._route_of(model)
        if asked_route is not None:
            versions.update(asked_route.versions)
        pinned = msgspec.structs.replace(target, model=model, prompt=prompt, name=target.name)
        told = {
            "target": {"model": model, "prompt": prompt, "parameters": target.parameters},
            "versions": versions,
            "route": None if asked_route is None else _served_by(asked_route),
        }
        return PinnedTarget(
            spec=pinned, versions=versions, stamp=digest_json(told)[:23], takes_variables=takes
        )

    def _route_of(self, model: str | None) -> Route | None:
        """Return the route that is asked in the end: a prompt's own, or the one that is named."""
        snapshot = self._read_snapshot()
        if snapshot is None or model is None:
            return None
        name = model
        if model.startswith("prompt:"):
            with suppress(NotFound):
                held = self._registry.resolve(model).content.get("model")
                name = str(held) if held else model
        return next((route for route in snapshot.routes if route.name == name), None)


def _variables_of(version: Version) -> frozenset[str] | None:
    """Names of the variables that a prompt takes; None where the version is no prompt."""
    if version.kind != "prompt":
        return None
    declared = version.content.get("variables")
    return frozenset(declared) if isinstance(declared, Mapping) else frozenset()


def _served_by(route: Route) -> dict[str, Any]:
    targets = [msgspec.to_builtins(target) for target in route.targets]
    return {
        "name": route.name,
        "targets": targets,
        "version": route.version,
        "versions": dict(route.versions),
    }


LATE_NS = 4_000_000_000
"""How long after a call of an app its model calls are waited for; an app may have called none."""


class StoredTraceFacts:
    """`evals.ports.TraceFacts` over the span store."""

    def __init__(self, spans: TraceReader, *, clock: Callable[[], int] = now_ns) -> None:
        self._spans = spans
        self._clock = clock

    def find(self, trace_ids: Sequence[str]) -> Mapping[str, TraceFact]:
        """Return the facts of traces that are there with their root; see the port."""
        found = {}
        for trace_id in trace_ids:
            spans = self._spans.get_trace(trace_id)
            if not is_whole(spans, now=self._clock()):
                continue
            # read after the spans, so that its sums are of no fewer
            summary = self._spans.get_summary(trace_id)
            if summary is None or summary.duration_ms is None:
                continue
            versions: dict[str, str] = {}
            for span in spans:
                versions.update(span.versions)
                versions.update(rendered_by(span.model, span.attributes))
            passages: list[Passage] = []
            for span in spans:
                if span.kind == "retrieval" and not passages:
                    passages = passages_of(self._spans.get_payload(trace_id, span.span_id).output)
            is_priced = summary.n_unpriced == 0
            found[trace_id] = TraceFact(
                trace_id=trace_id,
                cost_usd=summary.cost_usd if is_priced else None,
                versions=versions,
                passages=passages,
                ttft_ms=summary.ttft_ms,
            )
        return found


def rendered_by(model: str | None, attributes: Mapping[str, Any]) -> dict[str, str]:
    """Return the renderer that made the prompt of a call, where an engine of ours said so."""
    digest = attributes.get(RENDERER_ATTRIBUTE)
    if not isinstance(digest, str) or not digest:
        return {}
    return {f"{RENDERER_ASSET}{model or 'unknown'}": f"{short_digest(digest)}@{digest}"}


class KnownSpan(Protocol):
    """The part of a span that tells whether its trace is whole; `spec.spans.Span` is one."""

    @property
    def span_id(self) -> str: ...
    @property
    def parent_id(self) -> str | None: ...
    @property
    def kind(self) -> str: ...
    @property
    def provider(self) -> str | None: ...
    @property
    def end_ns(self) -> int | None: ...


def is_whole(spans: Sequence[KnownSpan], *, now: int) -> bool:
    """Whether a call's trace tells all that it will: the call's own span is there, and if an app or prompt answered a
    moment ago, its model call with the steps between the two.

    Judgements of the answer hang in the trace beside the call, and may come before it.
    """
    calls = [span for span in spans if span.kind != "evaluation"]
    root = next((span for span in calls if span.parent_id is None), None)
    if root is None:
        return False  # children come first
    if root.provider != "apps" or (root.end_ns is not None and now - root.end_ns >= LATE_NS):
        return True
    ids = {span.span_id for span in calls}
    below = [span.parent_id for span in calls if span.kind == "llm" and span.parent_id is not None]
    return bool(below) and all(span.parent_id in ids for span in calls if span.parent_id is not None)


def passages_of(output: object) -> list[Passage]:
    """Return the passages that a retrieval span says it found, in rank order."""
    listed = output.get("documents", output.get("hits")) if isinstance(output, dict) else output
    passages = []
    for each in listed if isinstance(listed, list) else ():
        text = each.get("text", each.get("content")) if isinstance(each, dict) else None
        if isinstance(text, str):
            passage_id, document, score = (each.get(name) for name in ("passage_id", "document", "score"))
            passages.append(
                Passage(
                    text=text,
                    id=str(passage_id or each.get("id")) if passage_id or each.get("id") else None,
                    document=str(document) if document is not None else None,
                    score=float(score) if isinstance(score, int | float) else None,
                )
            )
    return passages


class TraceScores:
    """`evals.ports.SpanScores` over the record's own way for judgements."""

    def __init__(self, scores: ScoreService) -> None:
        self._scores = scores

    def add(self, scores: Sequence[SpanScore]) -> None:
        """Store them in the portions that are taken at once."""
        for start in range(0, len(scores), MAX_SCORES):
            self._scores.add(scores[start : start + MAX_SCORES])


class RoutePrices:
    """`evals.ports.Prices` over the snapshot's routes: the dearest target of the first tier."""

    def __init__(self, read_snapshot: ReadSnapshot, registry: Registry) -> None:
        self._read_snapshot = read_snapshot
        self._registry = registry
        self._book = PriceBook()

    def estimate_usd(self, model: str, *, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Return what so many tokens would cost now, or None; may wait for the price table."""
        snapshot = self._read_snapshot()
        if snapshot is None:
            return None
        self._book.set_own_prices(snapshot.prices)
        name = model
        if model.startswith("prompt:"):
            with suppress(NotFound):
                name = str(self._registry.resolve(model).content.get("model") or model)
        providers = {provider.name: provider for provider in snapshot.providers}
        route = next((route for route in snapshot.routes if route.name == name), None)
        if route is None:
            return None
        usage = Usage(input_uncached=input_tokens, output_text=output_tokens)
        first = min((target.tier for target in route.targets), default=0)
        costs = [
            self._price(providers[target.provider], target.model, usage)
            for target in route.targets
            if target.tier == first and target.provider in providers
        ]
        return None if not costs or None in costs else max(cost for cost in costs if cost is not None)

    def _price(self, provider: Provider, model: str, usage: Usage) -> Decimal | None:
        price_id = "local" if provider.local else provider.price_id
        return self._book.price(price_id, model, usage, now_ns(), provider=provider.name).usd


class QueuedRuns(QueuedJobs):
    """`evals.ports.EvaluationJobs` and the experiments' over the lease table."""

    def submit(self, evaluation_id: str, *, run: int, score_only: bool = False) -> str:
        """Queue a run of one evaluation."""
        spec: dict[str, Any] = {"evaluation": evaluation_id, "run": run}
        if score_only:
            spec["score_only"] = True
        return self._jobs.submit(EVAL_RUN, spec, dedupe_key=f"{EVAL_RUN}:{evaluation_id}:{run}").id

    def submit_experiment(self, experiment_id: str, *, run: int) -> str:
        """Queue a run of one experiment."""
        spec = {"experiment": experiment_id, "run": run}
        key = f"{EXPERIMENT_RUN}:{experiment_id}:{run}"
        return self._jobs.submit(EXPERIMENT_RUN, spec, dedupe_key=key).id


def read_registered_scorer(registry: Registry, reference: str) -> ScorerSpec:
    """Return the specification that `scorer:NAME@ALIAS` holds."""
    version = registry.resolve(reference)
    return msgspec.convert(dict(version.content), ScorerSpec)
