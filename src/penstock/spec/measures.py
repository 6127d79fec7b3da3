"""What is asked of many spans at once, and the answer: measures, by dimensions, in a window cut into slices or not.

Values only: dashboards, alerts and reports keep and pass a `MetricQuery`, span stores answer it. A value nobody knows is
None, and each says how many spans stand behind it and how many could not be counted in.
"""

from decimal import Decimal
from typing import Literal

import msgspec

from penstock.spec.search import All, Condition
from penstock.spec.usage import TOKEN_CLASSES

Subject = Literal["trace", "call", "span"]
"""What is counted. `trace`: what came in, one a trace, described by its root. `call`: model calls with no other model call
below them, so that a call through an app or a client's own span counts once. `span`: every span that matches."""
Unit = Literal["count", "ms", "usd", "tokens", "share", "tokens/s", "score"]


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that can be measured."""

    name: str
    unit: Unit
    title: str
    text: str
    """What it is, and of which spans."""
    worst: Literal["highest", "lowest"] = "highest"
    """Which spans explain a bad value: the slowest, the dearest, the lowest score."""


_LATENCY = "from start to end, of those that ended and did not fail"
_TTFT = "until the first content, of streams that did not fail"
MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure(name="calls", unit="count", title="Calls", text="How many there were."),
        Measure(name="errors", unit="count", title="Errors", text="Those that failed."),
        Measure(
            name="error_share",
            unit="share",
            title="Error share",
            text="Part that failed, with Wilson interval.",
        ),
        *(
            Measure(name=f"{stem}_{which}", unit="ms", title=f"{title} {which}", text=f"Milliseconds {text}.")
            for stem, title, text in (("latency", "Latency", _LATENCY), ("ttft", "First content", _TTFT))
            for which in ("p50", "p90", "p95", "p99", "mean")
        ),
        *(
            Measure(
                name=f"overhead_{which}",
                unit="ms",
                title=f"Overhead {which}",
                text="Milliseconds the gateway itself took.",
            )
            for which in ("p50", "p95", "p99")
        ),
        Measure(
            name="output_rate",
            unit="tokens/s",
            title="Output speed",
            text="Median of output tokens a second, from first content (else start) to end, of those that did not fail.",
            worst="lowest",
        ),
        Measure(name="tokens", unit="tokens", title="Tokens", text="All tokens told, in and out."),
        Measure(
            name="input_tokens", unit="tokens", title="Input tokens", text="Tokens given, cached ones too."
        ),
        Measure(
            name="output_tokens", unit="tokens", title="Output tokens", text="Tokens answered, reasoning too."
        ),
        *(
            Measure(
                name=f"tokens.{name}",
                unit="tokens",
                title=name.replace("_", " ").capitalize(),
                text=f"Tokens of the class {name}.",
            )
            for name in TOKEN_CLASSES
        ),
        Measure(
            name="cost", unit="usd", title="Cost", text="Exact sum in dollars of those with a known price."
        ),
        Measure(
            name="cost_mean",
            unit="usd",
            title="Cost a call",
            text="Dollars a call, of those with a known price.",
        ),
        Measure(
            name="cache_hit_share",
            unit="share",
            title="Cache hits",
            text="Part that Penstock's cache answered, of those that asked it.",
            worst="lowest",
        ),
        Measure(
            name="prompt_cache_share",
            unit="share",
            title="Prompt cache",
            text="Part of the input tokens that the provider's cache held.",
            worst="lowest",
        ),
        Measure(
            name="attempts_mean",
            unit="count",
            title="Attempts",
            text="Requests to providers a call, of routed calls.",
        ),
        Measure(
            name="retried_share",
            unit="share",
            title="Retried",
            text="Part of routed calls that took more than one attempt.",
        ),
        Measure(name="sessions", unit="count", title="Sessions", text="Different sessions."),
        Measure(name="users", unit="count", title="Users", text="Different users."),
    )
}
"""Every measure but `score.NAME`: the mean of the scores of one name, with its interval."""
SCORE = "score."
DIMENSIONS: tuple[str, ...] = (
    "route",
    "model",
    "provider",
    "key",
    "user",
    "session",
    "project",
    "environment",
    "release",
    "agent",
    "tool",
    "prompt",
    "kind",
    "status",
    "error_code",
    "service",
    "name",
    "cache",
    "tag",
    "any_model",
    "any_provider",
)
"""What can be grouped by, besides `version.ASSET`, `metadata.NAME` and `attr.NAME`; the names are those of searches. A span with two tags
stands in both groups, and so does a trace in those of all models of its spans (`any_model`; `model` is its root's)."""
OPEN_DIMENSIONS = ("version.", "attr.", "metadata.")
MODEL_CALLS = ("llm", "embedding", "rerank")
"""Kinds of spans that are calls."""


_SUMS = frozenset({"calls", "errors", "sessions", "users", "cost", "tokens", "input_tokens", "output_tokens"})


class MetricQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Measures of what began in `[since_ns, until_ns)`, by every combination of the dimensions."""

    measures: tuple[str, ...]
    since_ns: int
    until_ns: int
    subject: Subject = "call"
    by: tuple[str, ...] = ()
    where: Condition = All()
    bucket_ns: int | None = None
    """Width of slices, which begin at multiples of it since the epoch (UTC); None for the window as one."""
    limit: int = 50
    """Most groups that are answered: those with most of the first measure where it is a sum, else with most behind them."""


class MetricCell(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One value."""

    value: float | None
    """None where nothing is known, which is not 0."""
    n: int
    """How many spans (for `score.NAME`: scores) stand behind the value."""
    n_left_out: int = 0
    """How many should have been counted in but do not say: calls without price, without usage."""
    low: float | None = None
    high: float | None = None
    """The 95 % interval of a share or a mean."""
    exact: Decimal | None = None
    """A sum of money with every digit."""


class MetricRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The values of one group, in one slice."""

    cells: dict[str, MetricCell]
    """By measure, each one that was asked."""
    n: int
    """How many traces, calls or spans matched."""
    group: dict[str, str | None] = {}
    """Dimension → value; None for those that have none."""
    start_ns: int | None = None
    """Where the slice begins; None for the window as one."""


class MetricTable(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: rows by group (as `limit` ranks them), within a group by time; empty slices and groups have no row."""

    rows: list[MetricRow]
    n_groups: int
    """How many groups there are, also where fewer are answered."""
    n_matched: int
    """How many traces, calls or spans matched, in all groups."""


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A span that a value rests on."""

    trace_id: str
    span_id: str
    start_ns: int
    value: float | None
    """What it weighs in the measure; None where it only counts."""


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """The two windows of a comparison, of one length."""

    since_ns: int
    until_ns: int
    before_since_ns: int
    before_until_ns: int


def find_measure(name: str) -> Measure | None:
    """Return the measure of this name, or None."""
    if name.startswith(SCORE) and len(name) > len(SCORE):
        score = name[len(SCORE) :]
        return Measure(
            name=name, unit="score", title=score, text=f"Mean of the scores {score}.", worst="lowest"
        )
    return MEASURES.get(name)


def is_sum(name: str) -> bool:
    """Return whether a measure is 0, and not unknown, where there is nothing at all."""
    return name in _SUMS or name.startswith("tokens.")


def is_dimension(name: str) -> bool:
    """Return whether one can group by this name."""
    return name in DIMENSIONS or any(
        name.startswith(stem) and len(name) > len(stem) for stem in OPEN_DIMENSIONS
    )
