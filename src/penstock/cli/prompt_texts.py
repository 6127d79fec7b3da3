"""How prompts, previews and differences stand on a terminal, and how variables are read from options and files."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.output import time_text
from penstock.datasets.cases import row_to_case
from penstock.main.control_client import ControlClient
from penstock.prompts.files import SUFFIX, read_prompt, write_prompt
from penstock.spec.datasets import DatasetRow
from penstock.spec.prompts import PromptContent

with late_imports():
    from penstock.prompts import service as prompt_service
    from penstock.templating import check

_PLAIN_TYPES = frozenset({"text"})


def split_reference(text: str) -> tuple[str, str | None]:
    """Return name and version of `triage`, `triage@prod` or `prompt:triage@3`."""
    name, at, version = text.removeprefix("prompt:").partition("@")
    if not name or (at and not version):
        raise InvalidInput(f"{text!r} names no prompt.", hint="Write NAME, NAME@ALIAS or NAME@NUMBER.")
    return name, version or None


def read_variables(
    client: ControlClient,
    declared: Mapping[str, Mapping[str, Any]],
    written: Sequence[str] | None,
    source: Path | None,
    row: str | None,
) -> dict[str, Any]:
    """Return variables: those of a dataset's row, then a file's, then options. Of a row only what the prompt takes."""
    found: dict[str, Any] = {}
    if row is not None:
        known = _row_inputs(client, row)
        found.update({name: value for name, value in known.items() if name in declared})
    if source is not None:
        value = _json_file(source)
        if not isinstance(value, dict):
            raise InvalidInput(f"{source} holds no object of variables.")
        found.update(value)
    for each in written or ():
        name, equals, text = each.partition("=")
        if not equals or not name:
            raise InvalidInput(f"{each[:60]!r} is no variable.", hint="Write NAME=VALUE or NAME=@FILE.")
        if text.startswith("@"):
            text = _text_file(Path(text[1:]))
        kind = declared.get(name, {}).get("type", "text")
        found[name] = text if kind in _PLAIN_TYPES else _json_value(text)
    return found


def read_history(path: Path | None) -> list[dict[str, Any]]:
    """Return the messages of a JSON file."""
    if path is None:
        return []
    value = _json_file(path)
    if isinstance(value, dict):
        value = value.get("messages")
    if not isinstance(value, list):
        raise InvalidInput(f"{path} holds no list of messages.")
    return value


def _row_inputs(client: ControlClient, reference: str) -> dict[str, Any]:
    dataset, slash, row_id = reference.partition("/")
    if not slash:
        raise InvalidInput(f"{reference!r} names no row.", hint="Write dataset:NAME@3/ROW.")
    name, _, version = dataset.removeprefix("dataset:").partition("@")
    where = f"/api/v1/datasets/{name}"
    found = client.get(f"{where}/version", version=version or None)
    row = client.get(f"{where}/row", version=str(found["number"]), id=row_id)
    case = row_to_case(msgspec.convert(row, DatasetRow), found["facts"]["format"])
    return case.inputs


def _json_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text  # what is wrong with it is told with all other variables


def _text_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}.") from None


def _json_file(path: Path) -> Any:
    try:
        return json.loads(_text_file(path))
    except ValueError as error:
        raise InvalidInput(f"{path} holds no JSON: {error}.") from None


# -- showing


def show_version(found: Mapping[str, Any]) -> None:
    """Print a version as its file reads, with what it is above it."""
    aliases = f"  ({', '.join(found['aliases'])})" if found["aliases"] else ""
    print(f"{found['label']}{aliases}  {time_text(found['created_ns'])}  {found['stamp'].partition('@')[2]}")
    if found["note"]:
        print(found["note"])
    print()
    print(write_prompt(prompt_service.read_content(found["content"])), end="")


def show_preview(told: Mapping[str, Any]) -> None:
    """Print what is sent."""
    rendered, tokens = told["rendered"], told["tokens"]
    for message in rendered["messages"]:
        print(_strong(f"--- {message['role']}"))
        content = message.get("content")
        print(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, indent=2))
    for name in ("parameters", "tools", "tool_choice", "response_format"):
        if rendered.get(name):
            print(_strong(f"--- {name}"))
            print(json.dumps(rendered[name], ensure_ascii=False, indent=2))
    for warning in rendered.get("warnings", ()):
        print(f"note: {warning}", file=sys.stderr)
    about = "about " if tokens["is_estimate"] else ""
    print(f"{about}{tokens['n_tokens']:,} tokens ({tokens['how']})", file=sys.stderr)


def show_diff(told: Mapping[str, Any]) -> None:
    """Print a word diff: what went in brackets with a minus, what came in braces with a plus; colours on a terminal."""
    print(f"{told['before']} → {told['after']}")
    is_empty = True
    for row in told["rows"]:
        if row["change"] == "same":
            continue
        is_empty = False
        name = f"{row['part']} {row['role']}" if row.get("role") else row["part"]
        print(_strong(f"\n--- {name} ({row['change']})"))
        print("".join(_piece(piece["kind"], piece["text"]) for piece in row["pieces"]))
    print(
        "They are the same."
        if is_empty
        else f"\n{told['n_added_words']} words came, {told['n_removed_words']} went"
    )


def _piece(kind: str, text: str) -> str:
    if kind == "same":
        return text
    if sys.stdout.isatty():
        return f"\033[{'32;4' if kind == 'added' else '31;9'}m{text}\033[0m"
    return f"{{+{text}+}}" if kind == "added" else f"[-{text}-]"


def _strong(text: str) -> str:
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text


# -- editing


def edit_text(name: str, before: str) -> PromptContent | None:
    """Return what the user made of a prompt's file in $EDITOR, None when nothing changed.

    What cannot be saved is kept in a file whose name the error tells, so that no work is lost.
    """
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor:
        raise InvalidInput("No editor is named.", hint="Set EDITOR, or use `penstock prompt create --file`.")
    folder = Path(tempfile.mkdtemp(prefix="penstock-"))
    path = folder / f"{name}{SUFFIX}"
    path.write_text(before, encoding="utf-8")
    if subprocess.run([*shlex.split(editor), str(path)], check=False).returncode != 0:
        raise InvalidInput(
            "The editor ended with an error, so nothing was saved.", hint=f"The text is in {path}."
        )
    after = path.read_text(encoding="utf-8")
    kept = f"The text is in {path}."
    try:
        content = read_prompt(after, where=str(path))
        problems = list(check.find_problems(content))
    except InvalidInput as error:
        raise InvalidInput(error.message, hint=kept) from None
    if problems:
        raise InvalidInput(" ".join(problems), hint=kept)
    path.unlink()
    folder.rmdir()
    return None if after == before else content
