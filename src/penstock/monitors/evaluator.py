"""Evaluates rules when they are due, writes what changed, and puts messages into the outbox, all in one transaction.

Rules that look at the same spans are answered by one reading of them. A message is written together with the change it
tells of, so that a process that dies in between has lost neither; delivering it is another thread's work.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError, OperationalError

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import CallerError, PenstockError
from penstock.base.ids import new_id
from penstock.monitors import queries
from penstock.monitors.messages import build_payload
from penstock.monitors.rules import Parse, build_query, measure_of, read_status, search_of
from penstock.monitors.states import advance, fail, is_silenced, must_tell
from penstock.monitors.types import AlertRule, AlertStatus, RuleContent, Transition
from penstock.spec.measures import Example, MetricCell, MetricQuery
from penstock.store.spans.measures import MAX_MEASURES
from penstock.store.spans.port import Measures

INTERVAL_S = 1.0
N_EXAMPLES = 5
LONGEST_WAIT_S = 600
"""After a stop spans wait in the spool: rules are not judged by half a window, but after this long they are anyway."""
_ZERO_OF_NONE = frozenset({"calls", "errors", "sessions", "users"})
"""Measures that are 0, and not unknown, where nothing matched."""
_log = logging.getLogger("penstock.alerts")


class Evaluator:
    """Keeps the states of all rules. Several processes may run one each over the same tables; not for several threads."""

    def __init__(
        self,
        engine: Engine,
        measures: Measures,
        *,
        parse: Parse,
        find_console_url: Callable[[], str],
        clock: Callable[[], int] = wall_clock,
        is_behind: Callable[[], bool] = lambda: False,
    ) -> None:
        """`is_behind` says whether spans that were taken wait to be stored, so that what is stored tells half of it."""
        self._engine = engine
        self._measures = measures
        self._parse = parse
        self._is_behind = is_behind
        self._wait_until_ns: int | None = None
        """When rules are judged whatever waits: 0 once the store has caught up after the start."""
        self._find_console_url = find_console_url
        self._clock = clock
        self._faults: list[Exception] = []
        """What went wrong with single rules in the round that runs."""
        self.problem: str | None = None
        """Why the last round failed, or None when it worked."""

    def run(self, stop: threading.Event, *, interval_s: float = INTERVAL_S) -> None:
        """Evaluate what is due until `stop` is set."""
        while not stop.wait(interval_s):
            try:
                self.run_once()
                self.problem = None
            except Exception as error:  # the edge of the thread: it must outlive a database that is away
                text = f"{type(error).__name__}: {error}"
                if text != self.problem:
                    self.problem = text
                    _log.exception("alerts could not be evaluated, will try again")

    def run_once(self) -> int:
        """Evaluate every rule that is due now; return how many were. What fails with one rule stops no other."""
        now = self._clock()
        if self._waits(now):
            return 0
        with self._engine.connect() as connection:
            states = {row.rule: row for row in queries.list_states(connection)}
            rows = queries.list_named(connection, queries.RULES)
        faults = self._faults = []
        due = []
        for row in rows:
            try:
                rule, status = read_rule_row(row), read_status(row.name, states.get(row.name))
            except msgspec.ValidationError as error:
                faults.append(error)
                continue
            if rule.content.enabled and status.due_ns <= now:
                due.append((rule, status))
        for group in _shared(due):
            self._evaluate(group, now)
        if faults:
            raise faults[0]  # once all others had their turn
        return len(due)

    def _waits(self, now: int) -> bool:
        """Return whether the store has still to catch up with what was taken before the start. Later lags hold up nothing."""
        if self._wait_until_ns is None:
            self._wait_until_ns = now + LONGEST_WAIT_S * 1_000_000_000
        if now >= self._wait_until_ns or not self._is_behind():
            self._wait_until_ns = 0
        return self._wait_until_ns > 0

    def _evaluate(self, group: Sequence[tuple[AlertRule, AlertStatus]], now: int) -> None:
        names = tuple(dict.fromkeys(rule.content.measure for rule, _ in group))
        try:
            query = msgspec.structs.replace(
                build_query(group[0][0].content, now, parse=self._parse), measures=names
            )
            cells = measure_window(self._measures, query)
        except PenstockError as error:
            if len(group) > 1:  # one rule's measure must not break those beside it
                for one in group:
                    self._evaluate([one], now)
                return
            self._fail(group, error.message, now, at_once=isinstance(error, CallerError))
            return
        except Exception as error:
            _log.exception("an alert could not be evaluated")
            self._fail(group, f"{type(error).__name__}: {error}", now, at_once=False)
            return
        for rule, status in group:
            after = advance(rule.content, status, cells[rule.content.measure], now)
            self._write(rule, status, after, now)

    def _fail(
        self, group: Sequence[tuple[AlertRule, AlertStatus]], problem: str, now: int, *, at_once: bool
    ) -> None:
        for rule, status in group:
            self._write(rule, status, fail(rule.content, status, problem[:500], now, at_once=at_once), now)

    def _write(self, rule: AlertRule, before: AlertStatus, after: AlertStatus, now: int) -> None:
        try:
            self._write_one(rule, before, after, now)
        except OperationalError:  # the database is away, for all rules
            raise
        except Exception as error:
            error.add_note(f"It happened with the alert {rule.name!r}.")
            self._faults.append(error)

    def _write_one(self, rule: AlertRule, before: AlertStatus, after: AlertStatus, now: int) -> None:
        transition = None
        if after.state != before.state:
            transition = self._transition(rule.content, before, after, now)
            after = msgspec.structs.replace(after, transition=transition.id)
        with self._engine.begin() as connection:
            row = queries.get_state(connection, rule.name)
            kept = read_status(rule.name, row)
            if kept.due_ns != before.due_ns or kept.evaluated_ns != before.evaluated_ns:
                return  # another process was faster, or the rule was just changed
            after = msgspec.structs.replace(
                after, silenced_until_ns=kept.silenced_until_ns, silenced_by=kept.silenced_by
            )
            tells = must_tell(rule.content, after, now)
            if tells:
                after = msgspec.structs.replace(after, told=after.state, told_ns=now)
            content = msgspec.to_builtins(after)
            try:
                if row is None:
                    queries.add_state(connection, rule.name, after.due_ns, content)
                elif not queries.replace_state(connection, rule.name, row.revision, after.due_ns, content):
                    return
            except IntegrityError:
                return
            if transition is not None:
                silenced = is_silenced(after, now)
                transition = msgspec.structs.replace(transition, silenced=silenced)
                line = msgspec.to_builtins(transition)
                queries.add_transition(connection, transition.id, rule.name, now, line)
            if tells:
                self._tell(connection, rule, after, transition, now)

    def _tell(
        self, connection: Any, rule: AlertRule, after: AlertStatus, transition: Transition | None, now: int
    ) -> None:
        kind = "transition"
        if transition is None:  # a reminder, or what a silence kept back
            kind = "reminder"
            row = None if after.transition is None else queries.get_transition(connection, after.transition)
            if row is None:
                return
            transition = msgspec.convert(row.content, Transition)
        add_messages(
            connection,
            rule,
            after,
            transition,
            kind=kind,
            now_ns=now,
            console_url=self._find_console_url(),
        )

    def _transition(
        self, content: RuleContent, before: AlertStatus, after: AlertStatus, now: int
    ) -> Transition:
        since = max(0, now - content.window_s * 1_000_000_000)
        return Transition(
            id=new_id("tr", now_ms=now // 1_000_000),
            rule=before.rule,
            before=before.state,
            after=after.state,
            at_ns=now,
            value=after.value,
            n=after.n,
            since_ns=since,
            until_ns=now,
            search=search_of(content),
            subject=content.subject,
            reason=explain(content, after),
            examples=self._examples(content, after, now),
        )

    def _examples(self, content: RuleContent, after: AlertStatus, now: int) -> list[Example]:
        if after.state not in {"warning", "alert"}:
            return []
        try:
            query = build_query(content, now, parse=self._parse)
            lowest = content.alert.below is not None
            return self._measures.find_examples(query, limit=N_EXAMPLES, lowest=lowest)
        except Exception:  # they are a help: whatever hinders them must not hold back the alert
            _log.warning("examples of an alert could not be found", exc_info=True)
            return []


def _shared(due: Sequence[tuple[AlertRule, AlertStatus]]) -> list[list[tuple[AlertRule, AlertStatus]]]:
    """Return rules in groups that one query answers."""
    groups: dict[Any, list[tuple[AlertRule, AlertStatus]]] = {}
    for rule, status in due:
        content = rule.content
        groups.setdefault((content.subject, content.where, content.window_s), []).append((rule, status))
    return [
        group[start : start + MAX_MEASURES]
        for group in groups.values()
        for start in range(0, len(group), MAX_MEASURES)
    ]


def measure_window(measures: Measures, query: MetricQuery) -> dict[str, MetricCell]:
    """Return the cells of a window as one, by measure, also where nothing matched."""
    rows = measures.measure(query).rows
    if rows:
        return rows[0].cells
    return {name: MetricCell(value=0.0 if name in _ZERO_OF_NONE else None, n=0) for name in query.measures}


def add_messages(
    connection: Any,
    rule: AlertRule,
    status: AlertStatus,
    transition: Transition,
    *,
    kind: str,
    now_ns: int,
    console_url: str,
) -> list[str]:
    """Put a message for each of the rule's channels into the outbox; return their ids."""
    payload = build_payload(rule, status, transition, kind=kind, now_ns=now_ns, console_url=console_url)
    ids = []
    for channel in rule.content.notify:
        identity = new_id("msg", now_ms=now_ns // 1_000_000)
        ids.append(identity)
        queries.add_message(
            connection,
            {
                "id": identity,
                "transition": transition.id,
                "rule": rule.name,
                "channel": channel,
                "state": "pending",
                "payload": {**payload, "id": identity},
                "attempts": 0,
                "due_ns": now_ns,
                "created_ns": now_ns,
            },
        )
    return ids


def read_rule_row(row: Any) -> AlertRule:
    """Return the rule that a row holds."""
    return AlertRule(
        name=row.name,
        content=msgspec.convert(row.content, RuleContent),
        version=row.version,
        actor=row.actor,
        updated_ns=row.updated_ns,
    )


def explain(content: RuleContent, status: AlertStatus) -> str:
    """Return in one sentence why a rule is in its state."""
    measure = measure_of(content)
    if status.state == "broken":
        return f"The question cannot be answered: {status.problem}"
    if status.state == "no-data":
        return f"{measure.title}: {status.n} in the window, at least {max(content.min_n, 1)} are wanted."
    if status.value is None:
        return f"{measure.title} is unknown."
    threshold = (
        content.warning if status.state == "warning" and content.warning is not None else content.alert
    )
    bound = threshold.above if threshold.above is not None else threshold.below
    side = "above" if threshold.above is not None else "below"
    if status.state in {"warning", "alert"}:
        return f"{measure.title} {status.value:.6g} is {side} {bound:.6g} (n = {status.n})."
    return f"{measure.title} {status.value:.6g} is not {side} {bound:.6g} (n = {status.n})."
