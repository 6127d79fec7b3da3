"""Write the reference pages from the code (`make docs`): commands, settings, errors, REST, providers.

    python docs/generate.py [--check]

With `--check` nothing is written; exit code 1 says that a page is out of date. The test suite runs that, so an
undocumented command, setting or error code fails the build.
"""

import ast
import importlib
import inspect
import itertools
import json
import pkgutil
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer.main
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import penstock
from penstock.base.errors import PenstockError
from penstock.cli.app import COMMANDS
from penstock.dialects.quirks import QUIRKS
from penstock.evals.scorers.catalogue import list_scorers
from penstock.evals.scorers.describe import describe_parameters
from penstock.main.settings import Settings
from penstock.providers.catalogue import PROVIDERS
from penstock.providers.data.hosted import CLOUDS, HOSTS, MODEL_MAKERS
from penstock.providers.data.local import LOCAL
from penstock.spec.routes import Provider

REFERENCE = Path(__file__).parent / "reference"
FAULTS = Path(__file__).parents[1] / "tests" / "gateway" / "faults.toml"
RECORD_FAULTS = Path(__file__).parents[1] / "tests" / "traces" / "faults.toml"
NOTE = "<!-- Written by docs/generate.py; change the code, then run `make docs`. -->\n"


APART = (".migrations.", ".tuning.trainer.")
"""What is started by others: migrations by the tool for them, the trainer in an environment of its own."""


def load_everything() -> None:
    """Import every module of the package, so that all errors and routes are known."""
    for module in pkgutil.walk_packages(penstock.__path__, "penstock."):
        if not module.name.endswith("__main__") and not any(part in module.name for part in APART):
            importlib.import_module(module.name)


def write_commands() -> str:
    """Return the page of commands: usage, help, options and the example of each."""
    parts = [
        NOTE,
        "# Commands\n",
        "Every command takes `--home` and `--help`; lists and results take `--json`.\n",
    ]
    for name, entry in COMMANDS.items():
        module = importlib.import_module(f"penstock.cli.{entry.module}")
        for path, command in _walk(f"penstock {name}", typer.main.get_command(module.app)):
            parts.append(_describe_command(path, command))
    return "\n".join(parts)


