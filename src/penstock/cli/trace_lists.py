"""`penstock traces list`, `spans`, `fields` and `export`: what a search finds."""

from __future__ import annotations

import json
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import count as rounds_without_end
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.base.errors import InvalidInput, suggest
from penstock.base.late import late_imports
from penstock.cli.objects import open_rooms
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, open_home
from penstock.cli.output import print_json, print_lines, print_rows, time_text, to_plain
from penstock.cli.saving import print_pieces, save_pieces
from penstock.store.spans.types import Order

with late_imports():
    from penstock.main import trace_list_access
    from penstock.traces import exports, views
    from penstock.traces import lists as search_lists

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
POLL_S = 1.0
SETTLE_NS = 60 * 1_000_000_000
"""How long a trace that is not finished is waited for before it is shown as it is."""
LOOK_BACK_NS = 300 * 1_000_000_000
MAX_SEEN = 20_000
_TRACE_SHOWN = (
    "trace_id",
    "time",
    "name",
    "route",
    "model",
    "status",
    "ms",
    "n_spans",
    "tokens",
    "cost_usd",
    "preview",
)
_SPAN_SHOWN = (
    "trace_id",
    "span_id",
    "time",
    "name",
    "kind",
    "model",
    "status",
    "ms",
    "tokens",
    "cost_usd",
    "preview",
)
_GIVE_UP = (
    "n_spans",
    "kind",
    "name",
    "model",
    "cost_usd",
    "tokens",
    "preview",
    "ms",
    "time",
    "status",
    "route",
)
_FOR_PEOPLE = {"start_ns": "time", "duration_ms": "ms"}
_DERIVED = ("time", "ms", "tokens")

QueryArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[SEARCH]",
        help="What to look for, such as 'kind:llm duration>2s'; see `penstock traces fields`.",
    ),
]
LimitOption = Annotated[int, typer.Option(min=1, max=500, help="How many.")]
SinceOption = Annotated[str | None, typer.Option(help="Not older than, such as 15m, 2h, 7d.")]
OrderOption = Annotated[
    Order | None, typer.Option(help="newest, oldest, slowest, dearest or longest (most tokens).")
]
ColumnsOption = Annotated[str | None, typer.Option(help="Columns to print, separated by commas.")]
ViewOption = Annotated[str | None, typer.Option(help="A saved view: its search, columns and order.")]
CountOption = Annotated[bool, typer.Option("--count", help="Only say how many there are.")]
FollowOption = Annotated[bool, typer.Option("--follow", "-f", help="Go on and print what comes in.")]


