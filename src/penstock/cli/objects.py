"""What `penstock provider`, `route`, `limit` and `price` have in common: options, reading values, printing.

They work on the control tables, whether Penstock runs or not. What stands in `penstock.toml` is shown and not changed.
"""

from __future__ import annotations

import getpass
import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.options import open_home
from penstock.cli.output import print_json, print_rows, time_text

with late_imports():
    from penstock.deploy import configuration, history, object_views
    from penstock.main import rooms as control_rooms

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="KEY=VALUE as in penstock.toml, such as retry.max_attempts=5; may be repeated."
    ),
]
UnsetOption = Annotated[
    list[str] | None,
    typer.Option("--unset", help="A key that goes back to its default; may be repeated."),
]
FromOption = Annotated[
    str | None,
    typer.Option("--from", help="File with the object as TOML or JSON, - for standard input."),
]
NoteOption = Annotated[str, typer.Option(help="Why, for `penstock config history`.")]
CheckOption = Annotated[bool, typer.Option("--check", help="Say what would change, and change nothing.")]
NameArgument = Annotated[str, typer.Argument(help="Its name.")]


def command_line_actor() -> str:
    """Return what histories say of who typed the command."""
    try:
        return f"{getpass.getuser()} (command line)"
    except (OSError, KeyError):
        return "command line"


def open_rooms(home: Path, *, as_json: bool) -> control_rooms.Rooms:
    """Return the rooms of a home; damaged settings do not keep a person from working on everything else."""
    return control_rooms.Rooms(open_home(home, as_json=as_json), keeps_running=True)


def read_content(
    sets: Sequence[str] | None, source: str | None, shortcuts: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the content that options say: a file, then `--set`, then the options of the command."""
    content = {} if source is None else _read_document(source)
    for text in sets or ():
        merge(content, read_setting(text))
    merge(content, {name: value for name, value in shortcuts.items() if value is not None})
    return content


def read_setting(text: str) -> dict[str, Any]:
    """Return `a.b=5` as `{"a": {"b": 5}}`; a value that is not TOML is text."""
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise InvalidInput(f"{text[:80]!r} is not KEY=VALUE.", hint="Write --set timeout_s=30")
    for shown in (value.strip(), json.dumps(value.strip())):
        try:
            return tomllib.loads(f"{path.strip()} = {shown}")
        except tomllib.TOMLDecodeError:
            continue
    raise InvalidInput(f"{path[:80]!r} is no key.", hint="Write it as in penstock.toml: retry.max_attempts")


def merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    """Put `other` into `into`, table by table."""
    for name, value in other.items():
        if isinstance(value, Mapping) and isinstance(into.get(name), dict):
            merge(into[name], value)
        else:
            into[name] = value


def remove(content: dict[str, Any], paths: Sequence[str] | None) -> None:
    """Take keys such as `retry.max_attempts` out."""
    for path in paths or ():
        table: Any = content
        *parents, last = path.split(".")
        for name in parents:
            table = table.get(name) if isinstance(table, dict) else None
        if not isinstance(table, dict) or last not in table:
            raise InvalidInput(f"{path!r} is not set.", hint=f"Set are: {', '.join(content) or 'none'}.")
        del table[last]


def list_objects(
    views: Sequence[object_views.ObjectView],
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    *,
    as_json: bool,
) -> None:
    """Print objects: whole as JSON, as `rows` with `columns` for a person."""
    if as_json:
        print_json([{**row, **view_record(view)} for view, row in zip(views, rows, strict=True)])
    else:
        print_rows(rows, columns, as_json=False, empty="None yet.")


def owner_text(view: object_views.ObjectView) -> str:
    """Return who keeps an object, with the line in the file."""
    return f"{view.owner} line {view.line}" if view.line is not None else view.owner


def view_record(view: object_views.ObjectView) -> dict[str, Any]:
    """Return an object as JSON shows it."""
    return {
        "kind": view.kind,
        "name": view.name,
        "owner": view.owner,
        "line": view.line,
        "version": view.version,
        "actor": view.actor,
        "updated": time_text(view.updated_ns),
        "row": dict(view.row),
        "content": None if view.content is None else dict(view.content),
    }


def print_draft(draft: configuration.Draft, *, as_json: bool) -> None:
    """Print what would change."""
    if as_json:
        print_json(
            {"changes": [change_record(change) for change in draft.changes], "warnings": draft.warnings}
        )
        return
    print_changes(draft.changes)
    for warning in draft.warnings:
        print(f"note: {warning}")


def change_record(change: history.Change) -> dict[str, Any]:
    """Return a change as JSON shows it."""
    return {
        "kind": change.kind,
        "name": change.name,
        "action": change.action,
        "fields": [
            {"path": field.path, "before": field.before, "after": field.after} for field in change.fields
        ],
    }


def print_changes(changes: Sequence[history.Change], *, nothing: str = "nothing changes") -> None:
    """Print changes as lines: `+` added, `-` removed, `~` changed, each with its fields."""
    marks = {"added": "+", "removed": "-", "changed": "~"}
    for change in changes:
        print(f"{marks[change.action]} {change.kind} {change.name}")
        for field in change.fields:
            if field.is_hidden:
                print(f"    {field.path}: changed")
            elif change.action == "changed" or field.path not in _IN_THE_NAME:
                print(
                    f"    {field.path}: {_shown(field.path, field.before)} → {_shown(field.path, field.after)}"
                )
    if not changes:
        print(nothing)


_IN_THE_NAME = frozenset({"id", "name", "provider", "model"})
"""Members of a row that its name tells already."""


def _shown(path: str, value: Any) -> str:
    if path.endswith("_ns") and isinstance(value, int):
        return time_text(value) or ""
    return "unset" if value is None else json.dumps(value, ensure_ascii=False)


def _read_document(source: str) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{source} cannot be read.", hint="Is it a text file?") from error
    try:
        value = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"{source} is neither JSON nor TOML: {error}.") from error
    return dict(value)
