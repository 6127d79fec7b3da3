"""`penstock route`: list, show, create, edit, delete. Works whether Penstock runs or not."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from penstock.base.errors import InvalidInput
from penstock.cli import objects
from penstock.cli.objects import CheckOption, FromOption, NameArgument, NoteOption, SetOption, UnsetOption
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app

app = noun_app("Names that clients put into `model`: list, show, create, edit, delete.")

TargetOption = Annotated[
    list[str] | None,
    typer.Option(help="PROVIDER/MODEL, then ,weight=2 ,tier=1 ,timeout_s=30 as wanted; may be repeated."),
]
FallbackOption = Annotated[
    list[str] | None, typer.Option(help="A route that takes over when this one cannot; may be repeated.")
]


@app.command("list", epilog="Example: penstock route list --json")
def list_routes(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List routes with their targets, as a gateway started now would know them."""
    views = objects.open_rooms(home, as_json=as_json).configuration.list("route")
    rows = [
        {
            "route": view.name,
            "origin": view.owner,
            "kind": view.row.get("kind", "any"),
            "targets": [_target_text(target) for target in view.row["targets"]],
            "version": view.row.get("version"),
        }
        for view in views
    ]
    objects.list_objects(views, rows, ("route", "origin", "kind", "targets", "version"), as_json=as_json)


@app.command(epilog="Example: penstock route show lexical")
def show(name: NameArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show one route as gateways know it, with its owner."""
    objects.show_object(objects.open_rooms(home, as_json=as_json), "route", name, as_json=as_json)


@app.command(
    epilog="Example: penstock route create fast --target openai/gpt-4o-mini --target groq/llama,tier=1"
)
def create(
    name: NameArgument,
    *,
    target: TargetOption = None,
    fallback: FallbackOption = None,
    sets: SetOption = None,
    source: FromOption = None,
    note: NoteOption = "",
    check: CheckOption = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Create a route in the control tables."""
    content = objects.read_content(sets, source, _shortcuts(target, fallback))
    rooms = objects.open_rooms(home, as_json=as_json)
    objects.create_object(rooms, "route", name, content, note=note, check=check, as_json=as_json)


@app.command(epilog="Example: penstock route edit fast --set retry.max_attempts=5 --unset deadline_s")
def edit(
    name: NameArgument,
    *,
    target: TargetOption = None,
    fallback: FallbackOption = None,
    sets: SetOption = None,
    unset: UnsetOption = None,
    source: FromOption = None,
    note: NoteOption = "",
    check: CheckOption = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Change a route of the control tables; what is not named stays, and targets are replaced as a whole."""
    changes = objects.read_content(sets, source, _shortcuts(target, fallback))
    rooms = objects.open_rooms(home, as_json=as_json)
    objects.edit_object(rooms, "route", name, changes, unset=unset, note=note, check=check, as_json=as_json)


@app.command(epilog="Example: penstock route delete fast")
def delete(
    name: NameArgument,
    note: NoteOption = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Delete a route of the control tables; refused while others fall back to it."""
    objects.delete_object(
        objects.open_rooms(home, as_json=as_json), "route", name, note=note, as_json=as_json
    )


def _shortcuts(targets: Sequence[str] | None, fallbacks: Sequence[str] | None) -> dict[str, Any]:
    return {
        "targets": [_read_target(text) for text in targets] if targets else None,
        "fallbacks": [{"route": name} for name in fallbacks] if fallbacks else None,
    }


def _read_target(text: str) -> dict[str, Any]:
    place, *settings = text.split(",")
    provider, slash, model = place.partition("/")
    if not slash or not provider or not model:
        raise InvalidInput(f"{text[:80]!r} is not PROVIDER/MODEL.", hint="Write --target openai/gpt-4o-mini")
    target: dict[str, Any] = {"provider": provider, "model": model}
    for setting in settings:
        objects.merge(target, objects.read_setting(setting))
    return target


def _target_text(target: Any) -> str:
    tier = f" (tier {target['tier']})" if target.get("tier") else ""
    return f"{target['provider']}/{target['model']} × {target.get('weight', 1):g}{tier}"
