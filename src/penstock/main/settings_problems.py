"""How mistakes in `penstock.toml` are told: line, place in the file, what is wrong, and the cure."""

import re
from dataclasses import dataclass
from pathlib import Path

from penstock.main.errors import SettingsInvalid

_POSITION = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong in the file."""

    line: int | None
    where: str
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line is not None else ""
        hint = f" {self.hint}" if self.hint else ""
        return f"{place}{self.where}: {self.message}.{hint}"


def invalid_settings(path: Path, problems: list[Problem]) -> SettingsInvalid:
    """Return one error that lists all `problems` of the file in the order of their lines."""
    ordered = sorted(problems, key=lambda problem: problem.line or 0)
    place = str(path) if any(item.line is not None for item in ordered) else "The configuration"
    head = f"{place} has {len(ordered)} problem{'s' if len(ordered) > 1 else ''}:"
    return SettingsInvalid(
        "\n  ".join([head, *map(str, ordered)]),
        path=str(path),
        problems=[
            {"line": item.line, "where": item.where, "message": item.message, "hint": item.hint}
            for item in ordered
        ],
    )


def is_of_file(error: SettingsInvalid) -> bool:
    """Return whether it is the file that is wrong, not an object of the control tables."""
    problems = error.fields.get("problems")
    return problems is None or any(problem["line"] is not None for problem in problems)


def decode_text(data: bytes, path: Path) -> str:
    """Return the text of a settings file; raise `SettingsInvalid` with the line that is not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingsInvalid(
            f"{path} line {line} is not UTF-8 text.",
            hint="Save the file as UTF-8.",
            path=str(path),
            line=line,
        ) from error


def syntax_error(text: str, message: str, path: Path) -> SettingsInvalid:
    """Return the error for text that is no TOML, with the line and a mark under the place."""
    found = _POSITION.search(message)
    reason = _POSITION.sub("", message).rstrip(".")
    lines = text.split("\n")
    if found and found.group(1):
        line, column = int(found.group(1)), int(found.group(2))
    else:
        line = len(lines)
        while line > 1 and not lines[line - 1].strip():
            line -= 1
        column = len(lines[line - 1]) + 1
    shown = lines[line - 1].replace("\t", " ").rstrip("\r")[:200] if line <= len(lines) else ""
    caret = " " * (min(column, 201) - 1) + "^"
    return SettingsInvalid(
        f"{path} line {line}, column {column}: {reason}.\n  {shown}\n  {caret}",
        hint="Mend the line; `penstock config check` reads the file again.",
        path=str(path),
        line=line,
        column=column,
    )