def list_traces(
    query: QueryArgument = None,
    *,
    limit: LimitOption = 20,
    since: SinceOption = None,
    order: OrderOption = None,
    columns: ColumnsOption = None,
    view: ViewOption = None,
    follow: FollowOption = False,
    count: CountOption = False,
    route: Annotated[str | None, typer.Option(help="The model name clients used.")] = None,
    model: Annotated[str | None, typer.Option(help="The model that answered.")] = None,
    status: Annotated[str | None, typer.Option(help="ok or error.")] = None,
    text: Annotated[str | None, typer.Option(help="Words in names or payloads.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List traces, newest first, or the ones that a search finds."""
    if status not in {None, "ok", "error", "unset"}:
        raise InvalidInput(f"{status!r} is no status.", hint="Use ok or error.")
    asked = _Asked(
        "trace", home, query, since=since, order=order, columns=columns, view=view, as_json=as_json
    )
    named = {"route": route, "model": model, "status": status, "text": text}
    asked.show({**named, "limit": limit}, count=count, follow=follow)


def list_spans(
    query: QueryArgument = None,
    *,
    limit: LimitOption = 20,
    since: SinceOption = None,
    order: OrderOption = None,
    columns: ColumnsOption = None,
    view: ViewOption = None,
    follow: FollowOption = False,
    count: CountOption = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List spans of any trace, newest first, or the ones that a search finds."""
    asked = _Asked("span", home, query, since=since, order=order, columns=columns, view=view, as_json=as_json)
    asked.show({"limit": limit}, count=count, follow=follow)


def show_fields(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List everything that a search can ask for, with an example of each."""
    open_home(home, as_json=as_json)
    fields = [
        {"name": field.name, "help": field.help, "example": field.example, "aliases": list(field.aliases)}
        for field in search_lists.list_fields()
    ]
    print_rows(fields, ("name", "help", "example", "aliases"), as_json=as_json)


def export(
    query: QueryArgument = None,
    *,
    out: Annotated[str, typer.Option(help="File to write; - for standard output.")] = "-",
    form: Annotated[
        str | None,
        typer.Option("--format", help="jsonl, otlp or parquet.  [default: by the file's name, else jsonl]"),
    ] = None,
    spans: Annotated[
        bool, typer.Option("--spans", help="Search single spans; without, whole traces are exported.")
    ] = False,
    since: SinceOption = None,
    view: ViewOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Write spans with all they hold into a file: those of the traces that a search finds."""
    chosen = form or ("parquet" if out.endswith(".parquet") else "jsonl")
    if chosen not in exports.FORMATS:
        raise InvalidInput(f"There is no export as {chosen!r}.", hint=f"Use {', '.join(exports.FORMATS)}.")
    if chosen == "parquet" and out == "-":
        raise InvalidInput("Parquet needs a file.", hint="Add --out spans.parquet.")
    asked = _Asked(
        "span" if spans else "trace",
        home,
        query,
        since=since,
        order=None,
        columns=None,
        view=view,
        as_json=as_json,
    )
    with trace_list_access.open_trace_lists(asked.home) as lists:
        pieces = lists.export(asked.subject, asked.filters(), chosen)
        size = print_pieces(pieces) if out == "-" else save_pieces(pieces, Path(out))
    if out == "-":
        return
    if as_json:
        print_json({"file": out, "format": chosen, "size_bytes": size})
    else:
        print(f"{out}: {size:,} bytes as {chosen}")


class _Asked:
    """What a list is asked for, from arguments and a saved view."""

    def __init__(
        self,
        subject: trace_list_access.Subject,
        home: Path,
        query: str | None,
        *,
        since: str | None,
        order: str | None,
        columns: str | None,
        view: str | None,
        as_json: bool,
    ) -> None:
        self.subject: trace_list_access.Subject = subject
        self.home = open_home(home, as_json=as_json)
        self._as_json = as_json
        kept = None if view is None else _view(home, view, as_json=as_json)
        self._query = query if kept is None else join_searches(kept.query, query)
        self._order = order or (kept.order if kept is not None else None)
        of_view = [_FOR_PEOPLE.get(name, name) for name in kept.columns] if kept is not None else []
        chosen = columns.split(",") if columns else of_view
        for name in chosen:
            _check_column(name, subject)
        self._columns = tuple(chosen) or (_TRACE_SHOWN if subject == "trace" else _SPAN_SHOWN)
        self._since_ns = None if since is None else time.time_ns() - length_ns(since)

    def filters(self) -> dict[str, object]:
        """Return the filters of the URL."""
        return {"q": self._query, "order": self._order, "since_ns": self._since_ns}

    def show(self, more: trace_list_access.Filters, *, count: bool, follow: bool) -> None:
        """Print the rows, their number, or the rows and whatever comes after them."""
        filters = {**self.filters(), **more}
        with trace_list_access.open_trace_lists(self.home) as lists:
            if count:
                self._print_count(
                    lists.count(
                        self.subject,
                        {name: filters[name] for name in filters if name not in {"limit", "order"}},
                    )
                )
            elif follow:
                for rows in follow_rows(lists, self.subject, filters):
                    self._print_followed(rows)
            else:
                self._print(lists.list_rows(self.subject, filters)["rows"])

    def _print(self, rows: list[dict[str, Any]]) -> None:
        if self._as_json:
            print_json(rows)
            return
        is_terminal = sys.stdout.isatty()
        shown = [readable_row(row, is_terminal=is_terminal) for row in rows]
        empty = "Nothing found." if self._query else "No traces yet: make a call through the gateway."
        print_lines(shown, self._columns, give_up=_GIVE_UP, shorten="preview", empty=empty)

    def _print_followed(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            if self._as_json:
                print(json.dumps(to_plain(row), ensure_ascii=False), flush=True)
                continue
            cells = readable_row(row, is_terminal=True)
            print(
                "\t".join("-" if cells.get(name) is None else str(cells[name]) for name in self._columns),
                flush=True,
            )

    def _print_count(self, found: dict[str, Any]) -> None:
        if self._as_json:
            print_json(found)
        else:
            print(f"{found['n']:,}{'+' if found['is_more'] else ''}")


def _check_column(name: str, subject: trace_list_access.Subject) -> None:
    known = (*(views.TRACE_COLUMNS if subject == "trace" else views.SPAN_COLUMNS), *_DERIVED)
    if name not in known:
        raise InvalidInput(f"There is no column {name!r}.", hint=suggest(name, known) or ", ".join(known))


def follow_rows(
    lists: trace_list_access.TraceListAccess,
    subject: trace_list_access.Subject,
    filters: trace_list_access.Filters,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], int] = time.time_ns,
    rounds: Iterator[int] | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """Yield the newest rows, oldest first, and then whatever comes in, each once it is finished or old enough."""
    seen: OrderedDict[str, None] = OrderedDict()
    asked: dict[str, object] = {**filters, "order": "newest"}
    for number in rounds if rounds is not None else rounds_without_end():
        if number:
            sleep(POLL_S)
            asked = {**asked, "since_ns": clock() - LOOK_BACK_NS, "limit": 500}
        rows = []
        for row in reversed(lists.list_rows(subject, asked)["rows"]):
            key = f"{row['trace_id']}{row.get('span_id', '')}"
            is_ready = row.get("duration_ms") is not None or clock() - row["start_ns"] > SETTLE_NS
            if key not in seen and (is_ready or not number):
                seen[key] = None
                rows.append(row)
        while len(seen) > MAX_SEEN:
            seen.popitem(last=False)
        if rows:
            yield rows


def readable_row(row: dict[str, Any], *, is_terminal: bool) -> dict[str, Any]:
    """Return a row with its times, durations and tokens for people."""
    moment = time_text(row["start_ns"]) or ""
    known = [None if row.get(name) is None else str(row[name]) for name in ("input_tokens", "output_tokens")]
    return {
        **row,
        "time": moment[5:19].replace("T", " ")
        if is_terminal
        else moment,  # month to second fits beside an id
        "ms": row.get("duration_ms"),
        "tokens": " + ".join("-" if each is None else each for each in known),
    }


def join_searches(first: str, second: str | None) -> str:
    """Return the search that asks for both."""
    if not first or not second:
        return first or second or ""
    return f"({first}) ({second})"


def length_ns(text: str) -> int:
    """Return nanoseconds of a length of time such as 15m."""
    number, unit = text[:-1], text[-1:]
    if not number.isdigit() or unit not in UNITS_S:
        raise InvalidInput(f"{text!r} is no length of time.", hint="Write it like 90s, 15m, 2h or 7d.")
    return int(number) * UNITS_S[unit] * 1_000_000_000


def _view(home: Path, name: str, *, as_json: bool) -> views.SavedView:
    return views.ViewService(open_rooms(home, as_json=as_json).engine).get(name)
