"""The commands that `penstock provider`, `route`, `limit` and `price` share: show, create, edit and delete.

A kind says what its own options mean, and in which words its commands are told; all else is the same.
"""

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from penstock.cli.objects import (
    CheckOption,
    FromOption,
    NameArgument,
    NoteOption,
    SetOption,
    UnsetOption,
    command_line_actor,
    merge,
    open_rooms,
    owner_text,
    print_draft,
    read_content,
    remove,
    view_record,
)
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption
from penstock.cli.output import print_json, print_record
from penstock.providers.rating import note_gaps

if TYPE_CHECKING:
    from penstock.deploy.object_views import ObjectView
    from penstock.deploy.objects import ObjectKind

ReadOptions = Callable[..., dict[str, Any]]
"""Takes a kind's own options, as a command declares them, and returns the content that they say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectCommands:
    """The four commands of one kind, which all begin with the object's name."""

    kind: "ObjectKind"
    read_options: ReadOptions
    argument: Any = NameArgument

    def add_show(self, app: typer.Typer, text: str, *, example: str) -> None:
        """Add the command that prints one object whole."""

        def show(name: str, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
            view = open_rooms(home, as_json=as_json).configuration.get(self.kind, name)
            if as_json:
                print_json(view_record(view))
                return
            print_record({"owner": owner_text(view), "version": view.version, **view.row}, as_json=False)

        self._add(app, "show", show, text, example)

    def add_create(self, app: typer.Typer, text: str, *, example: str) -> None:
        """Add the command that creates an object, or says what that would change."""

        def create(
            name: str,
            *,
            sets: SetOption = None,
            source: FromOption = None,
            note: NoteOption = "",
            check: CheckOption = False,
            home: HomeOption = DEFAULT_HOME,
            as_json: JsonOption = False,
            **options: Any,
        ) -> None:
            content = read_content(sets, source, self.read_options(**options))
            rooms = open_rooms(home, as_json=as_json)
            if check:
                print_draft(rooms.configuration.validate(self.kind, name, content), as_json=as_json)
                return
            actor = command_line_actor()
            view = rooms.configuration.put(
                self.kind, name, content, actor=actor, note=note, is_new=True, expected_version=0
            )
            _print_done("created", view, as_json=as_json)

        self._add(app, "create", create, text, example)

    def add_edit(self, app: typer.Typer, text: str, *, example: str) -> None:
        """Add the command that changes an object of the control tables; what is not named stays."""

        def edit(
            name: str,
            *,
            sets: SetOption = None,
            unset: UnsetOption = None,
            source: FromOption = None,
            note: NoteOption = "",
            check: CheckOption = False,
            home: HomeOption = DEFAULT_HOME,
            as_json: JsonOption = False,
            **options: Any,
        ) -> None:
            changes = read_content(sets, source, self.read_options(**options))
            rooms = open_rooms(home, as_json=as_json)
            found = rooms.configuration.get_stored(self.kind, name)
            content = json.loads(json.dumps(found.content))
            remove(content, unset)
            merge(content, changes)
            if check:
                print_draft(rooms.configuration.validate(self.kind, name, content), as_json=as_json)
                return
            actor = command_line_actor()
            view = rooms.configuration.put(
                self.kind, name, content, actor=actor, note=note, expected_version=found.version
            )
            _print_done("changed", view, as_json=as_json)

        self._add(app, "edit", edit, text, example)

    def add_delete(self, app: typer.Typer, text: str, *, example: str) -> None:
        """Add the command that deletes an object of the control tables."""

        def delete(
            name: str, note: NoteOption = "", home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
        ) -> None:
            rooms = open_rooms(home, as_json=as_json)
            rooms.configuration.delete(self.kind, name, actor=command_line_actor(), note=note)
            if as_json:
                print_json({"kind": self.kind, "name": name, "deleted": True})
            else:
                print(f"deleted {self.kind} {name}")

        self._add(app, "delete", delete, text, example)

    def _add(self, app: typer.Typer, verb: str, run: Callable[..., None], text: str, example: str) -> None:
        """Add `run` with the kind's own argument, and with its options where `run` takes `**options`."""
        name, *common = inspect.signature(run).parameters.values()
        own: list[inspect.Parameter] = []
        if common[-1].kind is inspect.Parameter.VAR_KEYWORD:
            common.pop()
            own = list(inspect.signature(self.read_options).parameters.values())
        taken = [name.replace(annotation=self.argument), *own, *common]
        # What Typer reads a command's arguments and options from.
        run.__dict__["__signature__"] = inspect.Signature(taken)
        app.command(verb, help=text, epilog=f"Example: penstock {self.kind} {verb} {example}")(run)


def _print_done(what: str, view: "ObjectView", *, as_json: bool) -> None:
    if as_json:
        print_json(view_record(view))
    else:
        print(f"{what} {view.kind} {view.name} (version {view.version}); gateways know it within a second")
        for note in note_gaps(view.row["usd_per_million"]) if view.kind == "price" else ():
            print(f"note: {note}")
