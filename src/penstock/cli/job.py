"""`penstock job`: list, show, logs, cancel, retry. Works on the control tables, whether Penstock runs or not."""

from dataclasses import asdict
from typing import Annotated, Any, get_args

import typer

from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_record, print_rows, time_text
from penstock.jobs.types import Job, JobState

with late_imports():
    from penstock.main import rooms as control_rooms

app = noun_app("Durable work: list, show, logs, cancel, retry.")
STATES = get_args(JobState)
JobId = Annotated[str, typer.Argument(help="The job's id, from `penstock job list`.")]


def _row(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "progress": job.progress,
        "message": job.message,
        "attempts": job.attempts,
        "created": time_text(job.created_ns),
        "finished": time_text(job.finished_ns),
        "error": (job.error or {}).get("message"),
    }


@app.command("list", epilog="Example: penstock job list --state running")
def list_jobs(
    state: Annotated[
        str | None, typer.Option(help="queued, running, done, failed or cancelled.  [default: all]")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Such as knowledge.ingest.  [default: all]")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 50,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first."""
    opened = open_home(home, as_json=as_json)
    if state is not None and state not in STATES:
        raise InvalidInput(f"{state!r} is no state of a job.", hint=f"Use {', '.join(STATES)}.")
    rooms = control_rooms.Rooms(opened)
    jobs = rooms.jobs.list(states=(state,) if state else (), kind=kind, limit=limit)
    columns = ("id", "kind", "state", "progress", "message", "attempts", "created", "error")
    print_rows(map(_row, jobs), columns, as_json=as_json, empty="No jobs yet.")


@app.command(epilog="Example: penstock job show job_01kc3… --json")
def show(job_id: JobId, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show one job: what it was asked, how far it is, what came out."""
    rooms = control_rooms.Rooms(open_home(home, as_json=as_json))
    job = rooms.jobs.get(job_id)
    steps = rooms.jobs.steps(job_id)
    if as_json:
        print_json({**asdict(job), "steps": [asdict(step) for step in steps]})
    else:
        print_record(
            {**_row(job), "spec": job.spec, "result": job.result, "steps": len(steps)}, as_json=False
        )


@app.command(epilog="Example: penstock job logs job_01kc3…")
def logs(
    job_id: JobId,
    after: Annotated[int, typer.Option(help="Only lines after this number.")] = 0,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Print what a job wrote."""
    rooms = control_rooms.Rooms(open_home(home, as_json=as_json))
    lines = rooms.jobs.logs(job_id, after)
    if as_json:
        print_json([asdict(line) for line in lines])
    else:
        for line in lines:
            print(f"{time_text(line.at_ns)}  {line.text}")


@app.command(epilog="Example: penstock job cancel job_01kc3…")
def cancel(job_id: JobId, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Cancel a job: at once when it waits, at its next step when it runs."""
    job = control_rooms.Rooms(open_home(home, as_json=as_json)).jobs.cancel(job_id)
    print_record(_row(job), as_json=as_json)


@app.command(epilog="Example: penstock job retry job_01kc3…")
def retry(job_id: JobId, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Queue a failed or cancelled job again; steps that were finished stay finished."""
    job = control_rooms.Rooms(open_home(home, as_json=as_json)).jobs.retry(job_id)
    print_record(_row(job), as_json=as_json)
