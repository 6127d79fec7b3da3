"""Alerts for pages, REST and the command line: rules with how they stand, previews, silences, history, tests."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Engine

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import CallerError, InvalidInput
from penstock.base.ids import new_id
from penstock.monitors import queries
from penstock.monitors.errors import RuleInvalid, UnknownChannel, UnknownRule
from penstock.monitors.evaluator import add_messages, explain, measure_window, read_rule_row
from penstock.monitors.rules import (
    NamedStore,
    Parse,
    build_query,
    check_name,
    check_rule,
    measure_of,
    read_status,
    search_of,
)
from penstock.monitors.states import advance, cadence_s, is_silenced
from penstock.monitors.types import (
    AlertRule,
    AlertStatus,
    AlertView,
    Preview,
    RuleContent,
    Transition,
)
from penstock.spec.measures import MetricCell
from penstock.store.spans.port import Measures

_S = 1_000_000_000
N_PREVIEWED = 24
"""Windows that a preview looks back."""
MAX_HISTORY = 500


class AlertService:
    """Alert rules over the control tables and the measures. May be called from any thread."""

    def __init__(
        self,
        engine: Engine,
        measures: Measures,
        *,
        parse: Parse,
        find_console_url: Callable[[], str],
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        self._engine = engine
        self._measures = measures
        self._parse = parse
        self._find_console_url = find_console_url
        self._clock = clock
        self._store = NamedStore(engine, queries.RULES, "alert", clock=clock)

    def list(self) -> list[AlertView]:
        """Return all rules by name, with how they stand."""
        with self._engine.connect() as connection:
            rules = [read_rule_row(row) for row in queries.list_named(connection, queries.RULES)]
            states = {row.rule: row for row in queries.list_states(connection)}
            last = {row.rule: _transition(row) for row in queries.last_transitions(connection)}
        return [
            self._view(rule, read_status(rule.name, states.get(rule.name)), last.get(rule.name))
            for rule in rules
        ]

    def get(self, name: str) -> AlertView:
        """Return one rule; raise `UnknownRule`."""
        with self._engine.connect() as connection:
            row = queries.get_named(connection, queries.RULES, name)
            if row is None:
                raise UnknownRule(name, [one.name for one in queries.list_named(connection, queries.RULES)])
            state = queries.get_state(connection, name)
            last = queries.list_transitions(connection, rule=name, before=None, limit=1)
        return self._view(
            read_rule_row(row), read_status(name, state), _transition(last[0]) if last else None
        )

    def put(
        self, name: str, content: RuleContent, *, actor: str, expected_version: int | None = None
    ) -> AlertView:
        """Create or replace a rule; its state begins anew, its silence and history stay.

        Raises `RuleInvalid`, `UnknownChannel`, `AlertChanged`, and what the search language raises.
        """
        check_name(name)
        check_rule(content, measures=self._measures, parse=self._parse)
        with self._engine.begin() as connection:
            known = [row.name for row in queries.list_named(connection, queries.CHANNELS)]
            for channel in content.notify:
                if channel not in known:
                    raise UnknownChannel(channel, known)
            self._store.put(connection, name, content, actor=actor, expected_version=expected_version)
            row = queries.get_state(connection, name)
            old = read_status(name, row)
            fresh = AlertStatus(
                rule=name,
                silenced_until_ns=old.silenced_until_ns,
                silenced_by=old.silenced_by,
                told=old.told,
                told_ns=old.told_ns,
            )
            _write_state(connection, row, fresh)
        return self.get(name)

    def delete(self, name: str) -> None:
        """Forget a rule, how it stands and what is still to be sent; its history stays. Raises `UnknownRule`."""
        self.get(name)
        with self._engine.begin() as connection:
            queries.remove_named(connection, queries.RULES, name)
            queries.remove_state(connection, name)
            queries.drop_messages(connection, now_ns=self._clock(), rule=name)

    def silence(self, name: str, until_ns: int | None, *, actor: str) -> AlertView:
        """Tell nobody of this rule until a moment; None ends the silence. Raises `UnknownRule`.

        Its state goes on being kept; what is news when the silence ends is told then.
        """
        self.get(name)
        if until_ns is not None and until_ns <= self._clock():
            raise InvalidInput("A silence must end in the future.")
        for _ in range(5):  # the evaluator may write the same row meanwhile
            with self._engine.begin() as connection:
                row = queries.get_state(connection, name)
                status = msgspec.structs.replace(
                    read_status(name, row),
                    silenced_until_ns=until_ns,
                    silenced_by=None if until_ns is None else actor[:200],
                )
                if _write_state(connection, row, status):
                    break
        return self.get(name)

    def preview(self, content: RuleContent) -> Preview:
        """Return what a rule would say now and would have said in the windows before; nothing is kept.

        Raises `RuleInvalid` and what the search language raises.
        """
        check_rule(content, measures=self._measures, parse=self._parse)
        now = self._clock()
        query = build_query(content, now, parse=self._parse)
        cell = measure_window(self._measures, query)[content.measure]
        one = msgspec.structs.replace(content, for_evaluations=1)
        status = advance(one, AlertStatus(rule=""), cell, now)
        return Preview(
            state=status.state,
            value=cell.value,
            n=cell.n,
            unit=measure_of(content).unit,
            since_ns=query.since_ns,
            until_ns=now,
            series=[*self._series(content, now)],
        )

    def history(
        self, rule: str | None = None, *, limit: int = 50, before: str | None = None
    ) -> Sequence[Transition]:
        """Return transitions, newest first; `before` is the id of the last one seen."""
        with self._engine.connect() as connection:
            rows = queries.list_transitions(
                connection, rule=rule, before=before, limit=max(1, min(limit, MAX_HISTORY))
            )
        return [_transition(row) for row in rows]

    def test(self, name: str, *, actor: str) -> Sequence[str]:
        """Put a message, marked as a test, for each channel of the rule into the outbox; return their ids.

        Raises `UnknownRule`, and `RuleInvalid` for a rule that notifies nobody.
        """
        view = self.get(name)
        if not view.rule.content.notify:
            raise RuleInvalid(f"The alert {name!r} notifies no channel.", hint="Set notify.")
        content, now = view.rule.content, self._clock()
        cell = self._cell(content, now)
        status = msgspec.structs.replace(view.status, state="alert", value=cell.value, n=cell.n)
        transition = Transition(
            id=new_id("tr", now_ms=now // 1_000_000),
            rule=name,
            before=view.status.state,
            after="alert",
            at_ns=now,
            value=cell.value,
            n=cell.n,
            since_ns=max(0, now - content.window_s * _S),
            until_ns=now,
            search=search_of(content),
            subject=content.subject,
            reason=f"{actor} asked for a test. {explain(content, view.status) if view.status.value is not None else ''}".strip(),
            is_test=True,
        )
        with self._engine.begin() as connection:
            return add_messages(
                connection,
                view.rule,
                status,
                transition,
                kind="test",
                now_ns=now,
                console_url=self._find_console_url(),
            )

    def _cell(self, content: RuleContent, now: int) -> MetricCell:
        try:
            query = build_query(content, now, parse=self._parse)
            return measure_window(self._measures, query)[content.measure]
        except CallerError:
            return MetricCell(value=None, n=0)

    def _series(self, content: RuleContent, now: int) -> Sequence[tuple[int, float | None]]:
        found = []
        for number in range(N_PREVIEWED - 1, -1, -1):
            end = now - number * content.window_s * _S
            if end <= content.window_s * _S:
                continue
            query = build_query(content, end, parse=self._parse)
            found.append((end, measure_window(self._measures, query)[content.measure].value))
        return found

    def _view(self, rule: AlertRule, status: AlertStatus, last: Transition | None) -> AlertView:
        return AlertView(
            rule=rule,
            status=status,
            unit=measure_of(rule.content).unit,
            every_s=cadence_s(rule.content),
            is_silenced=is_silenced(status, self._clock()),
            last=last,
        )


def _write_state(connection: Any, row: Any, status: AlertStatus) -> bool:
    content = msgspec.to_builtins(status)
    if row is None:
        queries.add_state(connection, status.rule, status.due_ns, content)
        return True
    return queries.replace_state(connection, status.rule, row.revision, status.due_ns, content)


def _transition(row: Any) -> Transition:
    return msgspec.convert(row.content, Transition)
