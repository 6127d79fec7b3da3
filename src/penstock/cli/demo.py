"""`penstock demo`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, open_home, verb_app
from penstock.cli.output import printable, to_plain
from penstock.cli.progress import ProgressLine

with late_imports():
    from penstock.main import demo as demo_run

app = verb_app()


@app.command(epilog="Example: penstock demo --home ./home --json demo.json")
def demo(
    home: HomeOption = DEFAULT_HOME,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Also write the result to this file, as JSON.", dir_okay=False),
    ] = None,
) -> None:
    """Turn the whole wheel once: ingest a handbook, ask ten held-out questions, score the answers, gate two prompts.

    Needs no key and no network. Run it again at any time: what is done is not done twice.
    """
    opened = open_home(home)
    if json_file is not None:
        check_writable(json_file)
    with ProgressLine("    ") as line:
        report = demo_run.run_demo(opened, lambda text: print(text, flush=True), line.tell)
    if json_file is not None:
        write_report(report, json_file)
    print()
    _print_answers(report)
    totals = report.totals
    cost = "unknown" if totals["cost_usd"] is None else f"${totals['cost_usd']:.6f}".rstrip("0").rstrip(".")
    print(
        f"mean token F1 {totals['mean_token_f1']:.2f} · right document cited {totals['citation_hit_rate']:.0%} · "
        f"cost {cost} · {totals['input_tokens']} + {totals['output_tokens']} tokens · "
        f"median {totals['median_latency_ms']:.0f} ms · {totals['seconds']:.0f} s in all"
    )
    _print_gates(report)
    print() if report.is_running else print(f"\nopen it:  penstock up --home {opened.root}")
    print(f"then:     {report.console}   (sign in with the key in {opened.admin_key})")
    print(f"a trace:  {report.console}/traces/{report.questions[0].trace_id}")
    if report.gates:
        print(f"a gate:   {report.console}/gates/{report.gates[-1].gate_id}")
    if json_file is not None:
        print(f"as data:  {json_file}")


def _print_gates(report: demo_run.DemoReport) -> None:
    for turn in report.gates:
        print(f"\ngate {turn.verdict.upper()}: {turn.version}, {turn.description}")
        for sentence in turn.sentences:
            print(f"    {sentence}")


def write_report(report: object, file: Path) -> None:
    """Write what a demo found as JSON."""
    file.write_text(json.dumps(to_plain(report), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def check_writable(file: Path) -> None:
    """Raise `InvalidInput` when `file` cannot be written; leave it as it was."""
    is_new = not file.exists()
    try:
        with file.open("ab"):
            pass
        if is_new:
            file.unlink()
    except OSError as error:
        raise InvalidInput(
            f"{str(file)!r} cannot be written: {error.strerror or error}.",
            hint="Name a file in a folder that exists and may be written.",
            param="json",
        ) from error


def _print_answers(report: demo_run.DemoReport) -> None:
    if sys.stdout.isatty():
        _print_table(report)
        return
    for number, each in enumerate(report.questions, start=1):
        places = (
            "; ".join(f"{cite['document']} § {cite['section']}" for cite in each.citations) or "no citation"
        )
        print(f"{number:2}. {each.question}")
        print(f"    {printable(each.answer)}")
        print(f"    {places}")
        print(f"    F1 {each.scores['token_f1']:.2f} · {each.latency_ms:.0f} ms · trace {each.trace_id}")


def _print_table(report: demo_run.DemoReport) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for name, ratio in (("question", 3), ("answer", 4), ("cited", 2)):
        table.add_column(name, ratio=ratio, overflow="fold")
    table.add_column("F1", justify="right")
    table.add_column("ms", justify="right")
    table.add_column("trace")
    for each in report.questions:
        places = "\n".join(f"{cite['document']}" for cite in each.citations) or "-"
        score = f"{each.scores['token_f1']:.2f}"
        table.add_row(
            each.question, each.answer, places, score, f"{each.latency_ms:.0f}", each.trace_id[:8] + "…"
        )
    Console(markup=False, highlight=False).print(table)
