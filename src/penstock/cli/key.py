"""`penstock key`: create, list, show, edit, rotate, revoke. Works on the control tables, whether Penstock runs or not."""

import datetime as dt
import re
from collections.abc import Callable
from typing import Annotated, Any

import typer

from penstock.access.types import KeyInfo, NewKey
from penstock.base.clock import now_ns
from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.objects import command_line_actor, open_rooms
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app
from penstock.cli.output import print_json, print_record, print_rows, time_text

with late_imports():
    from penstock.access import keys

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
CLEARED = {
    "rpm": "requests_per_minute",
    "tpm": "tokens_per_minute",
    "route": "routes",
    "user": "user",
    "expires": "expires_ns",
}

app = noun_app("Keys of the gateway and the API: create, list, show, edit, rotate, revoke.")

KeyArgument = Annotated[
    str, typer.Argument(metavar="KEY", help="The key's name, or its id where several have one name.")
]
ScopeOption = Annotated[
    list[str] | None, typer.Option(help="call, metrics or owner; may be repeated.  [default: call]")
]
RpmOption = Annotated[int | None, typer.Option(help="Requests a minute.  [default: no limit]")]
TpmOption = Annotated[int | None, typer.Option(help="Tokens a minute.  [default: no limit]")]
RouteOption = Annotated[
    list[str] | None, typer.Option(help="A route it may call; may be repeated.  [default: all]")
]
UserOption = Annotated[
    str | None, typer.Option(help="Whose it is: its calls count under this user, whomever they name.")
]
ProjectOption = Annotated[str | None, typer.Option(help="Project its calls count under.  [default: default]")]
ExpiresOption = Annotated[
    str | None, typer.Option(help="When it ends: 90d, 12h, or a date such as 2027-01-31 (UTC).")
]