def _walk(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if not children:
        yield path, command
        return
    for name, child in children.items():
        yield from _walk(f"{path} {name}", child)


def _describe_command(path: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    usage = " ".join(
        [
            path,
            *((p.name or "").upper() if p.required else f"[{(p.name or '').upper()}]" for p in arguments),
        ]
    )
    lines = [f"## `{usage}`\n", inspect.cleandoc(command.help or command.short_help or "") + "\n"]
    if options:
        lines += ["| option | meaning |", "|---|---|"]
        for option in options:
            names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
            lines.append(f"| {names} | {_cell(option.help or '')} |")
        lines.append("")
    if command.epilog:
        lines.append(f"{_cell(command.epilog)}\n")
    return "\n".join(lines)


def write_settings() -> str:
    """Return the page of settings: each key with type, default and meaning."""
    parts = [
        NOTE,
        "# Settings\n",
        "`penstock.toml` in the home. Every key is optional; unknown keys are errors.\n",
    ]
    for name, field in Settings.model_fields.items():
        section, title = _section_of(name, field)
        parts += _describe_sections(section, title)
    return "\n".join(parts)


def _describe_sections(section: type[BaseModel], title: str) -> Iterator[str]:
    """Yield the table of a section, then those of the sections in it."""
    yield _describe_section(section, title)
    for name, field in section.model_fields.items():
        nested = _model_in(field.annotation)
        if nested is not None:
            yield from _describe_sections(
                nested, f"entries of `{name}` in {title}" if _is_list(field) else f"`{name}` in {title}"
            )


def _is_list(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is list


def _section_of(name: str, field: FieldInfo) -> tuple[type[BaseModel], str]:
    model = _model_in(field.annotation)
    assert model is not None, name
    if get_origin(field.annotation) is dict:
        return model, f"`[{name}.NAME]`"
    return model, f"`[[{name}]]`" if _is_list(field) else f"`[{name}]`"


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        if (found := _model_in(argument)) is not None:
            return found
    return None


def _describe_section(model: type[BaseModel], title: str) -> str:
    notes = _attribute_notes(model)
    summary = inspect.cleandoc(model.__doc__ or "").split(": ", 1)[-1]
    lines = [
        f"## {title}\n",
        f"{summary[:1].upper()}{summary[1:]}\n",
        "| key | type | default | meaning |",
        "|---|---|---|---|",
    ]
    for name, field in model.model_fields.items():
        default = (
            "required" if field.is_required() else f"`{_show(field.get_default(call_default_factory=True))}`"
        )
        lines.append(
            f"| `{name}` | {_type_name(field.annotation)} | {default} | {_cell(notes.get(name, ''))} |"
        )
    return "\n".join([*lines, ""])


def _show(value: Any) -> str:
    if isinstance(value, BaseModel):
        return "{}"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return f"[{', '.join(map(repr, value))}]".replace("'", '"')
    return (
        "unset"
        if value is None
        else {True: "true", False: "false"}.get(value, str(value))
        if isinstance(value, bool)
        else str(value)
    )


def _type_name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin in {Union, UnionType}:
        return " or ".join(_type_name(part) for part in arguments if part is not NoneType)
    if origin is list:
        return f"list of {_type_name(arguments[0])}"
    if origin is dict:
        return "table"
    model = _model_in(annotation)
    return (
        "table"
        if model is not None
        else {
            "str": "text",
            "int": "whole number",
            "float": "number",
            "Decimal": "number",
            "bool": "true or false",
        }[annotation.__name__]
    )


def _attribute_notes(model: type[BaseModel]) -> dict[str, str]:
    base = model.__mro__[1]
    notes = _attribute_notes(base) if base.__module__.startswith("penstock.") else {}
    tree = ast.parse(textwrap.dedent(inspect.getsource(model)))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    for statement, following in itertools.pairwise(body):
        match (statement, following):
            case (ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(note)))):
                notes[name] = note
    return notes


def write_errors() -> str:
    """Return the page of error codes."""
    rows = sorted(
        {
            (kind.code, kind.__name__, kind.status, kind.exit_code, _first_line(kind))
            for kind in _subclasses(PenstockError)
        }
    )
    lines = [
        NOTE,
        "# Errors\n",
        "Every error has a stable code, an HTTP status, an exit code of the command line, and says what to do.\n",
    ]
    lines += ["| code | name | HTTP | exit | meaning |", "|---|---|--:|--:|---|"]
    lines += [
        f"| `{code}` | {name} | {status} | {exit_code} | {_cell(text)} |"
        for code, name, status, exit_code, text in rows
    ]
    return "\n".join([*lines, ""])


def _subclasses(kind: type[PenstockError]) -> Iterator[type[PenstockError]]:
    for child in kind.__subclasses__():
        if child.__module__.startswith("penstock."):
            yield child
            yield from _subclasses(child)


def _first_line(kind: type) -> str:
    return inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].replace("\n", " ")


def write_rest() -> str:
    """Return the page of REST routes with the permission each declares."""
    from penstock.access.declarations import declared_permissions
    from penstock.control import app as control_app

    lines = [
        NOTE,
        "# REST\n",
        "On the console's port, with `Authorization: Bearer KEY`. `GET /api/openapi.json` has the schemas.\n",
    ]
    lines += ["| route | permission | what |", "|---|---|---|"]
    for module in control_app._ROUTERS:
        for route in module.create_router(_Nothing()).routes:
            permissions = declared_permissions(route.endpoint) or ()
            methods = ", ".join(sorted(set(route.methods) - {"HEAD"}))
            needed = ", ".join(f"`{permission}`" for permission in sorted(permissions)) or "none"
            lines.append(f"| `{methods} {route.path}` | {needed} | {_cell(_first_line(route.endpoint))} |")
    return "\n".join([*lines, ""])


class _Nothing:
    """Stands for the services: routes are only listed, never called."""

    def __getattr__(self, name: str) -> Any:
        return _Nothing()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def write_providers() -> str:
    """Return the page of providers that are known by name."""
    parts = [
        NOTE,
        "# Providers\n",
        (
            "Each is one row of data. A key in the environment is enough to use a hosted one; `{VARIABLE}` in an address is\n"
            "filled from the environment. Prices are found under the price id; without one they are unknown until you set\n"
            "them. [How to add your own](../guides/providers.md).\n"
        ),
    ]
    groups = {
        "Model makers": MODEL_MAKERS,
        "Clouds": CLOUDS,
        "Hosts and routers": HOSTS,
        "Servers you run": LOCAL,
    }
    for title, rows in groups.items():
        parts.append(f"## {title}\n")
        parts += ["| name | dialect | key | address | price id |", "|---|---|---|---|---|"]
        parts += [_provider_line(row) for row in rows]
        parts.append("")
    parts += ["## Quirks\n", "How servers depart from the dialect they speak; a row lists its own.\n"]
    parts += ["| quirk | meaning | providers |", "|---|---|---|"]
    for quirk, meaning in QUIRKS.items():
        names = ", ".join(row.name for row in PROVIDERS if quirk in row.quirks)
        parts.append(f"| `{quirk}` | {_cell(meaning)} | {names} |")
    return "\n".join([*parts, ""])


