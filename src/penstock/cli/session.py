"""`penstock session`: list, show. Conversations over several traces, as they were led."""

import time
from typing import Annotated, Any

import typer

from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_lines, print_record, printable, readable_lines, time_text
from penstock.store.spans.session_types import SessionOrder, SessionQuery, SessionRow, Turn

with late_imports():
    from penstock.main import session_access

app = noun_app("Conversations over several traces: list, show.")
ORDERS = ("recent", "dearest", "longest", "failed")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
SinceOption = Annotated[str | None, typer.Option(help="With a turn not older than, such as 2h or 7d.")]
OrderOption = Annotated[SessionOrder, typer.Option(help="recent, dearest, longest or failed.")]
LimitOption = Annotated[int, typer.Option(min=1, max=500, help="How many.")]


@app.command("list", epilog="Example: penstock session list --since 7d --order dearest")
def list_sessions(
    *,
    limit: LimitOption = 20,
    since: SinceOption = None,
    user: Annotated[str | None, typer.Option(help="Who took part.")] = None,
    text: Annotated[str | None, typer.Option(help="A part of the id.")] = None,
    order: OrderOption = "recent",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List sessions with turns, failures, tokens and money."""
    opened = open_home(home, as_json=as_json)
    query = SessionQuery(limit=limit, since_ns=since_ns(since), user_id=user, text=text, order=order)
    with session_access.open_sessions(opened) as sessions:
        rows = sessions.list_sessions(query).rows
    print_sessions(rows, as_json=as_json)


@app.command(epilog="Example: penstock session show support-4711")
def show(
    session_id: Annotated[str, typer.Argument(help="The session's id.")],
    *,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many turns, from the first.")] = 50,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show one session: its sums, and what was said turn by turn."""
    with session_access.open_sessions(open_home(home, as_json=as_json)) as sessions:
        view = sessions.show_session(session_id, limit=limit)
    if as_json:
        print_json(view)
        return
    print_record(_record(view.summary), as_json=False)
    for number, turn in enumerate(view.turns, 1):
        _print_turn(number, turn)
    if view.next_cursor is not None:
        print(f"\n{view.summary.n_turns - len(view.turns)} more turns: --limit shows up to 200.")


def since_ns(text: str | None) -> int | None:
    """Return the moment that is so long ago; raise `InvalidInput` for what is no length of time."""
    if text is None:
        return None
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit()) or unit not in _UNITS_S:
        raise InvalidInput(f"{text!r} is no length of time.", hint="Write it like 90s, 15m, 2h or 7d.")
    return max(0, time.time_ns() - int(number) * _UNITS_S[unit] * 1_000_000_000)


def print_sessions(rows: list[SessionRow], *, as_json: bool) -> None:
    """Print sessions as lines, or JSON."""
    if as_json:
        print_json(rows)
        return
    print_lines(
        [_record(row) for row in rows],
        ["session_id", "last_turn", "turns", "failed", "tokens", "cost_usd", "users", "first_question"],
        give_up=("users", "tokens", "failed", "cost_usd", "first_question", "last_turn", "turns"),
        shorten="first_question",
        empty="No session here: calls name theirs with the header x-penstock-session, spans as session.id.",
    )


def _record(row: SessionRow) -> dict[str, Any]:
    tokens = " + ".join("-" if each is None else str(each) for each in (row.input_tokens, row.output_tokens))
    return {
        "session_id": row.session_id,
        "first_turn": time_text(row.first_ns),
        "last_turn": time_text(row.last_ns),
        "turns": row.n_turns,
        "failed": row.n_failed,
        "tokens": tokens,
        "cost_usd": row.cost_usd,
        "calls_without_price": row.n_unpriced,
        "users": row.users,
        "scores": [f"{each.name} {'-' if each.mean is None else f'{each.mean:.3g}'}" for each in row.scores],
        "first_question": row.preview,
    }


def _print_turn(number: int, turn: Turn) -> None:
    took = "open" if turn.duration_ms is None else f"{turn.duration_ms:,.0f} ms"
    fault = f" [{turn.error_code}]" if turn.error_code else ""
    print(
        f"\n{number}. {time_text(turn.start_ns)}  {printable(turn.model or turn.name)}"
        f"  {turn.status}{printable(fault)}  {took}  {turn.trace_id}"
    )
    for title, value in (("in", turn.input), ("out", turn.output)):
        if value is not None:
            print(f"  {title}")
            for line in readable_lines(value):
                print(f"    {line}")
    if turn.is_large:
        print(f"  too large to be shown here: penstock traces show {turn.trace_id} --content")
    for score in turn.scores:
        told = score.label if score.value is None else f"{score.value:.3g}"
        print(
            f"  {printable(score.name)}: {printable(str(told))} by {printable(score.scorer or score.source)}"
        )
