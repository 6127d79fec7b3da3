"""The state machine of an alert: pure, told what was measured and when.

A value enters a state beyond its threshold and leaves it only past the point of recovery; in between it stays where it
is. A state is entered once as many evaluations in a row agree as the rule wants: any mix of worse ones raises to the
mildest of them, any mix of better ones lowers to the worst of them.
"""

from collections.abc import Sequence

import msgspec

from penstock.monitors.types import BAD_STATES, AlertState, AlertStatus, RuleContent
from penstock.spec.measures import MetricCell

_RANKS: dict[AlertState, int] = {"ok": 0, "warning": 1, "alert": 2}
_S = 1_000_000_000
MIN_EVERY_S, MAX_EVERY_S = 10, 600
FAILURES_TO_BREAK = 3
"""A store that cannot answer once is no news; a question that makes no sense is at once."""


def cadence_s(content: RuleContent) -> int:
    """Return how often a rule is evaluated."""
    if content.every_s is not None:
        return content.every_s
    return min(max(content.window_s // 10, MIN_EVERY_S), MAX_EVERY_S)


def judge(content: RuleContent, cell: MetricCell, state: AlertState) -> AlertState:
    """Return the state that one measurement speaks for."""
    value = cell.value
    if value is None or cell.n < content.min_n:
        if content.no_data == "keep":
            return state
        return "ok" if content.no_data == "ok" else "no-data"
    if content.alert.is_beyond(value):
        return "alert"
    if state == "alert" and not content.alert.has_recovered(value):
        return "alert"
    if content.warning is not None:
        if content.warning.is_beyond(value):
            return "warning"
        if state in {"warning", "alert"} and not content.warning.has_recovered(value):
            return "warning"
    return "ok"


def advance(content: RuleContent, status: AlertStatus, cell: MetricCell, now_ns: int) -> AlertStatus:
    """Return the status after a measurement."""
    spoken = judge(content, cell, status.state)
    needed = content.for_evaluations
    recent = (*status.recent, spoken)[-needed:]
    after = _settle(status.state, recent, needed)
    return msgspec.structs.replace(
        status,
        state=after,
        since_ns=now_ns if after != status.state else status.since_ns,
        recent=() if after != status.state else recent,
        evaluated_ns=now_ns,
        due_ns=now_ns + cadence_s(content) * _S,
        value=cell.value,
        n=cell.n,
        problem=None,
        failures=0,
    )


def fail(
    content: RuleContent, status: AlertStatus, problem: str, now_ns: int, *, at_once: bool
) -> AlertStatus:
    """Return the status after a question that was not answered; `at_once` when asking again would not help."""
    failures = status.failures + 1
    breaks = at_once or failures >= FAILURES_TO_BREAK
    after: AlertState = "broken" if breaks else status.state
    return msgspec.structs.replace(
        status,
        state=after,
        since_ns=now_ns if after != status.state else status.since_ns,
        recent=(),
        evaluated_ns=now_ns,
        due_ns=now_ns + cadence_s(content) * _S,
        value=None if breaks else status.value,
        n=0 if breaks else status.n,
        problem=problem,
        failures=failures,
    )


def is_silenced(status: AlertStatus, now_ns: int) -> bool:
    """Return whether nobody is told at this moment."""
    return status.silenced_until_ns is not None and now_ns < status.silenced_until_ns


def must_tell(content: RuleContent, status: AlertStatus, now_ns: int) -> bool:
    """Return whether channels have to hear of the state: it is news, or a reminder is due; silence comes first.

    What happened in a silence is told when it ends, if it is news still.
    """
    if is_silenced(status, now_ns):
        return False
    if status.state != status.told:
        return status.state in BAD_STATES or (status.state == "ok" and status.told in BAD_STATES)
    return (
        status.state in BAD_STATES
        and content.remind_s is not None
        and status.told_ns is not None
        and now_ns - status.told_ns >= content.remind_s * _S
    )


def _settle(state: AlertState, recent: Sequence[AlertState], needed: int) -> AlertState:
    if state in {"unknown", "broken"} and recent[-1] == "ok":
        return "ok"  # good news needs no second opinion
    if len(recent) < needed or state in recent:
        return state
    ranks = [_RANKS.get(one) for one in recent]
    here = _RANKS.get(state)
    known = [rank for rank in ranks if rank is not None]
    if len(known) < len(ranks) or here is None:
        if len(known) == len(ranks):  # out of a state that is neither better nor worse
            return recent[known.index(min(known))]
        return recent[0] if len(set(recent)) == 1 else state
    if min(known) > here:
        return recent[known.index(min(known))]
    if max(known) < here:
        return recent[known.index(max(known))]
    return state
