"""The `penstock` command: the list of commands, and the one place where errors become exit codes.

The surprise: a command's module is imported when that command is called and not before, so that
`penstock --help` and `penstock key list` do not wait for the inference engine to load. The table below says
which module holds which command; `LazyGroup` is the only place that imports by name.
"""

import importlib
import os
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from penstock import __version__
from penstock.base.errors import PenstockError
from penstock.cli.faults import DebugFlag, print_error, print_fault


@dataclass(frozen=True)
class _Entry:
    module: str
    help: str


COMMANDS: dict[str, _Entry] = {
    "init": _Entry("init", "Write a commented penstock.toml into the home."),
    "up": _Entry("up", "Run everything: gateway, control and console, apps, engine."),
    "demo": _Entry("demo", "Turn the whole wheel once: ingest, ask, score, trace."),
    "doctor": _Entry("doctor", "Look at this home and say what is well and what is not."),
    "config": _Entry("config", "The configuration: check, show, plan, history, diff, rollback."),
    "key": _Entry("key", "Keys of the gateway and the API: create, list, show, edit, rotate, revoke."),
    "provider": _Entry("provider", "Where calls can be sent: list, show, create, edit, delete, test."),
    "secret": _Entry("secret", "Upstream keys, sealed: list, set, rotate, delete, rekey."),
    "route": _Entry("route", "Names that clients put into `model`: list, show, create, edit, delete."),
    "limit": _Entry("limit", "Limits and budgets: list, show, create, edit, delete."),
    "cache": _Entry("cache", "Replies that are given again: stats, purge."),
    "price": _Entry("price", "Prices that you set: list, show, create, edit, delete."),
    "tune": _Entry("tune", "Tuning: init, plan, run, list, show, logs, compare, stop, resume, install."),
    "model": _Entry("model", "Models: list, show, pull, export, card, lineage, verify, aliases."),
    "asset": _Entry(
        "asset", "Versions and aliases of anything: list, show, move, rollback, lineage, history."
    ),
    "gate": _Entry("gate", "Verdicts over evaluations, for CI and for aliases: run, check, list, show."),
    "app": _Entry(
        "declared_app",
        "Apps that answer from knowledge: check, create, edit, list, show, diff, move, delete.",
    ),
    "knowledge": _Entry("knowledge", "Knowledge bases: ingest, list, search."),
    "mcp": _Entry("mcp", "Serve an agent over MCP: knowledge bases and apps as its tools."),
    "dataset": _Entry(
        "dataset", "Rows as immutable versions: create, import, show, rows, diff, split, export, from-traces."
    ),
    "prompt": _Entry(
        "prompt", "Prompts: list, show, create, edit, render, test, diff, move, rollback, import, export."
    ),
    "traces": _Entry("traces", "What happened: list, spans, show, score, fields, export."),
    "view": _Entry("view", "Saved views of lists: list, show, save, delete."),
    "session": _Entry("session", "Conversations over several traces: list, show."),
    "user": _Entry("user", "Who calls: list, show."),
    "dashboard": _Entry("dashboard", "Numbers over many traces: list, show, measure, create, edit, delete."),
    "alert": _Entry(
        "alert", "Rules over measures, and who is told: list, create, silence, test, history, channel."
    ),
    "cost": _Entry("cost", "What calls cost: sums, show, reconcile with a provider's bill, advice."),
    "privacy": _Entry("privacy", "What is stored of somebody: export, erase, list, receipt, verify, replay."),
    "deploy": _Entry(
        "deploy", "Models on engines of their own: model, list, show, swap, rollback, delete, events, logs."
    ),
    "scorer": _Entry("scorer", "What judges outputs: list, show, try, create."),
    "eval": _Entry("eval", "Evaluations: plan, run, list, show, cases, diff, resume, stop, rescore, export."),
    "experiment": _Entry("experiment", "Grids of evaluations: plan, run, list, show, leaderboard, stop."),
    "judge": _Entry(
        "judge", "Models that judge, held against people's labels: try, label, calibrate, compare."
    ),
    "loadtest": _Entry(
        "loadtest", "Load tests: calls at a stated rate, latency with intervals, held against limits."
    ),
    "backup": _Entry("backup", "Write everything of this home into one file."),
    "restore": _Entry("restore", "Make a new home from a backup."),
    "job": _Entry("job", "Durable work: list, show, logs, cancel, retry."),
    "gateway": _Entry("gateway", "Run one gateway worker alone."),
    "control": _Entry("control", "Run control and console alone."),
    "apps": _Entry("apps", "Run the apps process alone."),
    "engine": _Entry("engine", "Run the embedded engine alone."),
}


class LazyGroup(typer.core.TyperGroup):
    """Resolves a command by importing its module; listings and completion of names use the table alone."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return name, command and remaining arguments; unknown names are refused as usual."""
        entry = COMMANDS.get(args[0]) if args else None
        if entry is None:
            return super().resolve_command(ctx, args)
        module = importlib.import_module(f"penstock.cli.{entry.module}")
        command = typer.main.get_command(module.app)
        return args[0], command, args[1:]


app = typer.Typer(
    cls=LazyGroup,
    name="penstock",
    help="All of LLM operations in one program. Start with `penstock demo` or `penstock up`.",
    epilog="Example: penstock up --home ./home --port 4600",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(value: bool) -> None:
    if value:
        print(f"penstock {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    DebugFlag.is_on = debug


def _add_names() -> None:
    for name, entry in COMMANDS.items():
        app.command(name, help=entry.help)(_never_called)


def _never_called() -> None:
    """Stands in listings for a command whose module is not loaded yet."""


_add_names()


def main() -> None:
    """Run the command line and exit: 0 done, 2 caller, 3 policy, 4 conflict, 5 upstream, 70 bug, 130 ctrl-c."""
    try:
        app(prog_name="penstock")
    except PenstockError as error:
        sys.exit(print_error(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # so that the exit does not flush into it
        sys.exit(0)
    except Exception as error:  # the process edge: a bug is logged and told in two lines
        sys.exit(print_fault(error))
