"""`penstock asset`: versions and aliases of anything that is registered."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from penstock.base.digest import short_digest
from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_record, print_rows, time_text
from penstock.registry.types import AliasMove
from penstock.spec.assets import ASSET_KINDS, AssetRef, parse_asset_ref

with late_imports():
    from penstock.evals.gates import evidence
    from penstock.main import rooms as control_rooms

app = noun_app("Versions and aliases of anything: list, show, move, rollback, history, overrides, lineage.")
Reference = Annotated[
    str, typer.Argument(help="Such as model:pocket, app:handbook@prod, knowledge:handbook@3.")
]
Reason = Annotated[str | None, typer.Option(help="Why; kept with the move.")]


@app.command("list", epilog="Example: penstock asset list --kind model")
def list_assets(
    kind: Annotated[
        str | None, typer.Option(help="model, knowledge, app, prompt, dataset …  [default: all]")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List everything that has versions."""
    opened = open_home(home, as_json=as_json)
    if kind is not None and kind not in ASSET_KINDS:
        raise InvalidInput(f"{kind!r} is no kind of asset.", hint=f"Use {', '.join(ASSET_KINDS)}.")
    rooms = control_rooms.Rooms(opened)
    rows = [
        {
            "asset": f"{asset.kind}:{asset.name}",
            "versions": asset.n_versions,
            "latest": asset.latest,
            "aliases": ", ".join(f"{alias} → {number}" for alias, number in sorted(asset.aliases.items())),
            "updated": time_text(asset.updated_ns),
        }
        for asset in rooms.registry.list_assets(kind)
    ]
    print_rows(
        rows, ("asset", "versions", "latest", "aliases", "updated"), as_json=as_json, empty="Nothing yet."
    )


@app.command(epilog="Example: penstock asset show model:pocket@prod --json")
def show(reference: Reference, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show one version: content, artefacts, parents."""
    rooms = control_rooms.Rooms(open_home(home, as_json=as_json))
    version = rooms.registry.resolve(parse_asset_ref(reference))
    aliases = rooms.registry.aliases(version.kind, version.name)
    if as_json:
        print_json({**asdict(version), "aliases": aliases})
        return
    named = [alias for alias, number in aliases.items() if number == version.number]
    print_record(
        {
            "version": version.label,
            "digest": version.digest,
            "aliases": named,
            "created": time_text(version.created_ns),
            "note": version.note,
            "parents": list(version.parents),
            "artefacts": version.artefacts,
            "content": version.content,
        },
        as_json=False,
    )


@app.command(
    epilog='Example: penstock asset move model:pocket@2 --alias prod --reason "better on the golden set"'
)
def move(
    reference: Reference,
    alias: Annotated[str, typer.Option(help="The alias to move.")] = "prod",
    *,
    gate: Annotated[
        str | None, typer.Option(help="Id of the passing verdict of a gate: the evidence for the move.")
    ] = None,
    reason: Reason = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Point an alias at a version. Protected aliases such as `prod` need the verdict of a gate, or a reason."""
    rooms = control_rooms.Rooms(open_home(home, as_json=as_json), keeps_running=True)
    version = rooms.registry.resolve(parse_asset_ref(reference))
    moved = rooms.registry.move_alias(
        version.kind,
        version.name,
        alias,
        version.number,
        actor="owner",
        evidence=None
        if gate is None
        else evidence.make_evidence(evidence.GateEvidence(rooms.engine).get(gate)),
        reason=reason,
        # with a gate the reason is a note; a refused verdict is not overridden by the way
        override_reason=reason if gate is None else None,
    )
    rooms.take_up_alias(moved)
    _print_move(moved, as_json=as_json)


@app.command(epilog="Example: penstock asset rollback model:pocket --alias prod")
def rollback(
    reference: Reference,
    alias: Annotated[str, typer.Option(help="The alias to move back.")] = "prod",
    reason: Reason = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Take back the last move of an alias."""
    rooms = control_rooms.Rooms(open_home(home, as_json=as_json), keeps_running=True)
    asset = _asset_only(reference)
    moved = rooms.registry.rollback_alias(asset.kind, asset.name, alias, actor="owner", reason=reason)
    rooms.take_up_alias(moved)
    _print_move(moved, as_json=as_json)


@app.command(epilog="Example: penstock asset history model:pocket --alias prod")
def history(
    reference: Reference,
    alias: Annotated[str | None, typer.Option(help="Only this alias.  [default: all]")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List who moved an alias, when, from where to where, on what evidence."""
    rooms = control_rooms.Rooms(open_home(home, as_json=as_json))
    asset = _asset_only(reference)
    moves = rooms.registry.history(asset.kind, asset.name, alias)
    columns = ("alias", "from", "to", "action", "actor", "moved", "basis", "reason")
    print_rows(map(_move_row, moves), columns, as_json=as_json, empty="No alias was moved yet.")


@app.command(epilog="Example: penstock asset overrides --json")
def overrides(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List the moves of `prod` without evidence, of everything: who, when and for what reason."""
    moves = control_rooms.Rooms(open_home(home, as_json=as_json)).registry.overrides()
    columns = ("asset", "alias", "from", "to", "actor", "moved", "reason")
    print_rows(map(_move_row, moves), columns, as_json=as_json, empty="Nothing was overridden.")


@app.command(epilog="Example: penstock asset lineage app:handbook@prod")
def lineage(reference: Reference, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show what a version was made from, and what was made from it."""
    rooms = control_rooms.Rooms(open_home(home, as_json=as_json))
    found = rooms.registry.lineage(parse_asset_ref(reference))
    if as_json:
        print_json(asdict(found))
        return
    rows = [
        {
            "direction": direction,
            "distance": node.distance,
            "version": f"{node.kind}:{node.name}@{node.number}",
            "digest": short_digest(node.digest),
        }
        for direction, nodes in (("made from", found.up), ("went into", found.down))
        for node in nodes
    ]
    print_rows(
        rows,
        ("direction", "distance", "version", "digest"),
        as_json=False,
        empty="It has no known relatives.",
    )


def _print_move(moved: AliasMove, *, as_json: bool) -> None:
    row = _move_row(moved)
    print_record(row if as_json else {name: row[name] for name in row if name != "evidence"}, as_json=as_json)


def _asset_only(reference: str) -> AssetRef:
    asset = parse_asset_ref(reference)
    if asset.alias or asset.number is not None or asset.digest:
        raise InvalidInput(
            f"{reference!r} names a version; name the asset.",
            hint=f"Write {asset.kind}:{asset.name} and give the alias with --alias.",
        )
    return asset


def _move_row(moved: AliasMove) -> dict[str, Any]:
    return {
        "asset": f"{moved.kind}:{moved.name}",
        "alias": moved.alias,
        "from": moved.from_number,
        "to": moved.to_number,
        "action": moved.action,
        "actor": moved.actor,
        "moved": time_text(moved.moved_ns),
        "basis": moved.basis,
        "reason": moved.reason,
        "evidence": moved.evidence,
    }
