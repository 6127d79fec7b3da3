"""`penstock deploy`: model versions served by engines of their own."""

import time
from typing import Annotated, Any

import typer

from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_record, print_rows, time_text
from penstock.cli.progress import ProgressLine
from penstock.main.control_client import ControlClient
from penstock.main.engine_files import list_engines
from penstock.main.errors import JobFailed
from penstock.spec.assets import parse_asset_ref

with late_imports():
    from penstock.main import engine_seats

DEPLOYMENTS = "/api/v1/deployments"
POLL_S = 0.2
_SHARES = {"starting": 0.2, "proving": 0.6, "ready": 0.9, "draining": 0.7}

app = noun_app(
    "Model versions served by engines of their own: model, list, show, swap, rollback, delete, events, logs."
)
NameArgument = Annotated[str, typer.Argument(help="Name of the deployment.")]
WaitOption = Annotated[bool, typer.Option(help="Wait until it serves, or is refused.")]
ContextOption = Annotated[
    int | None, typer.Option("--context-length", help="Tokens of a call.  [default: the version's]")
]
SlotsOption = Annotated[int | None, typer.Option(help="Calls that one process works on at once.")]
ThreadsOption = Annotated[int | None, typer.Option(help="Threads of one process.")]
AdapterOption = Annotated[
    list[str] | None,
    typer.Option("--adapter", help="Adapter of this very base, as model:NAME@ALIAS; may be given again."),
]
ReplicasOption = Annotated[int | None, typer.Option(help="Processes that serve it side by side.")]
WeightOption = Annotated[int | None, typer.Option(help="Share among deployments of one route.")]
FollowOption = Annotated[
    bool | None,
    typer.Option(
        "--follow/--no-follow",
        help="Swap when the alias moves.  [default: follows where the model is named by an alias]",
    ),
]


@app.command("model", epilog="Example: penstock deploy model model:pocket@candidate --name pocket-candidate")
def deploy_model(
    model: Annotated[str, typer.Argument(help="The version: model:NAME, model:NAME@ALIAS, model:NAME@3.")],
    *,
    name: Annotated[
        str | None, typer.Option(help="Of the deployment and its route.  [default: NAME, or NAME-ALIAS]")
    ] = None,
    route: Annotated[
        str | None, typer.Option(help="Answer under this route instead of the deployment's name.")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="embedded, vllm (started here), or server (one that runs elsewhere).")
    ] = "embedded",
    url: Annotated[str | None, typer.Option(help="Base address of a server, ending in /v1.")] = None,
    served_name: Annotated[
        str | None, typer.Option("--served-name", help="How the server calls the model.")
    ] = None,
    secret: Annotated[str | None, typer.Option(help="Sealed secret with the server's key.")] = None,
    weight: WeightOption = None,
    replicas: ReplicasOption = None,
    context_length: ContextOption = None,
    slots: SlotsOption = None,
    threads: ThreadsOption = None,
    adapters: AdapterOption = None,
    strict_adapters: Annotated[
        bool, typer.Option("--strict-adapters", help="Give each adapter a process of its own.")
    ] = False,
    follow: FollowOption = None,
    wait: WaitOption = True,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Serve a version of a model with an engine of its own, once the engine has proven that it serves exactly that.

    A deployment of that name and model is changed to be like this one, without a call that fails.
    """
    client = ControlClient(open_home(home, as_json=as_json))
    reference = model if ":" in model else f"model:{model}"
    ref = parse_asset_ref(reference)
    is_alias = ref.number is None and ref.digest is None
    told = name or (ref.name if ref.alias in {None, "prod"} else f"{ref.name}-{ref.alias}")
    if name is None and not is_alias:
        told = f"{ref.name}-{ref.number}" if ref.number is not None else ref.name
    body = {
        "name": told,
        "model": reference,
        "engine": engine,
        "route": route,
        "url": url,
        "served_name": served_name,
        "secret": secret,
        "weight": weight,
        "replicas": replicas,
        "context_length": context_length,
        "slots": slots,
        "threads": threads,
        "adapters": adapters,
        "strict_adapters": strict_adapters or None,
        "follow": is_alias if follow is None else follow,
    }
    record = client.post(DEPLOYMENTS, {key: value for key, value in body.items() if value is not None})
    _finish(client, record, wait=wait, as_json=as_json)


@app.command("list", epilog="Example: penstock deploy list")
def list_deployments(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List deployments with what each serves."""
    client = ControlClient(open_home(home, as_json=as_json))
    records: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = client.get(DEPLOYMENTS, after=cursor)
        records += page["rows"]
        cursor = page["next_cursor"]
    rows = records if as_json else [_row(each) for each in records]
    columns = ("deployment", "state", "version", "route", "engine", "replicas", "coming", "swaps", "error")
    print_rows(
        rows, columns, as_json=as_json, empty="Nothing is deployed: penstock deploy model model:NAME@ALIAS"
    )


