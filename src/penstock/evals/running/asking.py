"""One call to the gateway, tried again as long as that makes sense: pace, budget, deadlines and retries in one place.

Targets and judges ask through the same `Asker`, so a provider that is slowed down by one is not overrun by the other.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from penstock.base.errors import PenstockError, UpstreamError, UpstreamTimeout
from penstock.base.retry import backoff_delays
from penstock.evals.ports import Gateway, GatewayReply, TraceFact
from penstock.evals.running.budget import Budget, Hold
from penstock.evals.running.following import TraceFollower
from penstock.evals.running.pace import Pace
from penstock.evals.running.replies import (
    OK,
    OVERLOADED,
    TRANSIENT,
    failed_output,
    read_reply,
    retry_after_s,
    skipped_output,
)
from penstock.spec.cases import Output

ATTEMPTS = 3
"""Of a call that fails in passing. Being told to slow down is not counted: that goes on until the deadline."""
NOT_SENT = "nothing more is asked"


@dataclass(kw_only=True)
class Asked:
    """An output, and the reservation of its cost as long as that is unknown."""

    output: Output
    hold: Hold | None = None
    is_absent: bool = False
    """There is nothing to keep: what is scored again was never asked for this case."""


@dataclass(kw_only=True)
class Asker:
    """Asks the gateway for one run. For one event loop."""

    gateway: Gateway
    pace: Pace
    budget: Budget
    follower: TraceFollower
    session: str
    """Of all calls, `eval:ID`: what the record of traffic groups them by."""
    timeout_s: float
    """Of one call with all its attempts, from the moment it is sent: waiting for its turn here is no time of the target."""
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    rng: random.Random = field(default_factory=random.Random)
    is_stopping: Callable[[], bool] = lambda: False

    async def call(
        self, body: Mapping[str, Any], *, kind: str, case_id: str, repeat: int, may_reuse: bool = False
    ) -> Asked:
        """Return what was answered. `may_reuse`: a reply that the gateway's cache keeps may be taken."""
        hold = await self.budget.reserve(kind)
        if hold is None:
            return Asked(output=skipped_output(case_id, repeat, self.budget.reason or NOT_SENT))
        headers = {"x-penstock-session": self.session}
        if not may_reuse:  # a cached reply would hide how much answers vary
            headers["x-penstock-cache"] = "bypass"
        try:
            output = await self._attempts(body, headers, case_id, repeat)
        except BaseException:
            await self.budget.settle(hold, usd=None, tokens=None)
            raise
        if output.status == "skipped":
            await self.budget.settle(hold, usd=None, tokens=None, is_asked=False)
            return Asked(output=output)
        return Asked(output=output, hold=hold)

    async def settle(self, asked: Asked) -> Output:
        """Return the output with what its trace tells, and give back the reservation, whatever comes between."""
        try:
            fact = await self.follower.follow(asked.output.trace_id)
        except BaseException:
            if asked.hold is not None:
                await self.budget.settle(asked.hold, usd=asked.output.cost_usd, tokens=None)
            raise
        output = complete_output(asked.output, fact)
        if asked.hold is not None:
            usage = output.usage
            counts = () if usage is None else (usage.input_tokens, usage.output_tokens)
            known = [count for count in counts if count is not None]
            is_asked = output.status == "ok" or output.trace_id is not None
            await self.budget.settle(
                asked.hold,
                usd=output.cost_usd,
                tokens=sum(known) if known else None,
                is_asked=is_asked,
            )
        elif asked.output.cost_usd is None and output.cost_usd is not None and not output.is_cached:
            self.budget.add(output.cost_usd)  # asked in an earlier run, which did not come to know it
        return output

    async def ask(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        parameters: Mapping[str, Any],
        *,
        purpose: str,
        repeat: int = 0,
        trace_parent: str | None = None,
    ) -> Output:
        """Ask a judge: `evals.scorers.types.Ask`. Each call is a trace of its own, so that its cost is never the target's."""
        del trace_parent
        body = {**parameters, "model": model, "messages": [dict(message) for message in messages]}
        asked = await self.call(body, kind="judge", case_id=purpose, repeat=repeat, may_reuse=repeat == 0)
        return await self.settle(asked)

    async def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        """Embed texts: `evals.scorers.types.Embed`."""
        async with self.pace.slot():
            headers = {"x-penstock-session": self.session}
            try:
                return await asyncio.wait_for(
                    self.gateway.embed(model, texts, headers=headers), self.timeout_s
                )
            except TimeoutError as error:
                raise UpstreamTimeout(f"No vectors came within {self.timeout_s:g} s.") from error

    async def _attempts(
        self, body: Mapping[str, Any], headers: Mapping[str, str], case_id: str, repeat: int
    ) -> Output:
        left_s = self.timeout_s
        delays = iter([*backoff_delays(attempts=ATTEMPTS, first_s=0.5, cap_s=8.0, rng=self.rng)])
        while True:
            async with self.pace.slot() as began:
                if self.is_stopping():
                    return skipped_output(case_id, repeat, NOT_SENT)
                sent = self.clock()
                reply, output = await self._once(body, headers, case_id, repeat, left_s)
                left_s -= self.clock() - sent
                if reply is not None and reply.status in OVERLOADED:
                    wait_s: float | None = self.pace.slow_down(began, retry_after_s(reply.headers))
                elif reply is not None and reply.status == OK:
                    self.pace.succeeded()
                    return output
                elif reply is None or reply.status in TRANSIENT:
                    wait_s = next(delays, None)
                    asked_s = retry_after_s(reply.headers) if reply is not None else None
                    wait_s = max(wait_s, asked_s or 0.0) if wait_s is not None else None
                else:
                    return output
            if wait_s is None or wait_s >= left_s:
                return output
            left_s -= wait_s
            await self.sleep(wait_s)

    async def _once(
        self, body: Mapping[str, Any], headers: Mapping[str, str], case_id: str, repeat: int, left_s: float
    ) -> tuple[GatewayReply | None, Output]:
        began = self.clock()
        try:
            reply = await asyncio.wait_for(self.gateway.chat(body, headers=headers, timeout_s=left_s), left_s)
        except (TimeoutError, UpstreamTimeout):
            return None, _late(case_id, repeat, self.timeout_s)
        except UpstreamError as error:
            latency_ms = (self.clock() - began) * 1000
            return None, failed_output(case_id, repeat, error, is_transient=True, latency_ms=latency_ms)
        except PenstockError as error:
            return None, failed_output(case_id, repeat, error, is_transient=False)
        return reply, read_reply(reply, case_id=case_id, repeat=repeat)


def complete_output(output: Output, fact: TraceFact | None) -> Output:
    """Return the output with what its trace tells and it did not know."""
    if fact is None:
        return output
    return msgspec.structs.replace(
        output,
        cost_usd=output.cost_usd if output.cost_usd is not None else fact.cost_usd,
        versions={**output.versions, **fact.versions},
        passages=list(fact.passages) or output.passages,
        ttft_ms=output.ttft_ms if output.ttft_ms is not None else fact.ttft_ms,
    )


def _late(case_id: str, repeat: int, timeout_s: float) -> Output:
    error = UpstreamTimeout(f"The target did not answer within {timeout_s:g} s.")
    return failed_output(case_id, repeat, error, is_transient=True, latency_ms=timeout_s * 1000)
