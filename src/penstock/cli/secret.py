"""`penstock secret`: list, set, rotate, delete, rekey. A secret is never an argument: the shell would remember it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.objects import command_line_actor, open_rooms
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app
from penstock.cli.output import print_json, print_rows, time_text

with late_imports():
    from penstock.deploy import rows as provider_rows
    from penstock.main import found_providers, serving_environment
    from penstock.main import rooms as control_rooms

app = noun_app("Upstream keys, sealed: list, set, rotate, delete, rekey.")

NameArgument = Annotated[str, typer.Argument(help="What the secret is called.")]
FromEnvOption = Annotated[
    str | None, typer.Option("--from-env", help="Take it from this environment variable.")
]
FromFileOption = Annotated[Path | None, typer.Option("--from-file", help="Take it from this file.")]


@app.command("list", epilog="Example: penstock secret list")
def list_secrets(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List secrets with the host each is for; never what they say."""
    rows = [
        {
            "secret": info.name,
            "for": info.origin,
            "by": info.actor,
            "updated": time_text(info.updated_ns),
            "master key": info.key_id,
        }
        for info in open_rooms(home, as_json=as_json).secrets.list()
    ]
    columns = ("secret", "for", "by", "updated", "master key")
    print_rows(rows, columns, as_json=as_json, empty="None yet: penstock secret set NAME --provider NAME")


@app.command("set", epilog="Example: penstock secret set openai --provider openai")
def set_secret(
    name: NameArgument,
    *,
    provider: Annotated[
        str | None, typer.Option(help="Provider it is for: it is sent to that provider's host only.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Or the host's address, https://api.example.com")] = None,
    from_env: FromEnvOption = None,
    from_file: FromFileOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Enter a secret: asked for on a terminal, else read from standard input."""
    rooms = open_rooms(home, as_json=as_json)
    address = _address(rooms, provider, url)
    text = _read_secret(name, from_env, from_file)
    actor = command_line_actor()
    info = rooms.secrets.put(name, text, url=address, actor=actor, used_by=rooms.users_of_secret(name))
    rooms.publish_snapshot(actor=actor, note=f"set secret {name}")
    if as_json:
        print_json(info)
    else:
        print(f"set {info.name}, to be sent to {info.origin} only")


@app.command(epilog="Example: penstock secret rotate openai --from-env NEW_KEY")
def rotate(
    name: NameArgument,
    *,
    from_env: FromEnvOption = None,
    from_file: FromFileOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Replace what a secret says, for the same host; gateways send the new one within a second."""
    rooms = open_rooms(home, as_json=as_json)
    rooms.secrets.get(name)
    actor = command_line_actor()
    info = rooms.secrets.rotate(name, _read_secret(name, from_env, from_file), actor=actor)
    rooms.publish_snapshot(actor=actor, note=f"rotate secret {name}")
    if as_json:
        print_json(info)
    else:
        print(f"rotated {info.name}")


@app.command(epilog="Example: penstock secret delete openai")
def delete(name: NameArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Forget a secret; refused while a provider names it."""
    rooms = open_rooms(home, as_json=as_json)
    rooms.secrets.delete(name, used_by=rooms.users_of_secret(name))
    rooms.publish_snapshot(actor=command_line_actor(), note=f"delete secret {name}")
    if as_json:
        print_json({"name": name, "deleted": True})
    else:
        print(f"deleted {name}")


@app.command(epilog="Example: penstock secret rekey")
def rekey(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Make a new master key and seal every secret again with it."""
    rooms = open_rooms(home, as_json=as_json)
    actor = command_line_actor()
    key_id, count = rooms.secrets.rekey(
        lambda: rooms.publish_snapshot(actor=actor, note="seal secrets under a new master key")
    )
    if as_json:
        print_json({"key_id": key_id, "secrets": count})
    else:
        print(f"sealed {count} secrets under the master key {key_id}")


def _address(rooms: control_rooms.Rooms, provider: str | None, url: str | None) -> str:
    if (provider is None) == (url is None):
        raise InvalidInput("Say whom the secret is for.", hint="Give one of --provider NAME and --url URL.")
    if url is not None:
        return url
    assert provider is not None
    for row in rooms.plan().providers:
        if row.name == provider:
            return row.base_url
    if provider in provider_rows.CATALOGUE:
        environ = serving_environment.serving_environment(rooms.home, rooms.environ)
        if variable := found_providers.missing_variable(provider_rows.CATALOGUE[provider], environ):
            raise InvalidInput(
                f"The address of {provider!r} needs the variable {variable}, which is not set.",
                hint="Set it, or give the address with --url.",
            )
        return found_providers.fill_address(provider_rows.CATALOGUE[provider], environ).base_url
    raise InvalidInput(
        f"There is no provider {provider!r}.", hint="Give the address with --url, then create it."
    )


def _read_secret(name: str, from_env: str | None, from_file: Path | None) -> str:
    if from_env is not None and from_file is not None:
        raise InvalidInput("Give one of --from-env and --from-file.")
    if from_env is not None:
        if not (found := os.environ.get(from_env)):
            raise InvalidInput(f"The variable {from_env} is not set.")
        return found
    if from_file is not None:
        try:
            return from_file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{from_file} cannot be read as text.") from error
    if sys.stdin.isatty():
        return str(typer.prompt(f"{name} (not shown)", hide_input=True))
    return sys.stdin.read()
