"""How failures are told: what, why and what to do on standard error; a traceback only with --debug."""

import contextlib
import json
import sys
import traceback
from typing import ClassVar

from penstock.base.clock import iso_from_ns, now_ns
from penstock.base.errors import BugError, PenstockError
from penstock.base.logs import redact
from penstock.spec.home import Home

PLACE_CHARS = 100
"""How much of a text is shown around the part that an error is about."""


class DebugFlag:
    """What the root command was told; errors are printed after its context is gone."""

    is_on: ClassVar[bool] = False
    is_json: ClassVar[bool] = False
    home: ClassVar[Home | None] = None


def print_error(error: PenstockError) -> int:
    """Print an expected error and return the exit code."""
    if DebugFlag.is_on:
        traceback.print_exception(error)
    if DebugFlag.is_json:
        print(
            json.dumps({"error": redact(error.as_dict())}, default=str, ensure_ascii=False), file=sys.stderr
        )
        return error.exit_code
    print(f"penstock: {redact(error.message)}  [{error.code}]", file=sys.stderr)
    for line in _place_lines(error):
        print(f"  {line}", file=sys.stderr)
    if error.hint:
        print(f"  {redact(error.hint)}", file=sys.stderr)
    return error.exit_code


def _place_lines(error: PenstockError) -> list[str]:
    """Return the text that an error is about with carets below the wrong part; nothing for other errors."""
    query, position, length = (error.fields.get(name) for name in ("query", "position", "length"))
    if not isinstance(query, str) or not isinstance(position, int) or not isinstance(length, int):
        return []
    first = max(0, position - PLACE_CHARS // 2)
    shown = "".join(char if char.isprintable() else " " for char in query[first : first + PLACE_CHARS])
    if redact(shown) != shown:
        return []
    marks = "^" * max(1, min(length, PLACE_CHARS - (position - first)))
    return [shown, " " * (position - first) + marks]


def print_fault(error: Exception) -> int:
    """Print a bug in two lines, keep its traceback in the log, and return the exit code."""
    if DebugFlag.is_on:
        traceback.print_exception(error)
    where = _keep_traceback(error)
    print(
        f"penstock: this is a bug in Penstock: {type(error).__name__}: {redact(str(error))[:500]}  [{BugError.code}]",
        file=sys.stderr,
    )
    print(
        f"  The traceback is in {where}; please report it." if where else "  See it with --debug.",
        file=sys.stderr,
    )
    return BugError.exit_code


def _keep_traceback(error: Exception) -> str | None:
    if DebugFlag.home is None:
        return None
    path = DebugFlag.home.logs / "cli.log"
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            text = redact("".join(traceback.format_exception(error)))
            file.write(
                json.dumps({"time": iso_from_ns(now_ns()), "level": "error", "exception": text}) + "\n"
            )
        return str(path)
    return None
