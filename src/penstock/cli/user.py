"""`penstock user`: list, show. Who asked how much, what it cost and how it went."""

from typing import Annotated, Any

import typer

from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_lines, print_record, time_text
from penstock.cli.session import LimitOption, OrderOption, SinceOption, print_sessions, since_ns
from penstock.store.spans.session_types import UserQuery, UserRow

with late_imports():
    from penstock.main import session_access

app = noun_app("Who calls: list, show.")


@app.command("list", epilog="Example: penstock user list --since 30d --order dearest")
def list_users(
    *,
    limit: LimitOption = 20,
    since: SinceOption = None,
    text: Annotated[str | None, typer.Option(help="A part of the name.")] = None,
    order: OrderOption = "recent",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List users with their traces, sessions, tokens and money of a window."""
    query = UserQuery(limit=limit, since_ns=since_ns(since), text=text, order=order)
    with session_access.open_sessions(open_home(home, as_json=as_json)) as sessions:
        rows = sessions.list_users(query).rows
    if as_json:
        print_json(rows)
        return
    print_lines(
        [_record(row) for row in rows],
        ["user", "last_seen", "traces", "sessions", "failed", "tokens", "cost_usd"],
        give_up=("tokens", "sessions", "failed", "last_seen"),
        empty="No user here: calls name theirs with the header x-penstock-user, spans as user.id.",
    )


@app.command(epilog="Example: penstock user show ada --since 30d")
def show(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    *,
    since: SinceOption = None,
    limit: LimitOption = 20,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show one user: sums of a window, and the newest sessions."""
    with session_access.open_sessions(open_home(home, as_json=as_json)) as sessions:
        view = sessions.show_user(user, since_ns=since_ns(since), limit=limit)
    if as_json:
        print_json(view)
        return
    print_record(_record(view.summary), as_json=False)
    if view.sessions:
        print()
        print_sessions(view.sessions, as_json=False)


def _record(row: UserRow) -> dict[str, Any]:
    tokens = " + ".join("-" if each is None else str(each) for each in (row.input_tokens, row.output_tokens))
    return {
        "user": row.user_id,
        "first_seen": time_text(row.first_ns),
        "last_seen": time_text(row.last_ns),
        "traces": row.n_traces,
        "failed": row.n_failed,
        "sessions": row.n_sessions,
        "tokens": tokens,
        "cost_usd": row.cost_usd,
        "calls_without_price": row.n_unpriced,
        "p95_ms": row.p95_ms,
    }
