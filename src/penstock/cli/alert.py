"""`penstock alert`: list, show, create, edit, delete, preview, silence, test, history, messages, export, import."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer

from penstock.base.clock import now_ns
from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.alert_channel import app as channel_app
from penstock.cli.alert_rows import message_row, print_sent, rule_text, transition_row, view_row
from penstock.cli.objects import SetOption, UnsetOption, command_line_actor, merge, read_content, remove
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_record, print_rows, time_text
from penstock.cli.windows import read_length_s
from penstock.monitors.types import AlertView, MessageState, RuleContent

with late_imports():
    from penstock.main import measure_access
    from penstock.monitors import rules

app = noun_app(
    "Rules over measures, and who is told: list, show, create, edit, delete, preview, silence, test, history, messages, "
    "channel, export, import."
)
app.add_typer(channel_app, name="channel", help="Where alerts are told of: list, show, set, delete, test.")

NameArgument = Annotated[str, typer.Argument(help="What the alert is called.")]
FromOption = Annotated[
    str | None, typer.Option("--from", help="File with the rule as TOML or JSON, - for standard input.")
]
MeasureOption = Annotated[
    str | None, typer.Option(help="What is measured: see `penstock dashboard measures`.")
]
AboveOption = Annotated[float | None, typer.Option(help="It fires beyond this.")]
BelowOption = Annotated[float | None, typer.Option(help="Or below this.")]
RecoverOption = Annotated[float | None, typer.Option(help="It is over once the value is back here.")]
WindowOption = Annotated[
    str | None, typer.Option("--window", help="Over how long it is measured, such as 5m.")
]
WhereOption = Annotated[str | None, typer.Option(help="A search, such as 'route:chat'.")]
SubjectOption = Annotated[
    Literal["trace", "call", "span"] | None, typer.Option(help="What is counted; model calls unless told.")
]
NotifyOption = Annotated[list[str] | None, typer.Option(help="A channel that is told. May be repeated.")]
COLUMNS = ("alert", "state", "since", "value", "n", "rule", "notify", "silenced until")


@app.command("list", epilog="Example: penstock alert list")
def list_alerts(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List rules with how they stand."""
    with measure_access.open_tables(open_home(home, as_json=as_json)) as tables:
        found = tables.monitoring.alerts.list()
    if as_json:
        print_json(found)
        return
    print_rows(
        [view_row(view) for view in found],
        COLUMNS,
        as_json=False,
        empty="None yet: penstock alert create NAME",
    )


