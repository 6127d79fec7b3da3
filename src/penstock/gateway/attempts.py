"""Decides which target is asked when, until one has begun to answer: balance, retries, breaker, hedging, fallbacks.

The rules, which `run.py` follows on one route and this file from route to route:

- A target that this call has not asked yet is asked at once; one that has been asked is asked again only after all
  others, after a wait, and while the retry budget of the route allows it.
- Fallbacks that name the fault come before waits, and before targets that asked for rest. Only a lost connection or a
  server's error may be followed by one quick repeat first.
- Targets whose breaker is open are passed over. When that leaves none, the call fails at once and says until when.
- No wait and no attempt passes the deadline of the call. Nothing is asked once an answer is committed.
"""

import copy
from datetime import UTC, datetime
from functools import reduce

from penstock.base.logs import redact
from penstock.gateway.answers import Answer, AttemptFailed
from penstock.gateway.asking import Asking
from penstock.gateway.calls import Call
from penstock.gateway.routing.errors import TargetsOpen
from penstock.gateway.routing.versions import deprecation_headers, deprecation_warning, refuse_retired
from penstock.gateway.run import RouteRun, pick_better
from penstock.gateway.table import ReadyRoute
from penstock.spec.routes import FaultKind

_ALL_FAULTS: frozenset[FaultKind] = frozenset(
    ("connect", "timeout", "rate-limit", "server-error", "context-length", "content-filter")
)
_MAX_REASONS = 10
_MAX_REASON_CHARS = 300
_MAX_NAME_CHARS = 100


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
        call.asked = ready
        asking = self._asking
        now = asking.monotonic()
        plain = asking.plain_of(ready)
        if (
            plain is not None
            and not (ready.fallbacks and plain.health.is_resting)
            and (lease := plain.health.enter(plain.policy)) is not None
        ):
            # most calls: one target that is well, so nothing is to be decided
            plain.budget.note_call(now)
            try:
                answer = await asking.ask_until(call, plain.target, lease, now, now + plain.bound_s)
            except AttemptFailed as failed:
                answer = await _Search(asking, call, ready, now + plain.whole_s).find(failed)
        else:
            asking.retry_budget(ready).note_call(now)
            deadline = now + (ready.route.deadline_s or ready.longest_s)
            answer = await _Search(asking, call, ready, deadline).find()
        call.target = answer.target
        if answer.target.provider.dialect == "responses" or call.dialect == "responses":
            asking.remember(answer)
        return answer


class _Search:
    """One call on the route it asks for and on those that take over. Serves one call and is thrown away."""

    __slots__ = ("_asking", "_call", "_deadline", "_ready", "_runs", "_seen")

    def __init__(self, asking: Asking, call: Call, ready: ReadyRoute, deadline: float) -> None:
        self._asking = asking
        self._call = call
        self._ready = ready
        self._deadline = deadline
        self._seen = {ready.route.name}
        self._runs: list[RouteRun] = []

    async def find(self, failed: AttemptFailed | None = None) -> Answer:
        """Return the first committed answer; `failed` is how the route's only target has failed already."""
        answer = await self._go_through(self._ready, failed)
        while answer is None and (run := self._soonest()) is not None:
            answer = await self._ask_again(run) or await self._fall_back(run)
        if answer is None:
            self._call.route = self._ready
            raise self._tell()
        return answer

    async def _go_through(
        self, ready: ReadyRoute, failed: AttemptFailed | None = None, *, is_last: bool = True
    ) -> Answer | None:
        """Ask those of a route that may answer now, then its fallbacks. Unless it `is_last`, another route comes after it."""
        own = {
            kind for rule, other in ready.fallbacks if other.route.name not in self._seen for kind in rule.on
        }
        is_bound = self._asking.is_bound(self._call, ready)
        covered = frozenset[FaultKind]() if is_bound else frozenset(own) if is_last else _ALL_FAULTS
        self._call.route = ready
        run = RouteRun(self._asking, self._call, ready, self._deadline, failed=failed, covered=covered)
        self._runs.append(run)
        answer = await run.serve()
        while answer is None and is_bound and run.next_at() is not None:
            answer = await run.ask_again()  # nobody else can continue what this target has begun
        return answer or await self._fall_back(run, is_last=is_last)

    async def _fall_back(self, run: RouteRun, *, is_last: bool = True) -> Answer | None:
        """Ask the fallbacks of a route that name how it failed and have not been asked yet."""
        while self._asking.monotonic() < self._deadline:
            others = [
                other
                for rule, other in run.ready.fallbacks
                if other.route.name not in self._seen and run.failed_by(rule.on)
            ]
            if not others:
                break
            self._seen.add(others[0].route.name)
            self._asking.retry_budget(others[0]).note_call(self._asking.monotonic())
            answer = await self._go_through(others[0], is_last=is_last and len(others) == 1)
            if answer is not None:
                return answer
        return None

    async def _ask_again(self, run: RouteRun) -> Answer | None:
        self._call.route = run.ready
        return await run.ask_again()

    def _soonest(self) -> RouteRun | None:
        """Return the run that has somebody to ask again soonest; None when there is none, or nobody can help."""
        if any(run.is_refused for run in self._runs):
            return None
        left = [(at, number) for number, run in enumerate(self._runs) if (at := run.next_at()) is not None]
        return self._runs[min(left)[1]] if left else None

    def _tell(self) -> AttemptFailed:
        """Return the failure that tells most; one of our own also says why each target did not serve the call."""
        failures = [run.failure for run in self._runs]
        best = reduce(pick_better, failures)
        hints = {hint for run in self._runs for _, hint in run.reasons.values()}
        reasons = [
            f"{_name(run, self._ready, *place)}: {_shorten(reason, None if len(hints) == 1 else hint)}"
            for run in self._runs
            for place, (reason, hint) in run.reasons.items()
        ]
        is_told = len(self._runs) == 1 and isinstance(best.error, TargetsOpen)
        if best.answer is not None or best.fault is None or len(reasons) < 2 or is_told:
            return best
        more = f"; and {len(reasons) - _MAX_REASONS} more" if len(reasons) > _MAX_REASONS else ""
        told = copy.copy(best.error)
        told.message = (
            f"No target of {self._ready.route.name[:_MAX_NAME_CHARS]!r} could serve the call: "
            f"{'; '.join(reasons[:_MAX_REASONS])}{more}."
        )
        told.args = (told.message,)
        wait_s = best.retry_after_s
        if isinstance(told, TargetsOpen):
            wait_s = min(
                each.retry_after_s or 1.0 for each in failures if isinstance(each.error, TargetsOpen)
            )
            told.fields = {**told.fields, "retry_after_s": wait_s}
            told.hint = f"Try again in {wait_s:g} s."
        elif hints != {told.hint} or told.hint is None:
            told.hint = f"`penstock traces show {self._call.trace_id}` shows each attempt."
        return AttemptFailed(told, fault=best.fault, retry_after_s=wait_s, was_sent=best.was_sent)


def _shorten(reason: str, hint: str | None) -> str:
    text: str = redact(f"{reason} {hint}" if hint else reason)
    return text[:_MAX_REASON_CHARS].rstrip(".")


def _name(run: RouteRun, asked: ReadyRoute, provider: str, model: str) -> str:
    via = "" if run.ready is asked else f"fallback {run.ready.route.name[:_MAX_NAME_CHARS]}, "
    return f"{via}{provider} ({model[:_MAX_NAME_CHARS]})"
