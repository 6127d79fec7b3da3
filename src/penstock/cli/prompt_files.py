"""`penstock prompt import` and `export`: prompts as files of a repository."""

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, open_home
from penstock.cli.output import print_json, print_rows
from penstock.main.control_client import ControlClient
from penstock.prompts.errors import PromptsDiffer
from penstock.prompts.files import SUFFIX, write_prompt

with late_imports():
    from penstock.prompts import foreign_files
    from penstock.prompts import service as prompt_service

BASE = "/api/v1/prompts"
MAX_FILE_BYTES = 4 * 1024 * 1024
_WORDS = {
    "new": "made",
    "changed": "new version",
    "same": "as registered",
    "older": "an older version",
    "wrong": "cannot be saved",
}


def add_file_commands(app: typer.Typer) -> None:
    """Add both commands."""
    app.command("import", epilog="Example: penstock prompt import prompts/ --check")(import_files)
    app.command("export", epilog="Example: penstock prompt export prompts/")(export_files)


def import_files(
    paths: Annotated[list[Path], typer.Argument(help="Folders, or .prompt, .json and .txt files.")],
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit with 2 where files and registry differ.")
    ] = False,
    move: Annotated[str | None, typer.Option(help="Point this alias at what was imported.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why the alias moves; kept with the move.")] = None,
    note: Annotated[str, typer.Option(help="What changed; kept with each new version.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make versions of prompts that lie in files, where they differ from what is registered."""
    client = ControlClient(open_home(home, as_json=as_json))
    prompts = [each for path in _find_files(paths) for each in _read(path)]
    if not prompts:
        raise InvalidInput(
            f"There are no prompts in {', '.join(map(str, paths))}.", hint=f"Files end in {SUFFIX}."
        )
    told = client.post(f"{BASE}/import", {"prompts": prompts, "note": note, "only_check": check})["prompts"]
    wrong = [row for row in told if row["state"] == "wrong"]
    differing = [row for row in told if row["state"] in ("new", "changed", "wrong")]
    if move is not None and not wrong:
        differing += _move_all(client, told, move, reason, check=check)
    if as_json:
        print_json(told)
    else:
        _print_states(told, check=check)
    if wrong:
        raise InvalidInput(f"{wrong[0]['file']}: {wrong[0]['problem']}", hint="Nothing was imported.")
    if check and differing:
        names = ", ".join(dict.fromkeys(row["name"] for row in differing))
        raise PromptsDiffer(f"Files and registry differ: {names}.", hint="Import them without --check.")


def export_files(
    folder: Annotated[Path, typer.Argument(help="Where the files are written, one a prompt.")],
    names: Annotated[list[str] | None, typer.Argument(help="Only these: NAME or NAME@VERSION.")] = None,
    *,
    version: Annotated[
        str | None, typer.Option(help="Which: prod, latest …  [default: prod, else the newest]")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Write prompts as files; what `import` reads back to the same versions."""
    client = ControlClient(open_home(home, as_json=as_json))
    wanted = names or [row["name"] for row in client.get(BASE)["prompts"]]
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for each in wanted:
        name, _, own = each.removeprefix("prompt:").partition("@")
        found = client.get(f"{BASE}/{name}", version=own or version)
        path = folder / f"{name}{SUFFIX}"
        text = write_prompt(prompt_service.read_content(found["content"]))
        is_same = path.is_file() and path.read_bytes() == text.encode()
        if not is_same:
            path.write_text(text, encoding="utf-8", newline="")
        rows.append({"prompt": found["label"], "file": str(path), "written": not is_same})
    print_rows(rows, ("prompt", "file", "written"), as_json=as_json, empty="There are no prompts yet.")


def _find_files(paths: list[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(
                each for each in path.rglob("*") if each.suffix in foreign_files.SUFFIXES and each.is_file()
            )
        elif path.is_file():
            found.append(path)
        else:
            raise InvalidInput(f"There is no {path}.")
    return found


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InvalidInput(f"{path} is over {MAX_FILE_BYTES:,} bytes; no prompt is that long.")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}.") from None
    return [
        {"name": name, "file": str(path), "content": json.loads(msgspec.json.encode(content))}
        for name, content in foreign_files.read_file(str(path), text)
    ]


def _move_all(
    client: ControlClient, told: list[dict[str, Any]], alias: str, reason: str | None, *, check: bool
) -> list[dict[str, Any]]:
    """Point the alias at each version, or with `check` return those where it stands elsewhere."""
    elsewhere: list[dict[str, Any]] = []
    for row in told:
        if row["number"] is None:
            continue
        history = client.get(f"{BASE}/{row['name']}/versions")["versions"]
        standing = next((each["number"] for each in history if alias in each["aliases"]), None)
        if standing == row["number"]:
            continue
        elsewhere.append(row)
        if not check:
            body = {"version": str(row["number"]), "reason": reason, "override_reason": reason}
            client.post(f"{BASE}/{row['name']}/aliases/{alias}/move", body)
    return elsewhere if check else []


def _print_states(told: list[dict[str, Any]], *, check: bool) -> None:
    rows = [
        {
            "prompt": row["name"] + (f"@{row['number']}" if row["number"] else ""),
            "state": row["state"] if check else _WORDS[row["state"]],
            "file": row["file"],
        }
        for row in told
    ]
    print_rows(rows, ("prompt", "state", "file"), as_json=False)
