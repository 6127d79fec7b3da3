"""Columns of the lists of traces and spans: which there are, which are shown, and what orders by them.

Their names are those of the fields of rows, as REST, the command line and saved views have them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from penstock.store.spans.types import Order

View = Literal["traces", "spans"]


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column. `css` says how it is set and whether a phone shows it."""

    name: str
    label: str
    css: str = ""
    order: Order | None = None
    """The order that a click on its head asks for."""
    title: str = ""


_ASKED = Column(name="asked", label="Asked")
_SHARED = (
    Column(name="route", label="Route", css="wide mid"),
    Column(name="model", label="Model", css="wide mid"),
    Column(name="provider", label="Provider", css="wide mid"),
    Column(name="status", label="Status"),
    Column(name="error_code", label="Error", css="wide", title="Code of the error"),
    Column(name="duration_ms", label="Duration", css="num", order="slowest"),
    Column(name="ttft_ms", label="First token", css="num wide"),
    Column(name="input_tokens", label="Tokens in", css="num wide", order="longest"),
    Column(name="output_tokens", label="out", css="num wide", title="Tokens out"),
    Column(name="tokens", label="Tokens", css="num wide", order="longest", title="In and out"),
    Column(name="cost_usd", label="Cost", css="num wide", order="dearest"),
)
_WHO = (
    Column(name="user_id", label="User", css="wide mid"),
    Column(name="session_id", label="Session", css="wide mid"),
    Column(name="key_id", label="Key", css="wide mid mono"),
    Column(name="project", label="Project", css="wide mid"),
)
_STARTED = Column(name="start_ns", label="Started", css="num", order="newest")
COLUMNS: dict[View, tuple[Column, ...]] = {
    "traces": (
        _ASKED,
        Column(name="name", label="Name", css="mid"),
        Column(name="kind", label="Kind", css="wide mid"),
        *_SHARED,
        Column(name="n_spans", label="Spans", css="num wide"),
        Column(name="n_errors", label="Errors", css="num wide", title="Spans that failed"),
        Column(name="n_model_calls", label="Calls", css="num wide", title="Calls of models"),
        *_WHO,
        Column(name="environment", label="Environment", css="wide mid"),
        Column(name="release", label="Release", css="wide mid"),
        Column(name="agent", label="Agent", css="wide mid"),
        Column(name="tags", label="Tags", css="wide mid"),
        Column(name="cache", label="Cache", css="wide mid"),
        Column(name="trace_id", label="Trace", css="wide mono mid"),
        _STARTED,
    ),
    "spans": (
        Column(name="asked", label="Span"),
        Column(name="kind", label="Kind", css="mid"),
        Column(name="preview", label="Asked", css="wide mid"),
        *_SHARED,
        *_WHO,
        Column(name="service", label="Service", css="wide mid"),
        Column(name="span_id", label="Span id", css="wide mono mid"),
        _STARTED,
    ),
}
DEFAULTS: dict[View, tuple[str, ...]] = {
    "traces": (
        "asked",
        "name",
        "route",
        "model",
        "status",
        "duration_ms",
        "ttft_ms",
        "input_tokens",
        "output_tokens",
        "cost_usd",
        "n_spans",
        "start_ns",
    ),
    "spans": (
        "asked",
        "kind",
        "model",
        "status",
        "duration_ms",
        "ttft_ms",
        "input_tokens",
        "output_tokens",
        "cost_usd",
        "start_ns",
    ),
}
ORDERS: tuple[tuple[Order, str], ...] = (
    ("newest", "newest first"),
    ("oldest", "oldest first"),
    ("slowest", "slowest first"),
    ("dearest", "dearest first"),
    ("longest", "most tokens first"),
)


def choose_columns(view: View, names: Sequence[str]) -> tuple[Column, ...]:
    """Return the named columns as they are named, unknown ones left out; what was asked always comes first."""
    known = {each.name: each for each in COLUMNS[view]}
    wanted = [name for name in dict.fromkeys(names) if name in known] or list(DEFAULTS[view])
    return tuple(known[name] for name in ("asked", *(name for name in wanted if name != "asked")))


def read_view(text: str) -> View:
    """Return the list that the URL names; anything unknown is that of traces."""
    return "spans" if text == "spans" else "traces"


def read_order(text: str) -> Order:
    """Return the order that the URL names; anything unknown is the newest first."""
    return next((name for name, _ in ORDERS if name == text), "newest")