@app.command(epilog="Example: penstock deploy show pocket-candidate --json")
def show(name: NameArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show one deployment: what serves, by which proof, and what is under way."""
    client = ControlClient(open_home(home, as_json=as_json))
    record = client.get(f"{DEPLOYMENTS}/{name}")
    engines = client.get(f"{DEPLOYMENTS}/{name}/engines")["rows"]
    if as_json:
        print_json({**record, "engines": engines})
        return
    print_record(
        {**_shown(record), "processes": "; ".join(map(_engine_text, engines)) or None}, as_json=False
    )


@app.command(epilog="Example: penstock deploy swap pocket-candidate --model model:pocket@5")
def swap(
    name: NameArgument,
    *,
    model: Annotated[str | None, typer.Option(help="The version to serve from now on.")] = None,
    weight: WeightOption = None,
    replicas: ReplicasOption = None,
    context_length: ContextOption = None,
    slots: SlotsOption = None,
    threads: ThreadsOption = None,
    adapters: AdapterOption = None,
    follow: FollowOption = None,
    wait: WaitOption = True,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Change what a deployment serves, or how: the new beside the old, proven, then in its place, and no call fails."""
    client = ControlClient(open_home(home, as_json=as_json))
    changes = {
        "model": model,
        "weight": weight,
        "replicas": replicas,
        "context_length": context_length,
        "slots": slots,
        "threads": threads,
        "adapters": adapters,
        "follow": follow,
    }
    given = {key: value for key, value in changes.items() if value is not None}
    if not given:
        raise InvalidInput("Nothing was given to be changed.", hint="Such as --model model:NAME@4.")
    record = client.post(f"{DEPLOYMENTS}/{name}/swap", given)
    _finish(client, record, wait=wait, as_json=as_json)


@app.command(epilog="Example: penstock deploy rollback pocket-candidate")
def rollback(
    name: NameArgument,
    *,
    wait: WaitOption = True,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Serve what was served before, in the same way a swap does it."""
    client = ControlClient(open_home(home, as_json=as_json))
    record = client.post(f"{DEPLOYMENTS}/{name}/rollback", {})
    _finish(client, record, wait=wait, as_json=as_json)


@app.command(epilog="Example: penstock deploy delete pocket-candidate")
def delete(
    name: NameArgument,
    *,
    wait: WaitOption = True,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Take a deployment away: its route first, its processes when no call needs them."""
    client = ControlClient(open_home(home, as_json=as_json))
    record = client.delete(f"{DEPLOYMENTS}/{name}")
    if wait:
        with ProgressLine(f"deploy {name}", quiet=as_json) as line:
            while any(each["name"] == name for each in client.get(DEPLOYMENTS, limit=1000)["rows"]):
                line.tell(_SHARES["draining"], "waiting for calls under way")
                time.sleep(POLL_S)
            line.tell(1.0, "gone")
    if as_json:
        print_json(record)


@app.command(epilog="Example: penstock deploy events pocket-candidate")
def events(
    name: NameArgument,
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 50,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show what happened to a deployment, newest first; also to one that is gone."""
    client = ControlClient(open_home(home, as_json=as_json))
    page = client.get(f"{DEPLOYMENTS}/{name}/events", limit=limit)
    rows = page["rows"]
    if not as_json:
        rows = [
            {
                "when": time_text(each["at_ns"]),
                "what": each["kind"],
                "text": each["text"],
                "by": each["actor"],
            }
            for each in rows
        ]
    print_rows(rows, ("when", "what", "text", "by"), as_json=as_json, empty="Nothing has happened yet.")


@app.command(epilog="Example: penstock deploy logs pocket-candidate --lines 50")
def logs(
    name: NameArgument,
    *,
    lines: Annotated[int, typer.Option(min=1, max=10_000, help="How many, of each process.")] = 30,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Print the end of the logs of a deployment's processes."""
    opened = open_home(home, as_json=as_json)
    children = [
        file.child for file in list_engines(opened) if file.seat is not None and file.seat.deployment == name
    ]
    if not children:  # of one that is gone, or that never started
        children = sorted(path.stem for path in opened.logs.glob(f"engine-{name}~*.log"))
    told = {
        child: engine_seats.last_words(opened, child, n_lines=lines, n_bytes=1024 * 1024)
        for child in children
    }
    if as_json:
        print_json(told)
        return
    for child, text in told.items():
        print(f"{child}:")
        print(text)


def _finish(client: ControlClient, record: dict[str, Any], *, wait: bool, as_json: bool) -> None:
    name = record["name"]
    if wait:
        with ProgressLine(f"deploy {name}", quiet=as_json) as line:
            while not record.get("is_settled", True):
                line.tell(_SHARES.get(record["state"], 0.5), _doing(record))
                time.sleep(POLL_S)
                record = client.get(f"{DEPLOYMENTS}/{name}")
            line.tell(1.0, _doing(record))
        error = record.get("error")
        if error:
            raise JobFailed(
                str(error.get("message")),
                hint=error.get("hint") or f"penstock deploy events {name}",
                deployment=name,
            )
    if as_json:
        print_json(record)
    else:
        print_record(_shown(record), as_json=False)


def _engine_text(engine: dict[str, Any]) -> str:
    state, models = engine["state"], (engine.get("told") or {}).get("models", [])
    parts = [f"{engine['seat']} {engine['role']}, {state['status']}"]
    if state.get("n_restarts"):
        parts.append(f"{state['n_restarts']} restarts")
    if models:
        parts.append(f"{sum(each['requests'] for each in models):,} replies")
        parts.append(f"{sum(each['busy'] for each in models)} of {models[0]['slots']} slots busy")
    if engine.get("tokens_per_s"):
        parts.append(f"{engine['tokens_per_s']:,.0f} tokens/s a reply")
    return ", ".join(parts)


def _doing(record: dict[str, Any]) -> str:
    coming, version = record.get("coming"), record.get("version")
    if coming:
        return f"{coming} is being started and proven" + (f"; {version} serves" if version else "")
    if version and not record.get("is_settled", True):
        return (
            f"{version} serves so far"  # what was asked for is about to be taken up, or the former one ends
        )
    return f"{version} serves" if version else record["state"]


def _row(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "deployment": record["name"],
        "state": record["state"],
        "version": record.get("version"),
        "route": record.get("route"),
        "engine": record["spec"].get("engine", "embedded"),
        "replicas": record["spec"].get("replicas", 1),
        "coming": record.get("coming"),
        "swaps": record.get("swaps", 0),
        "error": (record.get("error") or {}).get("message") or _missing(record),
    }


def _missing(record: dict[str, Any]) -> str | None:
    """Return how many processes of what serves are down; None where all answer."""
    n_all, n_ready = record.get("n_processes", 0), record.get("n_ready", 0)
    if n_ready >= n_all:
        return None
    return f"{n_ready} of {n_all} processes answer, {record.get('n_restarts', 0)} restarts; see penstock deploy logs"


def _shown(record: dict[str, Any]) -> dict[str, Any]:
    proof = record.get("proof") or {}
    checks = [
        f"{name} {value['max_difference']:.2g} (bound {value['bound']:g})"
        for engine in proof.get("engines", [])[:1]
        for name, value in engine.items()
        if isinstance(value, dict) and "max_difference" in value
    ]
    return {
        **_row(record),
        "address": record.get("address"),
        "digest": record.get("digest"),
        "proven by": "; ".join(checks) or ("proof" if proof else None),
        "previous": record.get("previous"),
        "adapters": ", ".join(record["spec"].get("adapters", [])) or None,
        "follows": record["spec"].get("follow", False),
    }
