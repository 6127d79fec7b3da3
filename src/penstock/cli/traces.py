"""`penstock traces`: list, show. Asks the running control process; of a stopped home it reads the file."""

import sys
import time
from typing import Annotated, Any

import msgspec
import typer

from penstock.base.errors import InvalidInput
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import (
    print_json,
    print_lines,
    print_record,
    printable,
    readable_lines,
    time_text,
)
from penstock.cli.trace_scores import score
from penstock.main.trace_access import TraceAccess, open_traces
from penstock.spec.usage import Usage

app = noun_app("What happened: list, show, score.")
app.command(
    "score", epilog="Example: penstock traces score 4bf92f3577b34da6a3ce929d0e0e4736 --name helpful --value 1"
)(score)
ID_LENGTH = 32
SHORTEST_START = 4
N_RECENT = 500
"""Among how many of the newest traces the beginning of an id is looked up."""
TREE_STEP = "· "
"""Indents a span below its parent; visible, because cells lose leading blanks."""
ATTEMPT_FAILED = "attempt failed"
"""Name of the events that tell of attempts which did not serve their call."""
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@app.command("list", epilog="Example: penstock traces list --route handbook --since 1h --limit 20")
def list_traces(
    *,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many.")] = 20,
    since: Annotated[str | None, typer.Option(help="Not older than, such as 15m, 2h, 7d.")] = None,
    route: Annotated[str | None, typer.Option(help="The model name clients used.")] = None,
    model: Annotated[str | None, typer.Option(help="The model that answered.")] = None,
    status: Annotated[str | None, typer.Option(help="ok or error.")] = None,
    text: Annotated[str | None, typer.Option(help="Words in names or payloads.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List traces, newest first."""
    opened = open_home(home, as_json=as_json)
    if status not in {None, "ok", "error", "unset"}:
        raise InvalidInput(f"{status!r} is no status.", hint="Use ok or error.")
    filters = {
        "limit": limit,
        "since_ns": None if since is None else time.time_ns() - _span_ns(since),
        "route": route,
        "model": model,
        "status": status,
        "text": text,
    }
    with open_traces(opened) as traces:
        rows = traces.list_traces(filters)["rows"]
    if as_json:
        print_json(rows)
        return
    is_terminal = sys.stdout.isatty()
    rows = [
        {
            **row,
            "time": _short_time(row["start_ns"]) if is_terminal else time_text(row["start_ns"]),
            "ms": row.get("duration_ms"),
            "tokens": _tokens(row.get("input_tokens"), row.get("output_tokens")),
            "spans" if is_terminal else "n_spans": row.get("n_spans"),
        }
        for row in rows
    ]
    columns = [
        "trace_id",
        "time",
        "name",
        "route",
        "model",
        "status",
        "ms",
        "spans" if is_terminal else "n_spans",
        "tokens",
        "cost_usd",
        "preview",
    ]
    print_lines(
        rows,
        columns,
        give_up=("spans", "name", "model", "cost_usd", "tokens", "preview", "ms", "time", "status", "route"),
        shorten="preview",
        empty="No traces yet: make a call through the gateway.",
    )


@app.command(epilog="Example: penstock traces show 4bf92f3577b34da6a3ce929d0e0e4736 --json")
def show(
    trace_id: Annotated[
        str,
        typer.Argument(help="The trace's id, from `x-penstock-trace-id` or the list; its beginning will do."),
    ],
    content: Annotated[
        bool, typer.Option("--content", help="Also what went in and out of each span.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show one trace: its spans in order, versions, tokens, money, and why calls or attempts failed."""
    with open_traces(open_home(home, as_json=as_json)) as traces:
        view = traces.show_trace(_whole_id(traces, trace_id))
        spans = [_span_row(row) for row in view["waterfall"]["rows"]]
        if content:
            _add_content(traces, view["trace_id"], spans)
    if as_json:
        kept = {name: view.get(name) for name in ("trace_id", "summary", "versions", "cost_usd", "models")}
        print_json({**kept, "spans": spans})
        return
    print_record(
        {"trace": view["trace_id"], "cost_usd": view.get("cost_usd"), **view["versions"]}, as_json=False
    )
    start_ns = view["waterfall"]["start_ns"]
    rows = [_tree_row(span, start_ns) for span in spans]
    columns = ("span", "kind", "status", "start", "ms", "route", "model", "tokens", "cost_usd")
    if sys.stdout.isatty():
        print()
    print_lines(rows, columns, give_up=("kind", "route", "cost_usd", "tokens", "model", "start", "status"))
    for span in spans:
        _print_failures(span)
    if content:
        for span in spans:
            _print_content(span)


def _span_row(row: dict[str, Any]) -> dict[str, Any]:
    return {"depth": row.get("depth", 0), **row["span"]}


def _whole_id(traces: TraceAccess, start: str) -> str:
    """Return the id of the one recent trace that begins with `start`; `start` itself when none does."""
    if not SHORTEST_START <= len(start) < ID_LENGTH:
        return start
    rows = traces.list_traces({"limit": N_RECENT})["rows"]
    found = [str(row["trace_id"]) for row in rows if str(row["trace_id"]).startswith(start.lower())]
    if len(found) > 1:
        raise InvalidInput(f"{len(found)} recent traces begin with {start!r}.", hint="Write more of the id.")
    return found[0] if found else start


def _tree_row(span: dict[str, Any], start_ns: int) -> dict[str, Any]:
    usage = msgspec.convert(span["usage"], Usage) if span.get("usage") else Usage()
    return {
        **span,
        "span": TREE_STEP * span["depth"] + span["name"],
        "start": (span["start_ns"] - start_ns) / 1e6,
        "ms": None if span.get("end_ns") is None else (span["end_ns"] - span["start_ns"]) / 1e6,
        "tokens": _tokens(usage.input_tokens, usage.output_tokens) if span.get("usage") else None,
    }


def _print_failures(span: dict[str, Any]) -> None:
    """Print the error of a span and its attempts that did not serve it, each with its reason."""
    tried = [event["attributes"] for event in span.get("events") or [] if event["name"] == ATTEMPT_FAILED]
    is_attempt = span.get("kind") == "attempt"  # stands among those of its call
    is_failed = span.get("status") == "error" and not is_attempt
    if not tried and not is_failed:
        return
    print(f"\n{printable(span['name'])}")
    if is_failed:
        code = f" [{printable(span['error_code'])}]" if span.get("error_code") else ""
        print(f"  error{code}: {printable(span.get('status_message') or 'no text')}")
    for each in tried:
        facts = [each.get("fault"), f"HTTP {each['http_status']}" if each.get("http_status") else None]
        shown = ", ".join(str(fact) for fact in (each.get("outcome"), *facts) if fact)
        place = f"{each.get('provider')} ({each.get('model')})"
        print(
            f"  {printable(place)}: {printable(shown)}: {printable(str(each.get('reason') or 'no reason'))}"
        )


def _print_content(span: dict[str, Any]) -> None:
    print(f"\n{printable(span['name'])}")
    for title, value in (("in", span.get("input")), ("out", span.get("output"))):
        if value is None:
            continue
        print(f"  {title}")
        for line in readable_lines(value):
            print(f"    {line}")


def _add_content(traces: TraceAccess, trace_id: str, spans: list[dict[str, Any]]) -> None:
    for span in spans:
        payload = traces.get_payload(trace_id, span["span_id"])
        span["input"], span["output"] = payload.get("input"), payload.get("output")


def _span_ns(text: str) -> int:
    number, unit = text[:-1], text[-1:]
    if not number.isdigit() or unit not in _UNITS_S:
        raise InvalidInput(f"{text!r} is no length of time.", hint="Write it like 90s, 15m, 2h or 7d.")
    return int(number) * _UNITS_S[unit] * 1_000_000_000


def _short_time(stamp_ns: int) -> str:
    """Return month to second, UTC: what fits beside an id."""
    return (time_text(stamp_ns) or "")[5:19].replace("T", " ")


def _tokens(read: int | None, written: int | None) -> str:
    return " + ".join("-" if count is None else str(count) for count in (read, written))
