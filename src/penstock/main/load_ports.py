"""What load tests need of other rooms: routes and prices, rows of datasets, lengths of recorded calls, background jobs."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from random import Random
from typing import Any

import msgspec

from penstock.base.clock import now_ns
from penstock.base.errors import NotFound, suggest
from penstock.datasets.cases import row_to_case
from penstock.datasets.service import DatasetService
from penstock.deploy.load.errors import NothingToAsk
from penstock.deploy.load.mixes import Material
from penstock.deploy.load.ports import TargetFacts
from penstock.deploy.load.sending import SESSION_PREFIX
from penstock.deploy.load.types import LoadSpec, MixClass
from penstock.main.eval_ports import ReadSnapshot, RoutePrices
from penstock.main.job_kinds import LOAD_TEST
from penstock.main.queued_jobs import QueuedJobs
from penstock.registry.service import Registry
from penstock.spec.callers import APPS
from penstock.spec.routes import Route
from penstock.spec.search import All, Compare, Negated
from penstock.traces.filters import build_span_query
from penstock.traces.lists import TraceListService

MAX_ROWS = 2000
"""Of a dataset that are asked, drawn by the test's seed."""
MAX_RECORDED = 2000
RECORDED_DAYS = 30
_DAY_NS = 86_400 * 10**9
_PRICED_TOKENS = 1_000_000


class SnapshotTargets:
    """`deploy.load.ports.Targets` over what gateways were told, the registry and the price table."""

    def __init__(self, read_snapshot: ReadSnapshot, registry: Registry, prices: RoutePrices) -> None:
        self._read_snapshot, self._registry, self._prices = read_snapshot, registry, prices

    def describe(self, name: str) -> TargetFacts:
        """Return what is known; see the port."""
        snapshot = self._read_snapshot()
        if snapshot is None:
            return TargetFacts(is_known=False, is_hosted=False)
        routes = {route.name: route for route in snapshot.routes}
        route = routes.get(name) or routes.get(name.rpartition("@")[0])
        if route is None:
            return TargetFacts(is_known=False, is_hosted=False)
        asked = {each.name: each for each in self._asked(name, route, routes)}
        local = {provider.name for provider in snapshot.providers if provider.local} | {APPS}
        used = {target.provider for each in asked.values() for target in each.targets}
        return TargetFacts(
            is_known=True,
            is_hosted=bool(used - local),
            providers=tuple(sorted(used - local)),
            prices=self._price(route, asked, is_free=not used - local),
            versions=dict(route.versions),
        )

    def suggest(self, name: str) -> str | None:
        """Return the nearest name that is served."""
        snapshot = self._read_snapshot()
        names = [] if snapshot is None else [route.name for route in snapshot.routes]
        return suggest(name, names)

    def _asked(self, name: str, route: Route, routes: Mapping[str, Route]) -> Iterator[Route]:
        """Yield the route, its fallbacks, and for an app or a prompt each route that its version names."""
        yield route
        yield from (routes[each.route] for each in route.fallbacks if each.route in routes)
        if not any(target.provider == APPS for target in route.targets):
            return
        for target in route.targets:
            with suppress(NotFound):
                version = self._registry.resolve(name if ":" in name else target.model)
                yield from (routes[text] for text in set(_texts(version.content)) if text in routes)

    def _price(
        self, route: Route, asked: Mapping[str, Route], *, is_free: bool
    ) -> tuple[float, float] | None:
        if is_free:
            return 0.0, 0.0
        if len(asked) > 1:
            return None  # who answers in the end is not known beforehand
        found = [
            self._prices.estimate_usd(route.name, input_tokens=n_input, output_tokens=n_output)
            for n_input, n_output in ((_PRICED_TOKENS, 0), (0, _PRICED_TOKENS))
        ]
        if found[0] is None or found[1] is None:
            return None
        return float(found[0]) / _PRICED_TOKENS, float(found[1]) / _PRICED_TOKENS


class StoredMaterials:
    """`deploy.load.ports.Materials` over datasets and the record."""

    def __init__(self, datasets: DatasetService, lists: TraceListService) -> None:
        self._datasets, self._lists = datasets, lists

    def read(self, spec: LoadSpec) -> Mapping[str, Material]:
        """Return what each class draws from; see the port."""
        found: dict[str, Material] = {}
        for one in spec.mix:
            if one.source.startswith("dataset:"):
                found[one.name] = Material(conversations=self._conversations(one, spec.seed))
            elif one.source == "traffic":
                found[one.name] = Material(lengths=self._lengths(spec.route))
        return found

    def _conversations(self, one: MixClass, seed: int) -> tuple[tuple[dict[str, Any], ...], ...]:
        version = self._datasets.get(one.source)
        form = version.facts.format
        rows = list(islice(self._datasets.read(version.ref), 20 * MAX_ROWS))
        if len(rows) > MAX_ROWS:
            rows = Random(seed).sample(rows, MAX_ROWS)
        found = []
        for row in rows:
            case = row_to_case(row, form)
            text = case.inputs.get("input")
            messages = case.messages or ([{"role": "user", "content": str(text)}] if text else [])
            if messages:
                found.append(tuple(dict(each) for each in messages))
        if not found:
            raise NothingToAsk(
                f"No row of {version.ref} is something to ask.",
                hint="A row needs messages, or a text as its input; prompts with variables are asked by evaluations.",
            )
        return tuple(found)

    def _lengths(self, route: str) -> tuple[tuple[int, int], ...]:
        own = Compare(field="session", operator="starts", value=SESSION_PREFIX)
        query = build_span_query(
            {"since_ns": now_ns() - RECORDED_DAYS * _DAY_NS, "limit": 500, "route": route, "kind": "llm"}
        )
        query = msgspec.structs.replace(query, where=All(parts=(query.where, Negated(condition=own))))
        found: list[tuple[int, int]] = []
        while len(found) < MAX_RECORDED:
            page = self._lists.list_spans(query)
            found += [
                (row.input_tokens, row.output_tokens)
                for row in page.rows
                if row.input_tokens and row.output_tokens
            ]
            if page.next_cursor is None:
                break
            query = msgspec.structs.replace(query, cursor=page.next_cursor)
        if not found:
            raise NothingToAsk(
                f"There are no recorded calls of {route!r} with token counts in the last {RECORDED_DAYS} days.",
                hint='State lengths instead: prompt_tokens and completion_tokens, source = "words".',
            )
        return tuple(found[:MAX_RECORDED])


class QueuedLoadTests(QueuedJobs):
    """`deploy.load.ports.LoadJobs` over the lease table."""

    def submit(self, test_id: str) -> str:
        """Queue the run of one test. It is not tried again: calls were sent, and may have cost something."""
        return self._jobs.submit(LOAD_TEST, {"test": test_id}, dedupe_key=f"{LOAD_TEST}:{test_id}").id


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
