"""`penstock route`: list, show, create, edit, delete. Works whether Penstock runs or not."""

from typing import Annotated, Any

import typer

from penstock.base.errors import InvalidInput
from penstock.cli import objects
from penstock.cli.object_commands import ObjectCommands
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


def _read_options(*, target: TargetOption = None, fallback: FallbackOption = None) -> dict[str, Any]:
    return {
        "targets": [_read_target(text) for text in target] if target else None,
        "fallbacks": [{"route": name} for name in fallback] if fallback else None,
    }


_commands = ObjectCommands(kind="route", read_options=_read_options)
_commands.add_show(app, "Show one route as gateways know it, with its owner.", example="lexical")
_commands.add_create(
    app,
    "Create a route in the control tables.",
    example="fast --target openai/gpt-4o-mini --target groq/llama,tier=1",
)
_commands.add_edit(
    app,
    "Change a route of the control tables; what is not named stays, and targets are replaced as a whole.",
    example="fast --set retry.max_attempts=5 --unset deadline_s",
)
_commands.add_delete(
    app, "Delete a route of the control tables; refused while others fall back to it.", example="fast"
)


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