@app.command(epilog="Example: penstock alert show slow-answers")
def show(name: NameArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show one rule, how it stands, and what brought it there."""
    with measure_access.open_tables(open_home(home, as_json=as_json)) as tables:
        _print_view(tables.monitoring.alerts.get(name), as_json=as_json)


@app.command(
    epilog="Example: penstock alert create slow-answers --measure latency_p95 --above 4000 --recover 3000 --window 10m "
    "--where route:chat --notify ops"
)
def create(
    name: NameArgument,
    *,
    measure: MeasureOption = None,
    above: AboveOption = None,
    below: BelowOption = None,
    recover: RecoverOption = None,
    window: WindowOption = None,
    where: WhereOption = None,
    subject: SubjectOption = None,
    notify: NotifyOption = None,
    sets: SetOption = None,
    source: FromOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make a rule; what else it may say (warning, min_n, for_evaluations, no_data, labels …) with --set or --from."""
    content = read_content(sets, source, {})
    merge(content, _shortcuts(measure, window, where, subject, notify))
    merge(content, _threshold(above, below, recover))
    _put(name, content, home, as_json=as_json, expected_version=0)


@app.command(epilog="Example: penstock alert edit slow-answers --above 5000 --set min_n=50")
def edit(
    name: NameArgument,
    *,
    measure: MeasureOption = None,
    above: AboveOption = None,
    below: BelowOption = None,
    recover: RecoverOption = None,
    window: WindowOption = None,
    where: WhereOption = None,
    subject: SubjectOption = None,
    notify: NotifyOption = None,
    sets: SetOption = None,
    unset: UnsetOption = None,
    source: FromOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Change a rule; it begins anew from `unknown`. --from replaces all of it."""
    with measure_access.open_tables(open_home(home, as_json=as_json)) as tables:
        rule = tables.monitoring.alerts.get(name).rule
    content: dict[str, Any] = {} if source is not None else msgspec.to_builtins(rule.content)
    remove(content, unset)
    merge(content, read_content(sets, source, {}))
    merge(content, _shortcuts(measure, window, where, subject, notify))
    merge(content, _threshold(above, below, recover))
    _put(name, content, home, as_json=as_json, expected_version=rule.version)


@app.command(epilog="Example: penstock alert delete slow-answers")
def delete(name: NameArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Forget a rule; its history stays."""
    with measure_access.open_tables(open_home(home, as_json=as_json)) as tables:
        tables.monitoring.alerts.delete(name)
    if as_json:
        print_json({"name": name, "deleted": True})
    else:
        print(f"deleted {name}")


@app.command(epilog="Example: penstock alert preview slow-answers")
def preview(
    name: Annotated[str | None, typer.Argument(help="A rule that is there.")] = None,
    *,
    source: FromOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Say what a rule would say now, and its value in the windows before; nothing is kept."""
    place = open_home(home, as_json=as_json)
    if (name is None) == (source is None):
        raise InvalidInput("Name a rule, or give one with --from.")
    if source is not None:
        content = rules.read_rule(read_content(None, source, {}))
    else:
        assert name is not None
        with measure_access.open_tables(place) as tables:
            content = tables.monitoring.alerts.get(name).rule.content
    with measure_access.open_measures(place) as measures:
        found = measures.preview(content)
    if as_json:
        print_json(found)
        return
    print_record(
        {"state": found.state, "value": found.value, "n": found.n, "unit": found.unit}, as_json=False
    )
    rows = [{"window until": time_text(end), "value": value} for end, value in found.series]
    print_rows(rows, ("window until", "value"), as_json=False)


@app.command(epilog="Example: penstock alert silence slow-answers --for 2h")
def silence(
    name: NameArgument,
    *,
    length: Annotated[str | None, typer.Option("--for", help="For how long, such as 2h.")] = None,
    end: Annotated[bool, typer.Option("--end", help="End the silence now.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Tell nobody of a rule for a time; what is news when the silence ends is told then."""
    if (length is None) != end:
        raise InvalidInput("Give one of --for and --end.")
    until = None if length is None else now_ns() + read_length_s(length) * 1_000_000_000
    with measure_access.open_tables(open_home(home, as_json=as_json)) as tables:
        view = tables.monitoring.alerts.silence(name, until, actor=command_line_actor())
    if as_json:
        print_json(view)
    elif until is None:
        print(f"{name} is told of again")
    else:
        print(f"{name} is silent until {time_text(until)}")


@app.command("test", epilog="Example: penstock alert test slow-answers")
def send_test(name: NameArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Send a message, marked as a test, through every channel of a rule, and say what became of it."""
    with measure_access.open_tables(open_home(home, as_json=as_json)) as tables:
        identities = tables.monitoring.alerts.test(name, actor=command_line_actor())
        print_sent(tables.wait_for(identities), as_json=as_json)


@app.command(epilog="Example: penstock alert history slow-answers --limit 5")
def history(
    name: Annotated[str | None, typer.Argument(help="Of this rule only, deleted ones too.")] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Most lines.")] = 20,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List what changed states, newest first, with a trace as an example."""
    with measure_access.open_tables(open_home(home, as_json=as_json)) as tables:
        found = tables.monitoring.alerts.history(name, limit=limit)
    if as_json:
        print_json(list(found))
        return
    columns = ("at", "alert", "state", "why", "example", "silenced")
    print_rows([transition_row(one) for one in found], columns, as_json=False, empty="Nothing changed yet.")


@app.command(epilog="Example: penstock alert messages --state dead")
def messages(
    *,
    state: Annotated[MessageState | None, typer.Option(help="Only these.")] = None,
    retry: Annotated[str | None, typer.Option(help="Try the message of this id again.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Most lines.")] = 20,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List messages that were sent, wait, or were given up; or try one again."""
    with measure_access.open_tables(open_home(home, as_json=as_json)) as tables:
        channels = tables.monitoring.channels
        if retry is not None:
            channels.retry(retry)
            print_sent(tables.wait_for([retry]), as_json=as_json)
            return
        found = channels.messages(state=state, limit=limit)
    if as_json:
        print_json(list(found))
        return
    columns = ("created", "id", "alert", "tells", "channel", "state", "attempts", "error")
    print_rows([message_row(one) for one in found], columns, as_json=False, empty="No messages.")


@app.command("export", epilog="Example: penstock alert export > alerts.json")
def export_alerts(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Print all rules and channels as JSON that `import` takes."""
    with measure_access.open_tables(open_home(home, as_json=as_json)) as tables:
        alerts = {view.rule.name: view.rule.content for view in tables.monitoring.alerts.list()}
        channels = {one.name: one.content for one in tables.monitoring.channels.list()}
    document = msgspec.to_builtins({"channels": channels, "alerts": alerts})
    print(json.dumps(document, indent=2, ensure_ascii=False))


@app.command("import", epilog="Example: penstock alert import alerts.toml")
def import_alerts(
    file: Annotated[Path, typer.Argument(help="TOML or JSON with tables `channels` and `alerts`, by name.")],
    *,
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete rules and channels that the file lacks.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make the rules and channels of a file; those that are the same keep their state."""
    document = read_content(None, str(file), {})
    unknown = set(document) - {"channels", "alerts"}
    if unknown:
        raise InvalidInput(f"{file} has {min(unknown)!r}, which is neither `channels` nor `alerts`.")
    with measure_access.open_tables(open_home(home, as_json=as_json)) as tables:
        done = _import(tables, document, prune=prune)
    print_rows(done, ("kind", "name", "what"), as_json=as_json, empty="The file is empty.")


def _import(tables: measure_access.Tables, document: dict[str, Any], *, prune: bool) -> list[dict[str, Any]]:
    alerts, channels = tables.monitoring.alerts, tables.monitoring.channels
    wanted_channels = {name: rules.read_channel(item) for name, item in document.get("channels", {}).items()}
    wanted = {name: rules.read_rule(item) for name, item in document.get("alerts", {}).items()}
    known_channels = {one.name: one.content for one in channels.list()}
    known = {view.rule.name: view.rule.content for view in alerts.list()}
    actor = command_line_actor()
    done: list[dict[str, Any]] = []

    def note(kind: str, name: str, what: str) -> None:
        done.append({"kind": kind, "name": name, "what": what})

    for name, channel in wanted_channels.items():
        if known_channels.get(name) != channel:
            channels.put(name, channel, actor=actor)
        note("channel", name, "unchanged" if known_channels.get(name) == channel else "written")
    for name, rule in wanted.items():
        if known.get(name) != rule:
            alerts.put(name, rule, actor=actor)
        note("alert", name, "unchanged" if known.get(name) == rule else "written")
    if prune:
        for name in known.keys() - wanted.keys():
            alerts.delete(name)
            note("alert", name, "deleted")
        for name in known_channels.keys() - wanted_channels.keys():
            channels.delete(name)
            note("channel", name, "deleted")
    return done


def _put(name: str, content: dict[str, Any], home: Path, *, as_json: bool, expected_version: int) -> None:
    rule = rules.read_rule(content)
    with measure_access.open_tables(open_home(home, as_json=as_json)) as tables:
        view = tables.monitoring.alerts.put(
            name, rule, actor=command_line_actor(), expected_version=expected_version
        )
    _print_view(view, as_json=as_json)


def _print_view(view: AlertView, *, as_json: bool) -> None:
    if as_json:
        print_json(view)
        return
    content: RuleContent = view.rule.content
    record = {
        **view_row(view),
        "evaluated": f"every {view.every_s} s, last {time_text(view.status.evaluated_ns) or 'never'}",
        "window": f"{content.window_s} s",
        "rule": rule_text(content),
        "problem": view.status.problem,
        "version": f"{view.rule.version} by {view.rule.actor}",
    }
    if view.last is not None:
        record["last change"] = f"{time_text(view.last.at_ns)} {view.last.reason}"
        record["behind it"] = [one.trace_id for one in view.last.examples]
    print_record(record, as_json=False)


def _shortcuts(
    measure: str | None, window: str | None, where: str | None, subject: str | None, notify: list[str] | None
) -> dict[str, Any]:
    given = {
        "measure": measure,
        "window_s": None if window is None else read_length_s(window),
        "where": where,
        "subject": subject,
        "notify": notify or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _threshold(above: float | None, below: float | None, recover: float | None) -> dict[str, Any]:
    given = {"above": above, "below": below, "recover": recover}
    threshold = {name: value for name, value in given.items() if value is not None}
    return {"alert": threshold} if threshold else {}