def _provider_line(row: Provider) -> str:
    dialects = ", ".join(f"`{dialect}`" for dialect in (row.dialect, *row.also))
    key = f"`{row.api_key_env}` ({row.auth})" if row.api_key_env else row.auth
    price = f"`{row.price_id}`" if row.price_id else "unknown"
    return f"| `{row.name}` | {dialects} | {key} | `{row.base_url}` | {price} |"


def write_faults() -> str:
    """Return the page of what comes of each fault, of providers and to the record, from the rows that the tests hold."""
    parts = [
        NOTE,
        "# Faults\n",
        "## Of providers\n",
        (
            "What comes of everything a provider can do wrong, on a route with two attempts and one provider: what the client\n"
            "sees, what is billed, and what the span of the call records. `tests/gateway/test_fault_table.py` produces each row\n"
            "over real sockets, to a client of the provider's dialect and to one of another; where the two differ, the second\n"
            "stands behind the arrow. [How to read it](../internals/reliability.md).\n"
        ),
        "| The provider … | reply | client sees | billed | recorded |",
        "|---|---|---|---|---|",
    ]
    for row in tomllib.loads(FAULTS.read_text())["fault"]:
        for name in ("plain", "stream"):
            if name in row:
                same, other = row[name], row.get(f"{name}_translated", row[name])
                cells = [a if a == b else f"{a} → {b}" for a, b in zip(same, other, strict=True)]
                parts.append(f"| {row['does']} | {name} | {' | '.join(map(_cell, cells))} |")
    return "\n".join([*parts, "", *_record_faults(), ""])


def _record_faults() -> Iterator[str]:
    """Yield the lines about the record of traces, group by group."""
    yield "## Of the record\n"
    yield (
        "What comes of everything that can happen to spans between their sender and a search that finds them. Each row is\n"
        "produced by the tests it names, with real processes, files and sockets.\n"
        "[What is promised](../internals/reliability.md#the-record).\n"
    )
    rows = tomllib.loads(RECORD_FAULTS.read_text())["fault"]
    for group, faults in itertools.groupby(rows, key=lambda row: str(row["group"])):
        yield f"### {group}\n"
        yield "| what happens | what comes of it | shown by |"
        yield "|---|---|---|"
        for row in faults:
            shown = ", ".join(
                f"`{file}`" for file in dict.fromkeys(name.partition("::")[0] for name in row["shown"])
            )
            yield f"| {_cell(row['does'])} | {_cell(row['then'])} | {shown} |"
        yield ""


def write_scorers() -> str:
    """Return the page of scorers that are code: what each says, when it is undefined, and its parameters."""
    parts = [NOTE, "# Scorers\n", "Each also takes `threshold` and `not`. Judges have a page of their own.\n"]
    for info in list_scorers():
        bounds = " to ".join("any" if bound is None else f"{bound:g}" for bound in (info.low, info.high))
        meant = "0 or 1" if info.scale == "binary" else bounds
        parts.append(f"## {info.name}\n\n{info.summary} Range: {meant}; better: {info.direction}.")
        parts.append(f"\nUndefined when: {info.undefined_when or 'never'}.\n")
        parameters = describe_parameters(info.name)
        if parameters:
            parts.append("| parameter | type | default | |\n|---|---|---|---|")
            for each in parameters:
                kind = each.type.replace("|", "\\|")
                parts.append(
                    f"| `{each.name}` | {kind} | `{json.dumps(each.default)}` | {each.explanation} |"
                )
            parts.append("")
    return "\n".join(parts)


PAGES = {
    "scorers.md": write_scorers,
    "commands.md": write_commands,
    "settings.md": write_settings,
    "errors.md": write_errors,
    "rest.md": write_rest,
    "providers.md": write_providers,
    "faults.md": write_faults,
}


def main(arguments: list[str]) -> int:
    """Write or check the pages; return the exit code."""
    load_everything()
    REFERENCE.mkdir(exist_ok=True)
    stale = []
    for name, write in PAGES.items():
        path, text = REFERENCE / name, write()
        if not path.exists() or path.read_text() != text:
            stale.append(name)
            if "--check" not in arguments:
                path.write_text(text)
    if stale and "--check" in arguments:
        print(f"out of date: {', '.join(stale)}; run `make docs`", file=sys.stderr)
        return 1
    print(f"{len(PAGES)} pages, {len(stale)} changed")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