@app.command(epilog="Example: penstock key create --name ci --rpm 600 --expires 90d")
def create(
    *,
    name: Annotated[str, typer.Option(help="What the key is for.")],
    scope: ScopeOption = None,
    rpm: RpmOption = None,
    tpm: TpmOption = None,
    route: RouteOption = None,
    user: UserOption = None,
    project: ProjectOption = None,
    expires: ExpiresOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it, this once: only its digest is kept."""
    rooms = open_rooms(home, as_json=as_json)
    if route:
        keys.check_routes(route, [known.name for known in rooms.publish_snapshot().routes])
    key = rooms.keys.create(
        name,
        tuple(scope or ("call",)),
        requests_per_minute=rpm,
        tokens_per_minute=tpm,
        routes=route or None,
        user=user,
        project=project or "default",
        expires_ns=None if expires is None else read_moment(expires),
    )
    rooms.publish_snapshot(actor=command_line_actor(), note=f"create key {name} ({key.id})")
    _print_text(key, as_json=as_json)


@app.command("list", epilog="Example: penstock key list --json")
def list_keys(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List all keys, without their secrets."""
    rows = [_record(key) for key in open_rooms(home, as_json=as_json).keys.list()]
    columns = (
        "id",
        "name",
        "hint",
        "state",
        "project",
        "user",
        "scopes",
        "routes",
        "requests_per_minute",
        "tokens_per_minute",
        "created",
        "expires",
    )
    print_rows(rows, columns, as_json=as_json, empty="No keys yet: penstock key create --name NAME")


@app.command(epilog="Example: penstock key show ci")
def show(wanted: KeyArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show one key, without its secret."""
    print_record(_record(open_rooms(home, as_json=as_json).keys.find_named(wanted)), as_json=as_json)


@app.command(epilog="Example: penstock key edit ci --rpm 60 --clear tpm")
def edit(
    wanted: KeyArgument,
    *,
    name: Annotated[str | None, typer.Option(help="What the key is for.")] = None,
    scope: ScopeOption = None,
    rpm: RpmOption = None,
    tpm: TpmOption = None,
    route: RouteOption = None,
    user: UserOption = None,
    project: ProjectOption = None,
    expires: ExpiresOption = None,
    clear: Annotated[
        list[str] | None,
        typer.Option(help="rpm, tpm, route, user or expires: take the bound away; may be repeated."),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Change what a key may do; its text stays, and what is not named stays."""
    rooms = open_rooms(home, as_json=as_json)
    if route:
        keys.check_routes(route, [known.name for known in rooms.publish_snapshot().routes])
    given = {
        "name": name,
        "scopes": scope or None,
        "requests_per_minute": rpm,
        "tokens_per_minute": tpm,
        "routes": route or None,
        "user": user,
        "project": project,
        "expires_ns": None if expires is None else read_moment(expires),
    }
    changes: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
    for what in clear or ():
        if what not in CLEARED:
            raise InvalidInput(f"{what!r} cannot be cleared.", hint=f"Give one of {', '.join(CLEARED)}.")
        changes[CLEARED[what]] = None
    key = rooms.keys.edit(rooms.keys.find_named(wanted).id, **changes)
    rooms.publish_snapshot(actor=command_line_actor(), note=f"edit key {key.name} ({key.id})")
    print_record(_record(key), as_json=as_json)


@app.command(epilog="Example: penstock key rotate ci --overlap 24h")
def rotate(
    wanted: KeyArgument,
    overlap: Annotated[
        str, typer.Option(help="How long the text before goes on working: 24h, 7d, 0s.")
    ] = "24h",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Give a key a new text and print it, this once; id, limits, routes and usage stay."""
    overlap_s = read_duration(overlap)
    rooms = open_rooms(home, as_json=as_json)
    info = rooms.keys.find_named(wanted)
    key = rooms.keys.rotate(info.id, overlap_s=overlap_s)
    rooms.publish_snapshot(actor=command_line_actor(), note=f"rotate key {info.name} ({info.id})")
    _print_text(key, as_json=as_json)


@app.command(epilog="Example: penstock key revoke ci")
def revoke(wanted: KeyArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """End a key; gateways refuse it within a second."""
    rooms = open_rooms(home, as_json=as_json)
    key = rooms.keys.revoke(rooms.keys.find_named(wanted).id)
    rooms.publish_snapshot(actor=command_line_actor(), note=f"revoke key {key.name} ({key.id})")
    if as_json:
        print_json({"id": key.id, "revoked": time_text(key.revoked_ns)})
    else:
        print(f"revoked {key.id} ({key.name})")


def read_duration(text: str) -> float:
    """Return the seconds that `90s`, `30m`, `24h`, `7d` or `2w` say."""
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip())
    if found is None:
        raise InvalidInput(f"{text[:40]!r} is no length of time.", hint="Write 90s, 30m, 24h, 7d or 2w.")
    return float(int(found[1]) * SECONDS[found[2]])


def read_moment(text: str, *, clock: Callable[[], int] = now_ns) -> int:
    """Return the moment, in nanoseconds, that a length of time from now or a date (midnight UTC) says."""
    try:
        day = dt.datetime.fromisoformat(text.strip())
    except ValueError:
        try:
            return clock() + round(read_duration(text) * 1e9)
        except InvalidInput:
            raise InvalidInput(
                f"{text[:40]!r} is no length of time and no date.", hint="Write 90d, 12h or 2027-01-31."
            ) from None
    day = day if day.tzinfo is not None else day.replace(tzinfo=dt.UTC)
    return round(day.timestamp()) * 1_000_000_000


def _record(key: KeyInfo) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "hint": key.hint,
        "state": key.state_at(now_ns()),
        "scopes": list(key.scopes),
        "requests_per_minute": key.requests_per_minute,
        "tokens_per_minute": key.tokens_per_minute,
        "routes": None if key.routes is None else list(key.routes),
        "project": key.project,
        "user": key.user,
        "created": time_text(key.created_ns),
        "expires": time_text(key.expires_ns),
        "rotated": time_text(key.rotated_ns),
        "previous text works until": time_text(key.previous_until_ns),
        "revoked": time_text(key.revoked_ns),
    }


def _print_text(key: NewKey, *, as_json: bool) -> None:
    if as_json:
        print_json({"id": key.id, "key": key.key})
    else:
        print(f"id   {key.id}")
        print(f"key  {key.key}")
