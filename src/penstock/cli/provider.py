"""`penstock provider`: list, show, create, edit, delete, test. Works whether Penstock runs or not, but for test."""

from typing import Annotated, Any

import typer

from penstock.cli import objects
from penstock.cli.objects import CheckOption, FromOption, NameArgument, NoteOption, SetOption, UnsetOption
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_record
from penstock.main.provider_check import check_provider
from penstock.main.rooms import Rooms
from penstock.main.serving_environment import serving_environment

app = noun_app("Where calls can be sent: list, show, create, edit, delete, test.")

BaseUrlOption = Annotated[str | None, typer.Option(help="Address, ending before the dialect's own path.")]
DialectOption = Annotated[
    str | None, typer.Option(help="openai, responses, anthropic, gemini, bedrock or cohere.")
]
SecretOption = Annotated[
    str | None, typer.Option(help="Name of the sealed secret that holds the key (penstock secret set).")
]
VariableOption = Annotated[
    str | None, typer.Option("--api-key-env", help="Environment variable that holds the key.")
]


@app.command("list", epilog="Example: penstock provider list")
def list_providers(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List providers: from penstock.toml, the control tables, the environment, and built in."""
    rooms = objects.open_rooms(home, as_json=as_json)
    views = rooms.configuration.list("provider")
    environ = serving_environment(rooms.home, rooms.environ)
    rows = [
        {
            "provider": view.name,
            "origin": view.owner,
            "dialect": view.row.get("dialect", "openai"),
            "base_url": view.row["base_url"],
            "key": _key_text(view.row, environ),
            "prices": view.row.get("price_id"),
        }
        for view in views
    ]
    columns = ("provider", "origin", "dialect", "base_url", "key", "prices")
    objects.list_objects(views, rows, columns, as_json=as_json)


@app.command(epilog="Example: penstock provider show openai")
def show(name: NameArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show one provider as gateways know it, with its owner."""
    objects.show_object(objects.open_rooms(home, as_json=as_json), "provider", name, as_json=as_json)


@app.command(epilog="Example: penstock provider create local --base-url http://127.0.0.1:9100/v1")
def create(
    name: NameArgument,
    *,
    base_url: BaseUrlOption = None,
    dialect: DialectOption = None,
    secret: SecretOption = None,
    api_key_env: VariableOption = None,
    sets: SetOption = None,
    source: FromOption = None,
    note: NoteOption = "",
    check: CheckOption = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Create a provider in the control tables; one of the catalogue needs no address."""
    shortcuts = {"base_url": base_url, "dialect": dialect, "secret": secret, "api_key_env": api_key_env}
    content = objects.read_content(sets, source, shortcuts)
    rooms = objects.open_rooms(home, as_json=as_json)
    objects.create_object(rooms, "provider", name, content, note=note, check=check, as_json=as_json)


@app.command(epilog="Example: penstock provider edit local --set timeout_s=30")
def edit(
    name: NameArgument,
    *,
    base_url: BaseUrlOption = None,
    dialect: DialectOption = None,
    secret: SecretOption = None,
    api_key_env: VariableOption = None,
    sets: SetOption = None,
    unset: UnsetOption = None,
    source: FromOption = None,
    note: NoteOption = "",
    check: CheckOption = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Change a provider of the control tables; what is not named stays."""
    shortcuts = {"base_url": base_url, "dialect": dialect, "secret": secret, "api_key_env": api_key_env}
    changes = objects.read_content(sets, source, shortcuts)
    rooms = objects.open_rooms(home, as_json=as_json)
    objects.edit_object(
        rooms, "provider", name, changes, unset=unset, note=note, check=check, as_json=as_json
    )


@app.command(epilog="Example: penstock provider delete local")
def delete(
    name: NameArgument,
    note: NoteOption = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Delete a provider of the control tables; refused while routes point to it."""
    objects.delete_object(
        objects.open_rooms(home, as_json=as_json), "provider", name, note=note, as_json=as_json
    )


@app.command("test", epilog="Example: penstock provider test openai --model gpt-4o-mini")
def ask(
    name: NameArgument,
    *,
    model: Annotated[
        str | None, typer.Option(help="Model to ask.  [default: that of a route that points there]")
    ] = None,
    embedding: Annotated[bool, typer.Option("--embedding", help="Ask for an embedding.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Send one call of one token through the running gateway and say how it went; exit 5 if it failed."""
    opened = open_home(home, as_json=as_json)
    report = check_provider(Rooms(opened, keeps_running=True), name, model=model, is_embedding=embedding)
    if as_json:
        print_json(report)
    else:
        print_record(report, as_json=False)
    if not report["ok"]:
        raise typer.Exit(5)


def _key_text(row: Any, environ: Any) -> str | None:
    if row.get("secret"):
        return f"secret {row['secret']}"
    variable = row.get("api_key_env")
    if variable is None:
        return None
    return str(variable) if environ.get(variable) else f"{variable} (not set)"
