"""`penstock alert channel`: list, show, set, delete, test."""

from typing import Annotated, Any, Literal

import msgspec
import typer

from penstock.base.late import late_imports
from penstock.cli.alert_rows import channel_row, print_sent
from penstock.cli.objects import SetOption, command_line_actor, merge, read_content
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_record, print_rows

with late_imports():
    from penstock.main import measure_access
    from penstock.monitors import rules

app = noun_app("Where alerts are told of: list, show, set, delete, test.")
NameArgument = Annotated[str, typer.Argument(help="What the channel is called.")]


@app.command("list", epilog="Example: penstock alert channel list")
def list_channels(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List channels; what is secret is only named."""
    with measure_access.open_tables(open_home(home, as_json=as_json)) as tables:
        found = tables.monitoring.channels.list()
    if as_json:
        print_json(found)
        return
    columns = ("channel", "kind", "goes to", "by", "version")
    print_rows(
        [channel_row(one) for one in found],
        columns,
        as_json=False,
        empty="None yet: penstock alert channel set NAME",
    )


@app.command(epilog="Example: penstock alert channel show ops")
def show(name: NameArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show one channel."""
    with measure_access.open_tables(open_home(home, as_json=as_json)) as tables:
        found = tables.monitoring.channels.get(name)
    print_record({"channel": found.name, **msgspec.to_builtins(found.content)}, as_json=as_json)


@app.command(
    "set", epilog="Example: penstock alert channel set ops --kind slack --url-env PENSTOCK_ALERT_SLACK_URL"
)
def set_channel(
    name: NameArgument,
    *,
    kind: Annotated[
        Literal["webhook", "slack", "email"] | None, typer.Option(help="What kind it is.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Address of a webhook.")] = None,
    url_env: Annotated[
        str | None,
        typer.Option(help="Variable (PENSTOCK_ALERT_…) that holds the address, where that is a secret."),
    ] = None,
    url_secret: Annotated[str | None, typer.Option(help="Or a sealed secret that holds it.")] = None,
    to: Annotated[list[str] | None, typer.Option("--to", help="Mail address. May be repeated.")] = None,
    sender: Annotated[str | None, typer.Option("--from-address", help="From which mail address.")] = None,
    host: Annotated[str | None, typer.Option(help="Mail server.")] = None,
    sets: SetOption = None,
    source: Annotated[
        str | None,
        typer.Option("--from", help="File with the channel as TOML or JSON, - for standard input."),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make or replace a channel; what else it may say (port, security, signing_env, allow_private …) with --set."""
    content: dict[str, Any] = read_content(sets, source, {})
    given = {
        "kind": kind,
        "url": url,
        "url_env": url_env,
        "url_secret": url_secret,
        "recipients": to or None,
        "sender": sender,
        "host": host,
    }
    merge(content, {key: value for key, value in given.items() if value is not None})
    with measure_access.open_tables(open_home(home, as_json=as_json)) as tables:
        found = tables.monitoring.channels.put(name, rules.read_channel(content), actor=command_line_actor())
    if as_json:
        print_json(found)
    else:
        print(f"set {name}; try it: penstock alert channel test {name}")


@app.command(epilog="Example: penstock alert channel delete ops")
def delete(name: NameArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Forget a channel that no rule names."""
    with measure_access.open_tables(open_home(home, as_json=as_json)) as tables:
        tables.monitoring.channels.delete(name)
    if as_json:
        print_json({"name": name, "deleted": True})
    else:
        print(f"deleted {name}")


@app.command("test", epilog="Example: penstock alert channel test ops")
def send_test(name: NameArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Send a test message and say what became of it."""
    with measure_access.open_tables(open_home(home, as_json=as_json)) as tables:
        message = tables.monitoring.channels.test(name, actor=command_line_actor())
        print_sent(tables.wait_for([message.id]), as_json=as_json)
