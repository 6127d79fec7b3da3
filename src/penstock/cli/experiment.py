"""`penstock experiment`: plan, run, list, show, leaderboard, stop, resume, delete."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from penstock.base.late import late_imports
from penstock.cli.eval_rows import money, print_leaderboard
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_record, print_rows, time_text
from penstock.cli.progress import ProgressLine
from penstock.main.control_client import ControlClient
from penstock.main.errors import EvaluationFailed
from penstock.main.eval_files import read_experiment_file

with late_imports():
    from penstock.main import job_wait

app = noun_app("Grids of evaluations: plan, run, list, show, leaderboard, stop, resume, delete.")
POLL_S = 0.4
ROOT = "/api/v1/experiments"
FileArgument = Annotated[Path, typer.Argument(help="Grid file, TOML or JSON.")]
ExperimentId = Annotated[str, typer.Argument(help="Its id, or its name for the newest of that name.")]


@app.command(epilog="Example: penstock experiment plan triage-grid.toml")
def plan(file: FileArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Say which cells the grid has, and what each would cost. Asks no model."""
    opened = open_home(home, as_json=as_json)
    spec = read_experiment_file(file)
    cells = ControlClient(opened).post(f"{ROOT}/plan", {"spec": msgspec.to_builtins(spec)})["cells"]
    if as_json:
        print_json(cells)
        return
    rows = [
        {
            "cell": each["cell"],
            "cases": each["plan"]["n_cases"],
            "calls": each["plan"]["n_calls"],
            "judge calls": each["plan"].get("n_judge_calls", 0),
            "cost": money(each["plan"].get("cost_usd"), 0) or "unknown",
            "notes": "; ".join(each["plan"].get("problems", ())) or None,
        }
        for each in cells
    ]
    print_rows(rows, ("cell", "cases", "calls", "judge calls", "cost", "notes"), as_json=False)


@app.command(epilog="Example: penstock experiment run triage-grid.toml")
def run(
    file: FileArgument,
    *,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Run every cell under one budget and pace, and print the leaderboard."""
    opened = open_home(home, as_json=as_json)
    client = ControlClient(opened)
    record = client.post(ROOT, {"spec": msgspec.to_builtins(read_experiment_file(file))})
    if not detach:
        with ProgressLine("experiment", quiet=as_json) as line:
            record = follow(client, record["id"], line.tell)
    _print(client, record, as_json=as_json)


def follow(client: ControlClient, experiment_id: str, tell: job_wait.Tell) -> dict[str, Any]:
    """Return the record once it is at rest."""
    while True:
        record: dict[str, Any] = client.get(f"{ROOT}/{experiment_id}")
        cells = client.get(f"{ROOT}/{experiment_id}/evaluations")["evaluations"]
        shares = [_share(cell) for cell in cells]
        text = f"{record.get('n_done', 0)} of {len(record['cells'])} cells"
        cost = money(record.get("cost_usd"), record.get("n_cost_unknown", 0))
        tell(sum(shares) / max(1, len(shares)), f"{text}, {cost}" if cost else text)
        if record["state"] in {"done", "stopped", "failed"}:
            return record
        time.sleep(POLL_S)


def _share(record: dict[str, Any]) -> float:
    asked = (record.get("n_cases") or 0) * record["spec"].get("repeats", 1)
    if record["state"] in {"done", "stopped", "failed"}:
        return 1.0
    return record.get("n_outputs", 0) / asked if asked else 0.0


def _print(client: ControlClient, record: dict[str, Any], *, as_json: bool) -> None:
    if record["state"] == "failed":
        raise EvaluationFailed(
            f"Experiment {record['id']} failed: {record.get('reason') or 'no reason given'}",
            experiment=record["id"],
        )
    board = client.get(f"{ROOT}/{record['id']}/leaderboard") if record.get("n_done") else None
    if as_json:
        print_json({"experiment": record, **({"leaderboard": board} if board else {})})
        return
    print_record(_row(record), as_json=False)
    if board is not None:
        print()
        print_leaderboard(board)


def _row(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": record["id"],
        "name": record["name"],
        "state": record["state"],
        "cells": f"{record.get('n_done', 0)}/{len(record['cells'])}",
        "cost": money(record.get("cost_usd"), record.get("n_cost_unknown", 0)),
        "reason": record.get("reason"),
        "created": time_text(record.get("created_ns")),
    }


@app.command("list", epilog="Example: penstock experiment list")
def list_experiments(
    *,
    tag: Annotated[str | None, typer.Option(help="Only with this tag.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many.")] = 30,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List experiments, newest first."""
    page = ControlClient(open_home(home, as_json=as_json)).get(ROOT, tag=tag, limit=limit)
    rows = page["rows"] if as_json else [_row(row) for row in page["rows"]]
    columns = ("id", "name", "state", "cells", "cost", "created")
    print_rows(
        rows, columns, as_json=as_json, empty="No experiments yet: `penstock experiment run grid.toml`."
    )


@app.command(epilog="Example: penstock experiment show triage-grid")
def show(experiment_id: ExperimentId, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show one experiment with its leaderboard."""
    client = ControlClient(open_home(home, as_json=as_json))
    _print(client, client.get(f"{ROOT}/{experiment_id}"), as_json=as_json)


@app.command(epilog="Example: penstock experiment leaderboard triage-grid --score token_f1")
def leaderboard(
    experiment_id: ExperimentId,
    *,
    score: Annotated[str | None, typer.Option(help="What cells are ranked by.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Rank the cells by quality, cost and latency, and say whether the lead is certain."""
    client = ControlClient(open_home(home, as_json=as_json))
    board = client.get(f"{ROOT}/{experiment_id}/leaderboard", score=score)
    if as_json:
        print_json(board)
    else:
        print_leaderboard(board)


@app.command(epilog="Example: penstock experiment stop triage-grid")
def stop(experiment_id: ExperimentId, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Stop its cells; what they have is valid."""
    client = ControlClient(open_home(home, as_json=as_json))
    record = client.post(f"{ROOT}/{experiment_id}/stop", {})
    print_record(record if as_json else _row(record), as_json=as_json)


@app.command(epilog="Example: penstock experiment resume triage-grid")
def resume(
    experiment_id: ExperimentId,
    *,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Go on with the cells that are not done."""
    client = ControlClient(open_home(home, as_json=as_json))
    record = client.post(f"{ROOT}/{experiment_id}/resume", {})
    if not detach:
        with ProgressLine("experiment", quiet=as_json) as line:
            record = follow(client, record["id"], line.tell)
    _print(client, record, as_json=as_json)


@app.command(epilog="Example: penstock experiment delete triage-grid")
def delete(experiment_id: ExperimentId, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Forget the experiment; its evaluations stay."""
    client = ControlClient(open_home(home, as_json=as_json))
    print_record(client.delete(f"{ROOT}/{experiment_id}"), as_json=as_json)
