"""What a run in the caller's process has of control: cases and a place for what it makes, and the traces of its calls, over REST."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from penstock.base.clock import now_ns
from penstock.base.errors import CallerError
from penstock.evals.ports import TraceFact
from penstock.evals.rows import StoredOutput
from penstock.evals.running.journal import ScoreRow
from penstock.evals.store import CaseWork
from penstock.main.control_client import ControlClient
from penstock.main.eval_ports import is_whole, passages_of, rendered_by
from penstock.spec.cases import Case, Output, Passage
from penstock.spec.scores import SpanScore

ROOT = "/api/v1/evaluations"
_BATCH = 500
_NOT_FOUND = 404


class RestJournal:
    """A run's journal in control, over REST. Its calls block, so they are made from threads."""

    def __init__(self, client: ControlClient, evaluation_id: str) -> None:
        self._client = client
        self._path = f"{ROOT}/local/{evaluation_id}"

    async def work(self, after: int) -> list[CaseWork]:
        """Return the next cases; see `Journal`."""
        told = await asyncio.to_thread(self._client.get, f"{self._path}/work", after=after, limit=200)
        works = []
        for each in told["work"]:
            outputs = [msgspec.convert(output, Output, strict=False) for output in each["outputs"]]
            works.append(
                CaseWork(
                    position=each["position"],
                    case=msgspec.convert(each["case"], Case, strict=False),
                    outputs={output.repeat: output for output in outputs},
                    scored={(int(repeat), str(name)) for repeat, name in each["scored"]},
                )
            )
        return works

    async def kept(self, keys: Sequence[str]) -> dict[str, Output]:
        """User code is asked anew each time."""
        del keys
        return {}

    async def write(self, outputs: Sequence[StoredOutput], scores: Sequence[ScoreRow]) -> None:
        """Send what was made; see `Journal`."""
        for start in range(0, max(len(outputs), len(scores)), _BATCH):
            body = {
                "outputs": [
                    {"output": msgspec.to_builtins(each.output), "request_key": each.request_key}
                    for each in outputs[start : start + _BATCH]
                ],
                "scores": [
                    {"case_id": case_id, "repeat": repeat, "score": msgspec.to_builtins(score)}
                    for case_id, repeat, score in scores[start : start + _BATCH]
                ],
            }
            await asyncio.to_thread(self._client.post, f"{self._path}/record", body)

    async def tell_traces(self, scores: Sequence[SpanScore]) -> None:
        """Control puts what is recorded onto traces itself."""
        del scores


class _SeenSpan(msgspec.Struct, frozen=True, kw_only=True):
    """What a trace's page says of a span, as far as it matters here."""

    span_id: str
    parent_id: str | None = None
    kind: str = ""
    provider: str | None = None
    end_ns: int | None = None
    model: str | None = None
    attributes: dict[str, Any] = {}


class RestTraceFacts:
    """`evals.ports.TraceFacts` over REST."""

    def __init__(self, client: ControlClient, *, clock: Callable[[], int] = now_ns) -> None:
        self._client = client
        self._clock = clock

    def find(self, trace_ids: Sequence[str]) -> Mapping[str, TraceFact]:
        """Return the facts of traces that are there; see the port."""
        found = {}
        for trace_id in trace_ids:
            try:
                view = self._client.get(f"/api/v1/traces/{trace_id}")
            except CallerError as error:
                if error.status == _NOT_FOUND:
                    continue
                raise
            summary = view["summary"]
            spans = [msgspec.convert(row["span"], _SeenSpan) for row in view["waterfall"]["rows"]]
            if summary.get("duration_ms") is None or not is_whole(spans, now=self._clock()):
                continue
            retrieval = next((span for span in spans if span.kind == "retrieval"), None)
            passages: list[Passage] = []
            if retrieval is not None:
                path = f"/api/v1/traces/{trace_id}/spans/{retrieval.span_id}/payload"
                passages = passages_of(self._client.get(path).get("output"))
            versions: dict[str, str] = dict(view.get("versions", {}))
            for span in spans:
                versions.update(rendered_by(span.model, span.attributes))
            cost = summary.get("cost_usd")
            is_priced = cost is not None and not summary.get("n_unpriced")
            found[trace_id] = TraceFact(
                trace_id=trace_id,
                cost_usd=Decimal(str(cost)) if is_priced else None,
                versions=versions,
                passages=passages,
                ttft_ms=summary.get("ttft_ms"),
            )
        return found


def read_all_cases(client: ControlClient, evaluation_id: str) -> Any:
    """Yield the cases of an evaluation, in portions."""
    after = -1
    while True:
        works = client.get(f"{ROOT}/local/{evaluation_id}/work", after=after, limit=500)["work"]
        for each in works:
            yield msgspec.convert(each["case"], Case, strict=False)
        if not works:
            return
        after = works[-1]["position"]
