"""`penstock provider`: list, show, create, edit, delete, test. Works whether Penstock runs or not, but for test."""

from typing import Annotated, Any

import typer

from penstock.base.late import late_imports
from penstock.cli import objects
from penstock.cli.object_commands import ObjectCommands
from penstock.cli.objects import NameArgument
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_record

with late_imports():
    from penstock.main import provider_check, serving_environment
    from penstock.main import rooms as control_rooms

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
    environ = serving_environment.serving_environment(rooms.home, rooms.environ)
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


def _read_options(
    *,
    base_url: BaseUrlOption = None,
    dialect: DialectOption = None,
    secret: SecretOption = None,
    api_key_env: VariableOption = None,
) -> dict[str, Any]:
    return {"base_url": base_url, "dialect": dialect, "secret": secret, "api_key_env": api_key_env}


_commands = ObjectCommands(kind="provider", read_options=_read_options)
_commands.add_show(app, "Show one provider as gateways know it, with its owner.", example="openai")
_commands.add_create(
    app,
    "Create a provider in the control tables; one of the catalogue needs no address.",
    example="local --base-url http://127.0.0.1:9100/v1",
)
_commands.add_edit(
    app,
    "Change a provider of the control tables; what is not named stays.",
    example="local --set timeout_s=30",
)
_commands.add_delete(
    app, "Delete a provider of the control tables; refused while routes point to it.", example="local"
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
    report = provider_check.check_provider(
        control_rooms.Rooms(opened, keeps_running=True), name, model=model, is_embedding=embedding
    )
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
