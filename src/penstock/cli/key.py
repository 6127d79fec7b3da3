"""`penstock key`: create, list, revoke. Works on the control tables, whether Penstock runs or not."""

from typing import Annotated

import typer

from penstock.access.keys import check_routes
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_rows, time_text
from penstock.main.rooms import Rooms

app = noun_app("Keys of the gateway and the API: create, list, revoke.")


@app.command(epilog="Example: penstock key create --name ci --rpm 600")
def create(
    *,
    name: Annotated[str, typer.Option(help="What the key is for.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="call or owner; may be repeated.  [default: call]")
    ] = None,
    rpm: Annotated[int | None, typer.Option(help="Requests a minute.  [default: no limit]")] = None,
    tpm: Annotated[int | None, typer.Option(help="Tokens a minute.  [default: no limit]")] = None,
    route: Annotated[
        list[str] | None, typer.Option(help="A route it may call; may be repeated.  [default: all]")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it, this once: only its digest is kept."""
    rooms = Rooms(open_home(home, as_json=as_json), keeps_running=True)
    if route:
        check_routes(route, [known.name for known in rooms.publish_snapshot().routes])
    key = rooms.keys.create(
        name, tuple(scope or ("call",)), requests_per_minute=rpm, tokens_per_minute=tpm, routes=route or None
    )
    rooms.publish_snapshot()
    if as_json:
        print_json({"id": key.id, "key": key.key})
    else:
        print(f"id   {key.id}")
        print(f"key  {key.key}")


@app.command("list", epilog="Example: penstock key list --json")
def list_keys(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List all keys, without their secrets."""
    rooms = Rooms(open_home(home, as_json=as_json))
    rows = [
        {
            "id": key.id,
            "name": key.name,
            "hint": key.hint,
            "scopes": list(key.scopes),
            "requests_per_minute": key.requests_per_minute,
            "tokens_per_minute": key.tokens_per_minute,
            "routes": None if key.routes is None else list(key.routes),
            "created": time_text(key.created_ns),
            "revoked": time_text(key.revoked_ns),
        }
        for key in rooms.keys.list()
    ]
    columns = (
        "id",
        "name",
        "hint",
        "scopes",
        "requests_per_minute",
        "tokens_per_minute",
        "created",
        "revoked",
    )
    print_rows(rows, columns, as_json=as_json, empty="No keys yet: penstock key create --name NAME")


@app.command(epilog="Example: penstock key revoke key_01kc3…")
def revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id, from `penstock key list`.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """End a key; gateways refuse it within a second."""
    rooms = Rooms(open_home(home, as_json=as_json), keeps_running=True)
    key = rooms.keys.revoke(key_id)
    rooms.publish_snapshot()
    if as_json:
        print_json({"id": key.id, "revoked": time_text(key.revoked_ns)})
    else:
        print(f"revoked {key.id} ({key.name})")
