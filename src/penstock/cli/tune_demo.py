"""`penstock tune demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from penstock.base.late import late_imports
from penstock.cli.demo import check_writable, write_report
from penstock.cli.options import DEFAULT_HOME, HomeOption, open_home
from penstock.cli.progress import ProgressLine
from penstock.spec.evaluations import Comparison

with late_imports():
    from penstock.main import tune_demo


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: penstock tune demo --home ./home --json tuned.json")(demo)


def demo(
    home: HomeOption = DEFAULT_HOME,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Also write the result to this file, as JSON.", dir_okay=False),
    ] = None,
) -> None:
    """Tune the model that ships, gate it on held-out articles, and let it answer in its place.

    Makes the training environment where there is none (a download of about a gigabyte), then needs no network and no key.
    Run it again at any time: what is done is not done twice.
    """
    opened = open_home(home)
    if json_file is not None:
        check_writable(json_file)
    with ProgressLine("    ") as line:
        report = tune_demo.run_tune_demo(opened, lambda text: print(text, flush=True), line.tell)
    if json_file is not None:
        write_report(report, json_file)
    _print(report, opened.root, json_file)


def _print(report: tune_demo.TuneDemoReport, root: Path, json_file: Path | None) -> None:
    print(f"\ngate {report.verdict.upper()}: {report.tuned} against {report.base}")
    for sentence in report.sentences:
        print(f"    {sentence}")
    if report.shifts:
        print(f"\n{'held-out questions':<34}{'before':>8}{'after':>8}   difference, 95 % interval")
        for shift in report.shifts:
            print(_line(shift))
    print(f"\nmodel:pocket@prod is {report.prod}")
    if report.trained_s is not None:
        print(f"trained   {report.n_steps} steps in {report.trained_s:.0f} s, rows and packaging included")
    for number, command in enumerate(report.undo):
        print(f"{'take back ' if number == 0 else ' ' * 10}{command}")
    print(f"the run   penstock tune show {report.run} --home {root}")
    if not report.is_running:
        print(f"open it   penstock up --home {root}")
    print(f"then      {report.console}/gates/{report.gate}")
    if json_file is not None:
        print(f"as data   {json_file}")


def _line(shift: Comparison) -> str:
    name = shift.name if shift.slice is None else f"  {shift.name}, {shift.slice}"
    figures = [
        f"{'-' if value is None else f'{value:.3f}':>8}" for value in (shift.baseline, shift.candidate)
    ]
    told = "-"
    if shift.difference is not None:
        told = f"{100 * shift.difference:+.1f} points"
        if shift.low is not None and shift.high is not None:
            told += f" [{100 * shift.low:+.1f}, {100 * shift.high:+.1f}]"
    return f"{name:<34}{''.join(figures)}   {told}, {shift.n_pairs} cases"
