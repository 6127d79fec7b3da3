"""What a command loads before it does its work: help, completion and questions to the running control process are light."""

import fcntl
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

import pytest
import typer.main

from penstock.base.late import LateModule
from penstock.cli import app as cli_app
from penstock.main.home_files import create_home
from penstock.main.instance import Addresses, InstanceState, write_state
from penstock.spec.home import Home

HEAVY = (
    "aiohttp", "alembic", "duckdb", "fastapi", "fsspec", "google.protobuf", "jinja2", "lmdb", "lxml", "numpy",
    "opentelemetry", "sqlalchemy", "tokenizers", "uvicorn", "xllamacpp", "yaml",
)  # fmt: skip
"""Not pydantic: Typer itself checks values with it."""
_PROBE = f"""
import atexit, sys
def tell():
    print("LOADED", *(name for name in {HEAVY!r} if name in sys.modules))
atexit.register(tell)
from penstock.cli.app import main
main()
"""
NO_VERBS = ("sums", "aliases", "history")
"""Words of the table that are what a noun does without a verb, or what it shows."""
NOTHING: dict[str, Any] = {"rows": [], "next_cursor": None}
NO_SUMS = {
    "group": {}, "n_calls": 0, "cost_usd": None, "n_unpriced": 0, "n_estimated": 0, "estimated_usd": None,
    "input_tokens": None, "output_tokens": None, "classes": {}, "n_cached": 0, "saved_usd": None,
}  # fmt: skip


class Control(BaseHTTPRequestHandler):
    """Answers as the control process of a home in which nothing has happened yet."""

    asked: ClassVar[list[str]] = []
    answers: ClassVar[dict[str, Any]] = {
        "/api/v1/privacy/receipts": {"receipts": []},
        "/api/v1/costs": {"by": [], "total": NO_SUMS, "rows": []},
        "/api/v1/datasets": {"datasets": []},
    }

    def do_GET(self) -> None:  # the base class names it
        path = self.path.partition("?")[0]
        self.asked.append(path)
        body = json.dumps(self.answers.get(path, NOTHING)).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def running(home: Home) -> Iterator[Home]:
    """A home whose lock is held and whose control process answers."""
    create_home(home)
    home.admin_key.write_text("ps-owner\n")
    Control.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Control)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with home.lock.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        write_state(
            home,
            InstanceState(
                pid=1,
                started_ns=0,
                status="ready",
                addresses=Addresses(console_port=server.server_port),
                workers=1,
                version="0",
            ),
        )
        yield home
    server.shutdown()
    thread.join()
    server.server_close()


def loaded_by(*arguments: str, **variables: str) -> tuple[int, str, set[str]]:
    """Return exit code, output, and which of the heavy packages a command loaded in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-c", _PROBE, *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nowhere", "COLUMNS": "100", **variables},
    )
    told, _, loaded = run.stdout.rpartition("LOADED")
    return run.returncode, told + run.stderr, set(loaded.split())


@pytest.mark.parametrize("noun", [(), *((noun,) for noun in cli_app.COMMANDS)], ids=" ".join)
def test_help_of_every_noun_is_light(noun: tuple[str, ...]) -> None:
    code, told, loaded = loaded_by(*noun, "--help")
    assert (code, loaded) == (0, set()), told
    assert "Usage: penstock" in told


@pytest.mark.parametrize(
    "arguments",
    [
        ("key", "create", "--help"),
        ("traces", "list", "--help"),
        ("tune", "run", "--help"),
        ("knowledge", "source", "add", "--help"),
        ("traces", "liist"),
        ("tarces",),
        ("--version",),
    ],
    ids=" ".join,
)
def test_help_of_a_verb_and_mistyped_ones_are_light(arguments: tuple[str, ...]) -> None:
    code, told, loaded = loaded_by(*arguments)
    assert loaded == set(), told
    assert code == (0 if arguments[-1].startswith("--") else 2)
    assert arguments[-1].startswith("--") or "Did you mean" in told


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (("traces", "list"), "/api/v1/traces"),
        (("traces", "spans", "kind:llm"), "/api/v1/spans"),
        (("session", "list"), "/api/v1/sessions"),
        (("user", "list"), "/api/v1/users"),
        (("cost",), "/api/v1/costs"),
        (("privacy", "list"), "/api/v1/privacy/receipts"),
        (("gate", "list"), "/api/v1/gates"),
        (("eval", "list"), "/api/v1/evaluations"),
        (("experiment", "list"), "/api/v1/experiments"),
        (("dataset", "list"), "/api/v1/datasets"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_is_asked_of_the_running_control_process_loads_no_store(
    running: Home, arguments: tuple[str, ...], path: str
) -> None:
    code, told, loaded = loaded_by(*arguments, "--json", PENSTOCK_HOME=str(running.root))
    assert (code, loaded) == (0, set()), told
    assert Control.asked == [path]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("penstock tra", ["traces"]),
        ("penstock traces l", ["list"]),
        ("penstock --debug knowledge source re", ["resume", "remove"]),
        ("penstock traces list --sta", ["--status"]),
    ],
)
def test_a_shell_completes_names_of_any_depth_and_loads_little(words: str, offered: list[str]) -> None:
    code, told, loaded = loaded_by(
        _PENSTOCK_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(len(words.split()) - 1)
    )
    assert (code, loaded) == (0, set())
    assert sorted(told.split()) == sorted(offered)


def test_the_table_of_commands_names_verbs_that_the_modules_have() -> None:
    root: Any = typer.main.get_command(cli_app.app)
    assert list(root.commands) == list(cli_app.COMMANDS)
    for name, entry in cli_app.COMMANDS.items():
        _, command, _ = root.resolve_command(None, [name])
        if verbs := getattr(command, "commands", {}):
            told = re.split(r",| and ", entry.help.partition(": ")[2].rstrip("."))
            words = {each.strip() for each in told if re.fullmatch(r"[a-z-]+", each.strip())}
            assert words <= {*verbs, *NO_VERBS}, f"penstock {name} has no {words - {*verbs}}"


def test_a_command_of_this_process_holds_stand_ins_only_until_they_are_used() -> None:
    code = """
from penstock.base.late import LateModule
from penstock.cli import traces
assert isinstance(traces.trace_access, LateModule)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=240)
    assert issubclass(LateModule, type(sys))
