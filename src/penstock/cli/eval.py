"""`penstock eval`: plan, run, list, show, cases, diff, leaderboard, resume, stop, rescore, delete, export, logs."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from penstock.base.errors import PenstockError
from penstock.base.late import late_imports
from penstock.cli import eval_import
from penstock.cli.eval_rows import (
    LIST_COLUMNS,
    case_lines,
    list_row,
    print_comparison,
    print_estimates,
    print_leaderboard,
    print_plan,
    record_rows,
)
from penstock.cli.eval_spec import (
    DatasetOption,
    FileArgument,
    ScorerOption,
    SetOption,
    TargetOption,
    build_spec,
    read_scorer,
)
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_record, print_rows, time_text
from penstock.cli.progress import ProgressLine
from penstock.cli.saving import print_pieces, save_pieces
from penstock.main.control_client import ControlClient
from penstock.main.errors import EvaluationFailed
from penstock.spec.home import Home

with late_imports():
    from penstock.evals.running import control_run
    from penstock.main import job_wait, local_runs
    from penstock.main import rooms as control_rooms

app = noun_app(
    "Evaluations: plan, run, list, show, cases, diff, resume, stop, rescore, delete, export, logs."
)
POLL_S = 0.4
ROOT = "/api/v1/evaluations"
EvaluationId = Annotated[str, typer.Argument(help="Its id, or its name for the newest of that name.")]
app.add_typer(
    eval_import.app,
    name="import",
    help="Evaluations of other tools as files of yours: openai, promptfoo, multiple-choice.",
)


@app.command(epilog="Example: penstock eval plan triage.toml")
def plan(
    file: FileArgument = None,
    *,
    dataset: DatasetOption = None,
    target: TargetOption = None,
    scorer: ScorerOption = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="How often each case is asked.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many cases.")] = None,
    sets: SetOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Say what it would do and cost, and which difference so many cases could show. Asks no model."""
    opened = open_home(home, as_json=as_json)
    further = {"repeats": repeats, "limit": limit}
    spec = build_spec(file, dataset=dataset, target=target, scorers=scorer, sets=sets, further=further)
    told = ControlClient(opened).post(f"{ROOT}/plan", {"spec": msgspec.to_builtins(spec, str_keys=True)})
    if as_json:
        print_json(told)
    else:
        print_plan(told)


