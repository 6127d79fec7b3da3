"""Decides which target is asked when, until one has begun to answer: balance, retries, breaker, hedging, fallbacks.

The rules, which `run.py` follows on one route and this file from route to route:

- A target that this call has not asked yet is asked at once; one that has been asked is asked again only after all
  others, after a wait, and while the retry budget of the route allows it.
- Targets whose breaker is open are passed over. When that leaves none, the call fails at once and says until when.
- No wait and no attempt passes the deadline of the call. Nothing is asked once an answer is committed.
"""

from datetime import UTC, datetime

from penstock.gateway.answers import Answer, AttemptFailed
from penstock.gateway.asking import Asking
from penstock.gateway.calls import Call
from penstock.gateway.routing.versions import deprecation_headers, deprecation_warning, refuse_retired
from penstock.gateway.run import RouteRun, pick_better
from penstock.gateway.table import ReadyRoute
from penstock.spec.routes import FaultKind


class Attempts:
    """Serves calls from their routes. One per process, on one event loop."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def check_version(self, call: Call) -> None:
        """Refuse a retired route or version; note what the client is to be told of a deprecated one."""
        ready = call.route
        if ready is None or ready.deprecation is None:
            return
        today = datetime.fromtimestamp(self._asking.now_s(), tz=UTC).date()
        name = call.envelope.model if call.envelope is not None else ready.route.name
        refuse_retired(name, ready.deprecation, today)
        call.extra_headers += deprecation_headers(ready.deprecation, today)
        warning = deprecation_warning(name, ready.deprecation, today)
        if warning is not None:
            call.warnings.append(warning)

    async def find_answer(self, call: Call) -> Answer:
        """Return the answer that serves `call`; raise the `AttemptFailed` that tells the client most.

        `call.route` and `call.target` are those that serve it, which a fallback changes. The answer carries the lease
        of its target; `release` ends it.
        """
        ready = call.route
        assert ready is not None
        asking = self._asking
        now = asking.monotonic()
        plain = asking.plain_of(ready)
        if plain is not None and (lease := plain.health.enter(plain.policy)) is not None:
            # most calls: one target that is well, so nothing is to be decided
            plain.budget.note_call(now)
            try:
                answer = await asking.ask_until(call, plain.target, lease, now, now + plain.bound_s)
            except AttemptFailed as failed:
                answer = await self._serve(call, ready, now + plain.whole_s, {ready.route.name}, failed)
        else:
            asking.retry_budget(ready).note_call(now)
            deadline = now + (ready.route.deadline_s or ready.longest_s)
            answer = await self._serve(call, ready, deadline, {ready.route.name})
        call.target = answer.target
        if answer.target.provider.dialect == "responses" or call.dialect == "responses":
            asking.remember(answer)
        return answer

    async def _serve(
        self,
        call: Call,
        ready: ReadyRoute,
        deadline: float,
        seen: set[str],
        failed: AttemptFailed | None = None,
    ) -> Answer:
        """Ask the targets of a route, then its fallbacks. `failed` is how the only target has failed already."""
        call.route = ready
        try:
            return await RouteRun(self._asking, call, ready, deadline, failed).serve()
        except AttemptFailed as error:
            first = error
        best = first
        for fallback, other in ready.fallbacks:
            if (
                not _applies(fallback.on, first)
                or other.route.name in seen
                or self._asking.monotonic() >= deadline
            ):
                continue
            seen.add(other.route.name)
            self._asking.retry_budget(other).note_call(self._asking.monotonic())
            try:
                return await self._serve(call, other, deadline, seen)
            except AttemptFailed as error:
                best = pick_better(best, error)
        call.route = ready
        raise best


def _applies(on: tuple[FaultKind, ...], failed: AttemptFailed) -> bool:
    return failed.fault is not None and failed.fault in on
