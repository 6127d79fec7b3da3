"""A place to run evaluations in: real tables, real scorers, and a gateway that answers as a test says and counts."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from penstock.evals.catalogue import Catalogue
from penstock.evals.experiment_store import ExperimentStore
from penstock.evals.experiments import ExperimentService
from penstock.evals.ports import CaseSet, Ending, GatewayReply, PinnedTarget, TraceFact
from penstock.evals.running.control_run import ControlRuns, RunPorts
from penstock.evals.running.grid_run import GridRuns
from penstock.evals.running.runner import Progress
from penstock.evals.service import EvaluationService
from penstock.evals.store import EvaluationStore
from penstock.evals.types import EvaluationRecord
from penstock.spec.cases import Case
from penstock.spec.evaluations import EvaluationSpec, ScorerSpec, TargetSpec
from penstock.spec.home import Home
from penstock.spec.scores import SpanScore
from penstock.store.control.engine import control_url, open_control

Answer = Callable[[Mapping[str, Any], int], Any]
"""From the request, and how often it was asked before, to a text, a reply body, or a status."""


def reply_body(text: str | None, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "model": "m-1",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        **more,
    }


class FakeGateway:
    """Answers chats. Each call gets a trace id; costs are known by `Facts`."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()

    async def chat(
        self, body: Mapping[str, Any], *, headers: Mapping[str, str], timeout_s: float
    ) -> GatewayReply:
        del timeout_s
        question = (
            str(body["messages"][-1]["content"]) if body["messages"] else str(body.get("prompt_variables"))
        )
        with self._lock:
            n_before = self.asked[question]
            self.asked[question] += 1
            self.bodies.append(dict(body))
            self.headers.append(headers)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            number = len(self.bodies)
        try:
            await asyncio.sleep(0)
            told = self.answer(body, n_before)
        finally:
            with self._lock:
                self._at_once -= 1
        trace = {"x-penstock-trace-id": f"{number:032x}"}
        if isinstance(told, GatewayReply):
            return told
        if isinstance(told, int):
            error = {"error": {"code": f"E{told}", "message": f"status {told}"}}
            return GatewayReply(status=told, headers=trace, body=error)
        body = told if isinstance(told, dict) else reply_body(told)
        return GatewayReply(status=200, headers=trace, body=body, latency_ms=7.0)

    async def embed(
        self, model: str, texts: Sequence[str], *, headers: Mapping[str, str]
    ) -> list[list[float]]:
        del model, headers
        return [[float(len(text)), 1.0] for text in texts]

    async def close(self) -> None:
        """Nothing is held."""

    @property
    def n_calls(self) -> int:
        return len(self.bodies)


class Facts:
    """Knows the cost of every trace, at once."""

    def __init__(self, cost_usd: Decimal | None = Decimal("0.01")) -> None:
        self.cost_usd = cost_usd

    def find(self, trace_ids: Sequence[str]) -> Mapping[str, TraceFact]:
        return {each: TraceFact(trace_id=each, cost_usd=self.cost_usd) for each in trace_ids}


class Cases:
    """Gives the cases that a test put in."""

    def __init__(self) -> None:
        self.cases: list[Case] = []
        self.stamp = "1@sha256:aa"

    def read(self, ref_or_file: str, *, where: Mapping[str, Any], limit: int | None, seed: int) -> CaseSet:
        del where, seed
        return CaseSet(ref=f"{ref_or_file}@1", stamp=self.stamp, cases=iter(self.cases[:limit]))


class Pins:
    """Pins nothing; models are their own stamps."""

    def pin(self, target: TargetSpec) -> PinnedTarget:
        return PinnedTarget(spec=target, versions={}, stamp=f"stamp of {target.model} {target.parameters}")


class Jobs:
    """Notes what was queued."""

    def __init__(self) -> None:
        self.queued: list[tuple[str, bool]] = []
        self.cancelled: list[str] = []
        self.endings: dict[str, Ending] = {}

    def ending(self, job_id: str) -> Ending | None:
        return self.endings.get(job_id)

    def submit(self, evaluation_id: str, *, run: int, score_only: bool = False) -> str:
        del run
        self.queued.append((evaluation_id, score_only))
        return f"job_{len(self.queued)}"

    def submit_experiment(self, experiment_id: str, *, run: int) -> str:
        del run
        self.queued.append((experiment_id, False))
        return f"job_{len(self.queued)}"

    def cancel(self, job_id: str) -> None:
        self.cancelled.append(job_id)


class SpanNotes:
    """Keeps what is put onto traces."""

    def __init__(self) -> None:
        self.scores: list[SpanScore] = []

    def add(self, scores: Sequence[SpanScore]) -> None:
        self.scores += scores


async def no_sleep(_seconds: float) -> None:
    await asyncio.sleep(0)


class House:
    """Everything joined."""

    def __init__(self, home: Home, answer: Answer) -> None:
        self.engine = open_control(control_url(home))
        self.gateway = FakeGateway(answer)
        self.source, self.jobs, self.facts, self.notes = Cases(), Jobs(), Facts(), SpanNotes()
        self.extra_scorers: dict[str, Any] = {}
        catalogue = Catalogue()

        def create(spec: ScorerSpec) -> Any:
            made = self.extra_scorers.get(spec.scorer)
            return made(spec) if made is not None else catalogue.create(spec)

        self.ports = RunPorts(
            cases=self.source,
            pins=Pins(),
            open_gateway=lambda: self.gateway,
            create_scorer=create,
            facts=self.facts,
            span_scores=self.notes,
        )
        self.store = EvaluationStore(self.engine)
        self.service = EvaluationService(self.store, self.ports, self.jobs)
        self.runs = ControlRuns(store=self.store, ports=self.ports, sleep=no_sleep)
        self.experiments = ExperimentService(ExperimentStore(self.engine), self.service, self.jobs)
        self.grids = GridRuns(self.experiments.store, self.runs)

    def spec(self, **changes: Any) -> EvaluationSpec:
        fields: dict[str, Any] = {
            "name": "words",
            "target": TargetSpec(model="small"),
            "dataset": "dataset:words",
            "scorers": [ScorerSpec(scorer="exact")],
            "concurrency": 4,
        }
        return EvaluationSpec(**{**fields, **changes})

    def fill(self, n_cases: int, **changes: Any) -> None:
        """Put in cases whose answer is their question."""
        self.source.cases = [
            Case(id=f"c{number}", inputs={"input": f"w{number}"}, expected=f"w{number}", **changes)
            for number in range(n_cases)
        ]

    def start(self, **changes: Any) -> EvaluationRecord:
        return self.service.start(self.spec(**changes), actor="test")

    def run(self, evaluation_id: str, **more: Any) -> EvaluationRecord:
        def hear(_progress: Progress) -> None:
            """Nobody looks."""

        more = {"tell": hear, "should_stop": lambda: None, **more}
        return self.runs.run(evaluation_id, **more)

    def evaluate(self, **changes: Any) -> EvaluationRecord:
        return self.run(self.start(**changes).id)


def echo(body: Mapping[str, Any], _n_before: int) -> str:
    """Answer with the question."""
    return str(body["messages"][-1]["content"])


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(Home(root=tmp_path / "home"), echo)
    yield made
    made.engine.dispose()
