"""Alert rules as people write them: read, checked, kept, silenced. What they find is the evaluator's."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Engine, Table
from sqlalchemy.exc import IntegrityError

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import InvalidInput
from penstock.monitors import queries
from penstock.monitors.errors import AlertChanged, ChannelInvalid, RuleInvalid
from penstock.monitors.types import AlertStatus, ChannelContent, RuleContent, Threshold
from penstock.spec.measures import Measure, MetricQuery, Subject, find_measure
from penstock.spec.search import Condition
from penstock.store.spans.port import Measures

Parse = Callable[[str, Subject], Condition]
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")
_Content = TypeVar("_Content", RuleContent, ChannelContent)
MIN_WINDOW_S, MAX_WINDOW_S = 10, 31 * 86_400
MAX_LABELS = 20


def read_rule(content: Mapping[str, Any]) -> RuleContent:
    """Return a rule from what was sent or written in a file; raise `RuleInvalid` that names the setting."""
    try:
        return msgspec.convert(content, RuleContent)
    except msgspec.ValidationError as error:
        raise RuleInvalid(f"The alert cannot be read: {error}.") from error


def read_channel(content: Mapping[str, Any]) -> ChannelContent:
    """Return a channel, as `read_rule`; raises `ChannelInvalid`."""
    try:
        return msgspec.convert(content, ChannelContent)
    except msgspec.ValidationError as error:
        raise ChannelInvalid(f"The channel cannot be read: {error}.") from error


def check_name(name: str) -> None:
    """Raise `InvalidInput` for what is no name of a rule or channel."""
    if not _NAME.fullmatch(name):
        raise InvalidInput("A name must be 1 to 80 lower-case letters, digits and dashes.", name=name[:80])


def check_rule(content: RuleContent, *, measures: Measures, parse: Parse) -> None:
    """Raise `RuleInvalid` for a rule that could never be evaluated, or that contradicts itself."""
    measure = find_measure(content.measure)
    if measure is None:
        raise RuleInvalid(
            f"There is no measure {content.measure[:80]!r}.", hint="`penstock dashboard measures` lists them."
        )
    _check_numbers(content)
    for name, threshold in (("alert", content.alert), ("warning", content.warning)):
        if threshold is not None:
            _check_threshold(name, threshold)
    if content.warning is not None:
        _check_order(content.alert, content.warning)
    # what the store refuses of an empty window it will refuse of every other
    measures.measure(build_query(content, 1, parse=parse))


def build_query(content: RuleContent, until_ns: int, *, parse: Parse) -> MetricQuery:
    """Return what a rule measures at a moment; raises what the search language raises."""
    return MetricQuery(
        measures=(content.measure,),
        since_ns=max(0, until_ns - content.window_s * 1_000_000_000),
        until_ns=until_ns,
        subject=content.subject,
        where=parse(content.where, content.subject),
    )


def measure_of(content: RuleContent) -> Measure:
    """Return the measure of a rule that was checked once; a stand-in for one that is gone since."""
    found = find_measure(content.measure)
    return found or Measure(name=content.measure, unit="count", title=content.measure, text="")


def search_of(content: RuleContent) -> str:
    """Return a search that finds what a rule measures, for lists of traces or spans."""
    parts = ["kind:llm,embedding,rerank"] if content.subject == "call" else []
    if content.where.strip():
        parts.append(f"({content.where.strip()})" if parts else content.where.strip())
    if content.measure in {"errors", "error_share"} and "status:error" not in content.where:
        if content.where.strip() and content.subject != "call":
            parts = [f"({parts[0]})"]
        parts.append("status:error")
    return " ".join(parts)


def _check_numbers(content: RuleContent) -> None:
    if not MIN_WINDOW_S <= content.window_s <= MAX_WINDOW_S:
        raise RuleInvalid(f"window_s must be between {MIN_WINDOW_S} seconds and 31 days.")
    if not 1 <= content.for_evaluations <= 60:
        raise RuleInvalid("for_evaluations must be between 1 and 60.")
    if content.every_s is not None and not 1 <= content.every_s <= 86_400:
        raise RuleInvalid("every_s must be between a second and a day.")
    if content.remind_s is not None and content.remind_s < 60:
        raise RuleInvalid("remind_s must be at least 60.")
    if content.min_n < 0:
        raise RuleInvalid("min_n must not be negative.")
    if len(content.labels) > MAX_LABELS or any(
        len(key) + len(text) > 400 for key, text in content.labels.items()
    ):
        raise RuleInvalid(f"A rule has at most {MAX_LABELS} labels of 400 characters.")


def _check_threshold(name: str, threshold: Threshold) -> None:
    bounds = [bound for bound in (threshold.above, threshold.below) if bound is not None]
    if len(bounds) != 1:
        raise RuleInvalid(f"{name} must have exactly one of above and below.")
    if not all(math.isfinite(bound) for bound in (*bounds, threshold.recover or 0.0)):
        raise RuleInvalid(f"{name} must be a finite number.")
    if threshold.recover is not None:
        wrong = (
            threshold.recover > bounds[0] if threshold.above is not None else threshold.recover < bounds[0]
        )
        if wrong:
            raise RuleInvalid(
                f"{name}.recover lies on the bad side of the bound.",
                hint="With above 0.05, recover at 0.03 for instance.",
            )


def _check_order(alert: Threshold, warning: Threshold) -> None:
    if (alert.above is None) != (warning.above is None):
        raise RuleInvalid("alert and warning must both be above, or both be below.")
    if alert.above is not None and warning.above is not None and warning.above > alert.above:
        raise RuleInvalid("A warning must come before the alert: its bound lies beyond.")
    if alert.below is not None and warning.below is not None and warning.below < alert.below:
        raise RuleInvalid("A warning must come before the alert: its bound lies beyond.")


class NamedStore:
    """Rules, or channels: named contents with versions in one table."""

    def __init__(
        self, engine: Engine, table: Table, kind: str, *, clock: Callable[[], int] = wall_clock
    ) -> None:
        self._engine = engine
        self._table = table
        self._kind = kind
        self._clock = clock

    def put(
        self,
        connection: Connection,
        name: str,
        content: msgspec.Struct,
        *,
        actor: str,
        expected_version: int | None,
    ) -> int:
        """Write the content and return its version; raise `AlertChanged` where another than expected is there."""
        row = queries.get_named(connection, self._table, name)
        found = 0 if row is None else row.version
        if expected_version is not None and expected_version != found:
            raise AlertChanged(self._kind, name, found)
        values = {
            "content": msgspec.to_builtins(content),
            "version": found + 1,
            "actor": actor[:200],
            "updated_ns": self._clock(),
        }
        try:
            if row is None:
                queries.add_named(connection, self._table, {"name": name, **values})
            elif not queries.replace_named(connection, self._table, name, found, values):
                raise AlertChanged(self._kind, name, found + 1)
        except IntegrityError as error:
            raise AlertChanged(self._kind, name, 1) from error
        return found + 1


def read_status(rule: str, row: Any) -> AlertStatus:
    """Return the status that a row of states holds; the first one where there is none."""
    return AlertStatus(rule=rule) if row is None else msgspec.convert(row.content, AlertStatus)