@app.command(epilog="Example: penstock eval run triage.toml --limit 50")
def run(
    file: FileArgument = None,
    *,
    dataset: DatasetOption = None,
    target: TargetOption = None,
    scorer: ScorerOption = None,
    name: Annotated[str | None, typer.Option(help="How it is called in lists.")] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="How often each case is asked.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many cases.")] = None,
    usd: Annotated[float | None, typer.Option(help="Stop before more than this is spent.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after so many minutes.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="At most so many calls at once.")] = None,
    cache: Annotated[bool | None, typer.Option(help="Take answers that are kept from before.")] = None,
    sets: SetOption = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end.")] = False,
    resume_id: Annotated[
        str | None, typer.Option("--resume", help="Go on with a local run that stopped or was killed.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Ask every case, score every answer, and print figures with intervals.

    Targets and scorers that are Python code, and HTTP endpoints, run in this process; all others in control, where they
    go on when this command is interrupted.
    """
    opened = open_home(home, as_json=as_json)
    budget = {key: value for key, value in (("usd", usd), ("minutes", minutes)) if value is not None}
    further = {
        "name": name,
        "repeats": repeats,
        "limit": limit,
        "budget": budget,
        "concurrency": concurrency,
        "cache": cache,
    }
    spec = build_spec(file, dataset=dataset, target=target, scorers=scorer, sets=sets, further=further)
    with ProgressLine("eval", quiet=as_json) as line:
        if control_run.needs_local(spec):
            try:
                record = local_runs.run_local(spec, home=opened, tell=line.tell, resume_id=resume_id).record
            except KeyboardInterrupt as stop:
                if stop.args:
                    print(
                        f"\nStopped; what was answered is kept. Go on: {_again(stop.args[0])}",
                        file=sys.stderr,
                    )
                raise
        else:
            client = ControlClient(opened)
            record = client.post(ROOT, {"spec": msgspec.to_builtins(spec)})
            if not detach:
                record = follow(client, record["id"], line.tell)
    print_result(opened, record, as_json=as_json, is_over=not detach)


def _again(evaluation_id: str) -> str:
    """Return the command that goes on with a run that was begun by the present one."""
    words = [word for word in sys.argv[1:] if not word.startswith("--resume=")]
    if "--resume" in words:
        at = words.index("--resume")
        del words[at : at + 2]
    return shlex.join(["penstock", *words, "--resume", evaluation_id])


def follow(client: ControlClient, evaluation_id: str, tell: job_wait.Tell) -> dict[str, Any]:
    """Return the record once it is at rest. Interrupted, the run goes on in control."""
    try:
        while True:
            record: dict[str, Any] = client.get(f"{ROOT}/{evaluation_id}")
            asked = (record.get("n_cases") or 0) * record["spec"].get("repeats", 1)
            done = record.get("n_outputs", 0)
            text = f"{done} of {asked}" if asked else "reading cases"
            if record.get("n_errors"):
                text += f", {record['n_errors']} errors"
            if record.get("cost_usd") is not None and float(record["cost_usd"]) > 0:
                text += f", ${float(record['cost_usd']):.4f}"
            if record.get("eta_s"):
                text += f", {record['eta_s']:.0f} s left"
            tell(done / asked if asked else None, text)
            if record["state"] in {"done", "stopped", "failed"}:
                return record
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        print(
            f"\nIt goes on in the background: `penstock eval show {evaluation_id}`, "
            f"`penstock eval stop {evaluation_id}`.",
            file=sys.stderr,
        )
        raise


def print_result(home: Home, record: dict[str, Any], *, as_json: bool, is_over: bool) -> None:
    """Print an evaluation with its figures; raise `EvaluationFailed` when it failed."""
    if record["state"] == "failed":
        error = record.get("error") or {}
        raise EvaluationFailed(
            f"Evaluation {record['id']} failed: {record.get('reason') or error.get('message', 'no reason given')}",
            hint=error.get("hint"),
            evaluation=record["id"],
        )
    report = ControlClient(home).get(f"{ROOT}/{record['id']}/estimates") if is_over else None
    if as_json:
        print_json({"evaluation": record, **({"figures": report} if report else {})})
        return
    print_record(record_rows(record), as_json=False)
    if report is not None:
        print()
        print_estimates(report)


@app.command("list", epilog="Example: penstock eval list --target small")
def list_evaluations(
    *,
    name: Annotated[str | None, typer.Option(help="Only of this name.")] = None,
    target: Annotated[str | None, typer.Option(help="Only of this target.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Only over dataset:NAME.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only with this tag.")] = None,
    state: Annotated[list[str] | None, typer.Option(help="queued, running, done, stopped, failed.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many.")] = 30,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List evaluations, newest first."""
    client = ControlClient(open_home(home, as_json=as_json))
    page = client.get(ROOT, name=name, target=target, dataset=dataset, tag=tag, state=state, limit=limit)
    rows = page["rows"] if as_json else [list_row(row) for row in page["rows"]]
    empty = "No evaluations yet: `penstock eval run --dataset cases.jsonl --target MODEL --scorer exact`."
    print_rows(rows, LIST_COLUMNS, as_json=as_json, empty=empty)


@app.command(epilog="Example: penstock eval show eval_01kc3…")
def show(
    evaluation_id: EvaluationId,
    *,
    level: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show one evaluation: its figures with intervals, slices, and errors in groups."""
    client = ControlClient(open_home(home, as_json=as_json))
    record = client.get(f"{ROOT}/{_id(evaluation_id)}")
    report = client.get(f"{ROOT}/{_id(evaluation_id)}/estimates", level=level)
    if as_json:
        print_json({"evaluation": record, "figures": report})
        return
    print_record(record_rows(record), as_json=False)
    print()
    print_estimates(report)


@app.command(epilog="Example: penstock eval cases eval_01kc3… --score exact --high 0")
def cases(
    evaluation_id: EvaluationId,
    *,
    case_id: Annotated[str | None, typer.Option("--case", help="One case, whole.")] = None,
    score: Annotated[str | None, typer.Option(help="The score that the other options are about.")] = None,
    low: Annotated[float | None, typer.Option(help="Only with at least this score.")] = None,
    high: Annotated[float | None, typer.Option(help="Only with at most this score.")] = None,
    status: Annotated[
        str | None, typer.Option(help="Of the score: scored, undefined, error, skipped.")
    ] = None,
    output: Annotated[str | None, typer.Option(help="Of the output: ok, refused, error, skipped.")] = None,
    part: Annotated[str | None, typer.Option("--slice", help="Only of KEY=VALUE.")] = None,
    text: Annotated[str | None, typer.Option(help="Only with this text.")] = None,
    sort: Annotated[
        str, typer.Option(help="position, score, -score, latency, -latency, cost, -cost.")
    ] = "position",
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many.")] = 30,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List cases with answers and scores, or show one whole."""
    client = ControlClient(open_home(home, as_json=as_json))
    if case_id is not None:
        print_json(client.get(f"{ROOT}/{_id(evaluation_id)}/cases/{case_id}"))
        return
    query = {
        "score": score,
        "low": low,
        "high": high,
        "status": status,
        "output_status": output,
        "slice": part,
        "text": text,
        "sort": sort,
        "limit": limit,
    }
    page = client.get(f"{ROOT}/{_id(evaluation_id)}/cases", **query)
    if as_json:
        print_json(page)
        return
    rows = [case_lines(view) for view in page["rows"]]
    names = list(dict.fromkeys(key for row in rows for key in row if key != "trace"))
    print_rows(rows, [*names, "trace"] if rows else ["case"], as_json=False, empty="No case matches.")
    if page.get("next_cursor"):
        print(f"{page['n_matching']} cases match.", file=sys.stderr)


@app.command(epilog="Example: penstock eval diff eval_01kc3… eval_01kc4… --cases regressed")
def diff(
    baseline: Annotated[str, typer.Argument(help="The evaluation to compare with.")],
    candidate: Annotated[str, typer.Argument(help="The evaluation in question.")],
    *,
    score: Annotated[list[str] | None, typer.Option(help="Only this score; may be repeated.")] = None,
    level: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    correction: Annotated[str, typer.Option(help="holm, bh or none, over the scores.")] = "holm",
    change: Annotated[
        str | None,
        typer.Option("--cases", help="List cases: improved, regressed, changed, errored, undefined."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many cases.")] = 30,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Compare two evaluations case by case: differences with intervals, corrected for several looks."""
    client = ControlClient(open_home(home, as_json=as_json))
    sides = {"baseline": _id(baseline), "candidate": _id(candidate)}
    report = client.get(f"{ROOT}/compare", **sides, score=score, level=level, correction=correction)
    page = None
    if change is not None:
        first = score[0] if score else None
        page = client.get(f"{ROOT}/compare/cases", **sides, score=first, change=change, limit=limit)
    if as_json:
        print_json({**report, **({"cases": page} if page else {})})
        return
    print_comparison(report)
    if page is not None:
        rows = [_change_row(each) for each in page["rows"]]
        print()
        columns = ["case", "change", "difference", "baseline", "candidate"]
        print_rows(rows, columns, as_json=False, empty="No such case.")


def _change_row(row: dict[str, Any]) -> dict[str, Any]:
    sides = [
        case_lines(row[side]).get("output") if row.get(side) else None for side in ("baseline", "candidate")
    ]
    return {
        "case": row["case"]["id"],
        "change": row["change"],
        "difference": row.get("difference"),
        "baseline": sides[0],
        "candidate": sides[1],
    }


@app.command(epilog="Example: penstock eval leaderboard eval_01kc3… eval_01kc4… --score token_f1")
def leaderboard(
    evaluations: Annotated[list[str], typer.Argument(help="Evaluations over the same cases.")],
    *,
    score: Annotated[str | None, typer.Option(help="What they are ranked by.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Rank evaluations by quality, cost and latency, and say whether the lead is certain."""
    client = ControlClient(open_home(home, as_json=as_json))
    board = client.get(f"{ROOT}/leaderboard", evaluation=[_id(each) for each in evaluations], score=score)
    if as_json:
        print_json(board)
    else:
        print_leaderboard(board)


@app.command(epilog="Example: penstock eval resume eval_01kc3… --usd 5")
def resume(
    evaluation_id: EvaluationId,
    *,
    usd: Annotated[float | None, typer.Option(help="A new bound, of everything together.")] = None,
    minutes: Annotated[float | None, typer.Option(help="A new bound, from now on.")] = None,
    preflight: Annotated[bool | None, typer.Option(help="Try the first cases alone.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Ask what has no final answer yet and score what has no score; nothing that was answered is asked again."""
    opened = open_home(home, as_json=as_json)
    client = ControlClient(opened)
    budget = {key: value for key, value in (("usd", usd), ("minutes", minutes)) if value is not None}
    record = client.post(
        f"{ROOT}/{_id(evaluation_id)}/resume", {"budget": budget or None, "preflight": preflight}
    )
    if not detach:
        with ProgressLine("eval", quiet=as_json) as line:
            record = follow(client, record["id"], line.tell)
    print_result(opened, record, as_json=as_json, is_over=not detach)


@app.command(epilog="Example: penstock eval stop eval_01kc3…")
def stop(evaluation_id: EvaluationId, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """End a run; what it has is valid."""
    client = ControlClient(open_home(home, as_json=as_json))
    record = client.post(f"{ROOT}/{_id(evaluation_id)}/stop", {})
    print_record(record if as_json else record_rows(record), as_json=as_json)


@app.command(epilog="Example: penstock eval rescore eval_01kc3… --scorer token_f1")
def rescore(
    evaluation_id: EvaluationId,
    *,
    scorer: ScorerOption = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="As further scores of this evaluation, not as a new one.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="Of the new evaluation.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Score stored answers by other scorers; no model is asked but judges."""
    opened = open_home(home, as_json=as_json)
    client = ControlClient(opened)
    body = {"scorers": [read_scorer(each) for each in scorer or ()], "in_place": in_place, "name": name}
    record = client.post(f"{ROOT}/{_id(evaluation_id)}/rescore", body)
    with ProgressLine("eval", quiet=as_json) as line:
        record = follow(client, record["id"], line.tell)
    print_result(opened, record, as_json=as_json, is_over=True)


@app.command(epilog="Example: penstock eval delete eval_01kc3…")
def delete(evaluation_id: EvaluationId, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Forget an evaluation with its answers and scores."""
    client = ControlClient(open_home(home, as_json=as_json))
    print_record(client.delete(f"{ROOT}/{_id(evaluation_id)}"), as_json=as_json)


@app.command(epilog="Example: penstock eval export eval_01kc3… > run.jsonl")
def export(
    evaluation_id: EvaluationId,
    *,
    out: Annotated[Path | None, typer.Option(help="File to write; standard output without it.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Write every case with its answers and scores, one JSON object a line."""
    pieces = ControlClient(open_home(home, as_json=as_json)).stream(f"{ROOT}/{_id(evaluation_id)}/export")
    if out is None:
        print_pieces(pieces)
    else:
        print_record({"file": str(out), "size_bytes": save_pieces(pieces, out)}, as_json=as_json)


@app.command(epilog="Example: penstock eval logs eval_01kc3…")
def logs(evaluation_id: EvaluationId, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Print what its background run wrote."""
    opened = open_home(home, as_json=as_json)
    record = ControlClient(opened).get(f"{ROOT}/{_id(evaluation_id)}")
    job_id = record.get("job_id")
    lines = []
    if job_id is not None:
        try:
            lines = list(control_rooms.Rooms(opened).jobs.logs(job_id))
        except PenstockError:
            lines = []
    if as_json:
        print_json([{"at": time_text(line.at_ns), "text": line.text} for line in lines])
        return
    for line in lines:
        print(f"{time_text(line.at_ns)}  {line.text}")


def _id(text: str) -> str:
    return text.strip().removeprefix("eval:")
