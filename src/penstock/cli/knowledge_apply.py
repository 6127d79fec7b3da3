"""`penstock knowledge apply`: a knowledge base as a file."""

from pathlib import Path
from typing import Annotated

import typer

from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.objects import CheckOption
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, open_home
from penstock.cli.output import print_json

with late_imports():
    from penstock.knowledge.sources import declared
    from penstock.main import knowledge_rooms

_RECIPES = {
    "made": "+ recipe  the base begins with it",
    "same": "  recipe  keep",
    "differs": "! recipe  differs from what is live, which stays: build it beside, compare, and switch\n"
    "    penstock knowledge rebuild {base} --as candidate --recipe FILE",
}
_SIGNS = {"add": "+", "edit": "~", "keep": " ", "remove": "-", "not in the file": "?"}


def apply(
    file: Annotated[Path, typer.Argument(help="TOML with name, [[sources]] and [recipe.…].")],
    *,
    check: CheckOption = False,
    remove_others: Annotated[
        bool, typer.Option("--remove-others", help="Remove sources that the file does not name.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make the sources and the recipe of a knowledge base what a file says. Applying it twice changes nothing."""
    opened = open_home(home, as_json=as_json)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{str(file)!r} cannot be read: {error}.") from error
    declaration = declared.read_declaration(text, file.absolute().parent)
    rooms = knowledge_rooms.KnowledgeRooms(opened)
    changes = rooms.sources.apply(declaration, remove_others=remove_others, is_trial=check)
    recipe = None
    if declaration.recipe is not None:
        recipe = rooms.knowledge.declare(declaration.name, declaration.recipe, is_trial=check)
    if as_json:
        print_json({"base": declaration.name, "changes": changes, "recipe": recipe, "is_applied": not check})
        return
    for change in changes:
        print(f"{_SIGNS[change.action]} {change.source}  {change.action}")
        for detail in change.details:
            print(f"    {detail}")
    if recipe is not None:
        print(_RECIPES[recipe].format(base=declaration.name))
    has_changed = recipe == "made" or any(change.action in {"add", "edit", "remove"} for change in changes)
    if not has_changed:
        print("nothing changes")
    elif check:
        print("nothing was changed")
    else:
        print(f"read them now: penstock knowledge source run {declaration.name}")
