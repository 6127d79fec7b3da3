"""`penstock tune`: list, show, status, logs, events, samples, curves, compare. `register(app)` adds the verbs."""

from typing import Annotated

import typer

from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, open_home
from penstock.cli.output import print_json, print_lines, print_rows, printable
from penstock.cli.progress import ProgressLine
from penstock.cli.tune_rows import RUN_COLUMNS, print_comparison, print_run, run_row
from penstock.spec.tuning import RunState, TuneMethod

with late_imports():
    from penstock.main import tune_access

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Id of a run, or the name of the newest.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to `penstock tune`."""
    example = "Example: penstock tune"
    app.command("list", epilog=f"{example} list --state running")(list_runs)
    app.command(epilog=f"{example} show triage")(show)
    app.command(epilog=f"{example} status triage --follow")(status)
    app.command(epilog=f"{example} logs triage")(logs)
    app.command(epilog=f"{example} events triage --kind eval")(events)
    app.command(epilog=f"{example} samples triage")(samples)
    app.command(epilog=f"{example} curves triage")(curves)
    app.command(epilog=f"{example} compare triage run_01j")(compare)


def list_runs(
    *,
    state: Annotated[RunState | None, typer.Option(help="Only runs in this state.")] = None,
    name: Annotated[str | None, typer.Option(help="Only runs of this name.")] = None,
    method: Annotated[TuneMethod | None, typer.Option(help="Only runs of this method.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many.")] = 50,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List runs, newest first."""
    with tune_access.TuneAccess(open_home(home, as_json=as_json)) as access:
        page = access.runs.list(state=state, name=name, method=method, limit=limit)
    if as_json:
        print_json(page.rows)
        return
    print_lines(
        [run_row(record) for record in page.rows],
        RUN_COLUMNS,
        give_up=("base", "began", "method"),
        shorten="best",
        empty="No runs yet: penstock tune init FILE",
    )


def show(run: RunArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show one run: where it stands, what it is made from, what it has made."""
    with tune_access.TuneAccess(open_home(home, as_json=as_json)) as access:
        record = access.runs.get(run)
    print_run(record, as_json=as_json)


def status(
    run: RunArgument,
    *,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for its end.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Say in one line where a run stands."""
    with tune_access.TuneAccess(open_home(home, as_json=as_json)) as access:
        if follow:
            with ProgressLine(f"tune {run}", quiet=as_json) as line:
                record = access.follow(run, line.tell)
        else:
            record = access.runs.get(run)
    row = run_row(record)
    if as_json:
        print_json({**row, "step": record.step, "n_steps": record.n_steps, "fault": record.fault})
    else:
        told = (row["state"], f"step {row['steps']}", row["best"], row["model"])
        print(f"{record.name}: " + ", ".join(str(each) for each in told if each))


def logs(
    run: RunArgument,
    *,
    size: Annotated[int, typer.Option(min=100, help="At most so many bytes of the end.")] = 65536,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Print the end of what the trainer and its libraries have said."""
    with tune_access.TuneAccess(open_home(home, as_json=as_json)) as access:
        text = access.runs.logs(run, max_bytes=size)
    if as_json:
        print_json({"text": text})
        return
    for line in text.splitlines():
        print(printable(line))


def events(
    run: RunArgument,
    *,
    after: Annotated[int, typer.Option(min=0, help="Cursor: next_after of an earlier answer.")] = 0,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only events of this kind, such as step or eval.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=5000, help="At most so many.")] = 1000,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Print what the trainer has told, oldest first."""
    with tune_access.TuneAccess(open_home(home, as_json=as_json)) as access:
        page = access.runs.events(run, after=after, kinds=tuple(kind or ()), limit=limit)
    if as_json:
        print_json(page)
        return
    rows = [
        {
            "step": event.step,
            "kind": event.kind,
            "values": " ".join(
                f"{name}={value:.5g}" for name, value in event.values.items() if value is not None
            ),
            "text": event.text,
        }
        for event in page.rows
    ]
    print_rows(rows, ("step", "kind", "values", "text"), as_json=False)


def samples(
    run: RunArgument,
    *,
    step: Annotated[
        int | None, typer.Option(min=0, help="Those of this step; without it of the last one.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show how replies to held-out prompts have changed while training."""
    with tune_access.TuneAccess(open_home(home, as_json=as_json)) as access:
        found = access.runs.samples(run)
    wanted = step if step is not None else max((each.step for each in found), default=None)
    shown = [each for each in found if each.step == wanted]
    if as_json:
        print_json(shown)
        return
    rows = [
        {"step": each.step, "prompt": each.prompt, "reference": each.reference, "reply": each.reply}
        for each in shown
    ]
    print_rows(rows, ("step", "prompt", "reference", "reply"), as_json=False, empty="No samples yet.")


def curves(
    run: RunArgument,
    *,
    points: Annotated[int, typer.Option(min=2, max=5000, help="Points of each curve.")] = 8,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Print each figure over the steps, thinned."""
    with tune_access.TuneAccess(open_home(home, as_json=as_json)) as access:
        found = access.runs.curves(run, max_points=points)
    if as_json:
        print_json([{"name": each.name, "n_points": each.n_points, "points": each.points} for each in found])
        return
    rows = [
        {
            "figure": each.name,
            "over the steps": "  ".join(f"{point.step}: {point.value:.4g}" for point in each.points),
        }
        for each in found
    ]
    print_rows(rows, ("figure", "over the steps"), as_json=False, empty="Nothing was told yet.")


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Two runs or more, by id or name.")],
    *,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Put runs side by side: where their recipes differ, and how their figures came out."""
    with tune_access.TuneAccess(open_home(home, as_json=as_json)) as access:
        found = access.runs.compare(runs)
    print_comparison(found, as_json=as_json)
