"""`penstock traces`: list, show. Asks the running control process; of a stopped home it reads the file."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import msgspec
import typer

from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import (
    print_json,
    print_lines,
    print_record,
    printable,
    readable_lines,
)
from penstock.cli.trace_lists import export, list_spans, list_traces, show_fields
from penstock.cli.trace_remap import remap
from penstock.cli.trace_scores import score
from penstock.cli.trace_upkeep import compact, expire
from penstock.spec.usage import Usage

with late_imports():
    from penstock.main import trace_access

app = noun_app("What happened: list, spans, show, score, fields, export.")
app.command(
    "score", epilog="Example: penstock traces score 4bf92f3577b34da6a3ce929d0e0e4736 --name helpful --value 1"
)(score)
app.command("remap", epilog="Example: penstock traces remap")(remap)
app.command(
    "list", epilog="Example: penstock traces list 'status:ok child(status:error)' --since 1h --limit 20"
)(list_traces)
app.command("spans", epilog="Example: penstock traces spans 'kind:llm duration>2s' --order slowest")(
    list_spans
)
app.command("fields", epilog="Example: penstock traces fields")(show_fields)
app.command(
    "export", epilog="Example: penstock traces export 'status:error' --since 7d --out errors.parquet"
)(export)
app.command("expire", epilog="Example: penstock traces expire --dry-run")(expire)
app.command("compact", epilog="Example: penstock traces compact")(compact)
ID_LENGTH = 32
SHORTEST_START = 4
N_NAMED = 10
"""How many traces with the same beginning are counted."""
TREE_STEP = "· "
ORPHAN = " (orphan: its parent has not come)"
"""Indents a span below its parent; visible, because cells lose leading blanks."""
ATTEMPT_FAILED = "attempt failed"
"""Name of the events that tell of attempts which did not serve their call."""


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
    with trace_access.open_traces(open_home(home, as_json=as_json)) as traces:
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
    return {"depth": row.get("depth", 0), "is_orphan": row.get("is_orphan", False), **row["span"]}


def _whole_id(traces: trace_access.TraceAccess, start: str) -> str:
    """Return the id of the one trace that begins with `start`; `start` itself when none does."""
    if not SHORTEST_START <= len(start) < ID_LENGTH or start.strip("0123456789abcdefABCDEF"):
        return start
    rows = traces.list_traces({"q": f"trace:{start}*", "limit": N_NAMED})["rows"]
    if len(rows) > 1:
        more = "or more " if len(rows) == N_NAMED else ""
        raise InvalidInput(f"{len(rows)} {more}traces begin with {start!r}.", hint="Write more of the id.")
    return str(rows[0]["trace_id"]) if rows else start


def _tree_row(span: dict[str, Any], start_ns: int) -> dict[str, Any]:
    usage = msgspec.convert(span["usage"], Usage) if span.get("usage") else Usage()
    return {
        **span,
        "span": TREE_STEP * span["depth"] + span["name"] + (ORPHAN if span["is_orphan"] else ""),
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


def _add_content(traces: trace_access.TraceAccess, trace_id: str, spans: list[dict[str, Any]]) -> None:
    for span in spans:
        payload = traces.get_payload(trace_id, span["span_id"])
        span["input"], span["output"] = payload.get("input"), payload.get("output")


def _tokens(read: int | None, written: int | None) -> str:
    return " + ".join("-" if count is None else str(count) for count in (read, written))
