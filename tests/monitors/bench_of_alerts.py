"""Everything behind alerts with a clock that is set and measures that are told: what the tests of the room share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine

from penstock.base.errors import InvalidInput
from penstock.monitors.channels import ChannelService
from penstock.monitors.delivery import Delivery, Sender
from penstock.monitors.errors import SecretMissing
from penstock.monitors.evaluator import Evaluator
from penstock.monitors.service import AlertService
from penstock.monitors.types import ChannelContent, RuleContent, Threshold
from penstock.spec.measures import Example, MetricCell, MetricQuery, MetricRow, MetricTable, Subject
from penstock.spec.search import All, Condition, Words

S = 1_000_000_000
T0 = 1_790_000_000 * S


@dataclass
class ToldMeasures:
    """Measures that say what they are told, and remember what they were asked."""

    values: dict[str, float | None] = field(default_factory=dict)
    n: int = 100
    fault: Exception | None = None
    asked: list[MetricQuery] = field(default_factory=list)

    def measure(self, query: MetricQuery) -> MetricTable:
        """Return the told values as one row."""
        self.asked.append(query)
        if self.fault is not None and query.until_ns > 1:
            raise self.fault
        cells = {name: MetricCell(value=self.values.get(name), n=self.n) for name in query.measures}
        return MetricTable(
            rows=[MetricRow(cells=cells, n=self.n)] if self.n else [], n_groups=1, n_matched=self.n
        )

    def find_examples(self, query: MetricQuery, *, limit: int, lowest: bool = False) -> list[Example]:
        """Return one example that says from which end it is."""
        span = f"{int(lowest):016x}"
        return [Example(trace_id="a" * 32, span_id=span, start_ns=query.since_ns, value=1.0)]

    def list_values(self, dimension: str, since_ns: int, until_ns: int, *, limit: int) -> list[str]:
        """Return nothing."""
        return []


def parse(text: str, subject: Subject) -> Condition:
    """Stand in for the search language: words alone, and `(` is a fault."""
    if "(" in text:
        raise InvalidInput("The search cannot be read.")
    return Words(text) if text else All()


class Bench:
    """The services of the room over one engine."""

    def __init__(self, engine: Engine, *, secrets: dict[str, str] | None = None) -> None:
        self.engine = engine
        self.now = T0
        self.measures = ToldMeasures()
        self.secrets = secrets or {}
        options: dict[str, Any] = {
            "parse": parse,
            "find_console_url": lambda: "http://console.test/",
            "clock": self.clock,
        }
        self.alerts = AlertService(engine, self.measures, **options)
        self.channels = ChannelService(engine, clock=self.clock)
        self.evaluator = Evaluator(engine, self.measures, **options)
        self.delivery = Delivery(engine, Sender(self.read_secret, clock=self.clock), clock=self.clock)

    def clock(self) -> int:
        """Return the time that was set."""
        return self.now

    def read_secret(self, *, env: str | None, secret: str | None, url: str | None) -> str:
        """Return what a channel names."""
        name = env or secret or ""
        if name not in self.secrets:
            raise SecretMissing(f"There is no {name}.")
        return self.secrets[name]

    def hook(self, url: str, name: str = "hook", **fields: Any) -> None:
        """Make a webhook channel."""
        content = ChannelContent(**{"kind": "webhook", "url": url, "allow_private": True, **fields})
        self.channels.put(name, content, actor="ann")

    def rule(self, name: str = "errors", **fields: Any) -> RuleContent:
        """Make a rule on the error share, above 0.1."""
        defaults: dict[str, Any] = {
            "measure": "error_share",
            "window_s": 300,
            "alert": Threshold(above=0.1, recover=0.05),
            "every_s": 30,
        }
        content = RuleContent(**{**defaults, **fields})
        self.alerts.put(name, content, actor="ann")
        return content

    def step(self, seconds: int = 30, **values: float | None) -> list[str]:
        """Let time pass, measure these values, and return all states."""
        self.now += seconds * S
        self.measures.values |= values
        self.evaluator.run_once()
        return [view.status.state for view in self.alerts.list()]

    def messages(self) -> Sequence[tuple[str, str, str]]:
        """Return kind and state of what the messages tell, oldest first, and what became of each."""
        found = reversed(self.channels.messages(limit=500))
        return [(one.payload["kind"], one.payload["state"], one.state) for one in found]
