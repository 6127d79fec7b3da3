"""`penstock gate`: run, check, list, show. The exit code of `run` is the verdict."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_rows, time_text
from penstock.cli.progress import ProgressLine
from penstock.evals.gates.reports import EXIT_CODES, to_junit, to_lines, to_markdown
from penstock.evals.gates.types import Rule
from penstock.evals.statistics.families import simultaneous_level
from penstock.main.control_client import ControlClient
from penstock.main.gate_files import GateFile, read_gate_file, side_of
from penstock.main.instance import running_instance
from penstock.spec.evaluations import EvaluationSpec, GateResult
from penstock.spec.home import Home

with late_imports():
    from penstock.evals.gates import service as gate_service
    from penstock.main import gate_runs

app = noun_app("Verdicts over evaluations: run, check, list, show.")
FileArgument = Annotated[Path, typer.Argument(help="Gate file, TOML or JSON.")]
MarkdownOption = Annotated[Path | None, typer.Option(help="Write the verdict as Markdown to this file.")]
JunitOption = Annotated[Path | None, typer.Option(help="Write the verdict as JUnit XML to this file.")]


@app.command(
    epilog="Example: penstock gate run triage.gate.toml --junit gate.xml. "
    "Exit codes: 0 pass, 1 fail, 6 undecided, 7 invalid; 2 to 5 and 70 are errors."
)
def run(
    file: FileArgument,
    *,
    candidate: Annotated[
        str | None, typer.Option(help="What is judged, instead of the file's: prompt:NAME@ALIAS, eval:ID …")
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="What it is compared with, likewise.")] = None,
    allow_undecided: Annotated[
        bool, typer.Option("--allow-undecided", help="Exit with 0 when the verdict is undecided, too.")
    ] = False,
    markdown: MarkdownOption = None,
    junit: JunitOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Run the evaluations that a gate needs, or take those that are named, and judge them by its rules."""
    opened = open_home(home, as_json=as_json)
    read = read_gate_file(file)
    with ProgressLine("gate", quiet=as_json) as line:
        result = gate_runs.run_gate(opened, read, candidate=candidate, baseline=baseline, tell=line.tell)
    _write(result, markdown, junit)
    _print(result, as_json=as_json)
    if result.verdict == "undecided" and allow_undecided:
        return
    if EXIT_CODES[result.verdict]:
        raise typer.Exit(EXIT_CODES[result.verdict])


@app.command(epilog="Example: penstock gate check triage.gate.toml")
def check(file: FileArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Read a gate file, say how each rule is understood, and what running it would cost and could show."""
    opened = open_home(home, as_json=as_json)
    read = read_gate_file(file)
    told = _plan(opened, read)
    if as_json:
        print_json(told)
        return
    print(f"{read.spec.name}: {len(read.spec.rules)} rules, {100 * read.spec.level:g} % intervals")
    for rule in told["rules"]:
        print(f"  {rule['rule']}\n      {rule['reads_as']}")
    for side, plan in told["sides"].items():
        cost = plan.get("cost_usd")
        price = f"about ${float(cost):.4f}" if cost is not None else "at unknown cost"
        print(f"{side}: {plan['n_cases']} cases, {plan['n_calls']} calls, {price}")
        for problem in plan.get("problems", []):
            print(f"  {problem}")
    if told["detectable"]:
        shown = ", ".join(
            f"{100 * each['difference']:.1f} points if {100 * each['discordance']:g} % of pairs differ"
            for each in told["detectable"]
            if each["difference"] is not None
        )
        print(f"Such a comparison shows a difference of {shown} (80 % power).")
    for note in told["notes"]:
        print(note)


@app.command("list", epilog="Example: penstock gate list --verdict fail")
def list_gates(
    *,
    name: Annotated[str | None, typer.Option(help="Only of this gate.")] = None,
    candidate: Annotated[
        str | None, typer.Option(help="Only over prompt:NAME, or over prompt:NAME@3 alone.")
    ] = None,
    verdict: Annotated[str | None, typer.Option(help="pass, fail, undecided or invalid.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many.")] = 30,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List verdicts, newest first."""
    client = ControlClient(open_home(home, as_json=as_json))
    page = client.get(gate_runs.GATES, name=name, candidate=candidate, verdict=verdict, limit=limit)
    rows = page["rows"] if as_json else [_row(each) for each in page["rows"]]
    columns = ("id", "gate", "verdict", "candidate", "baseline", "made")
    print_rows(rows, columns, as_json=as_json, empty="No verdicts yet: `penstock gate run gate.toml`.")


@app.command(epilog="Example: penstock gate show gate_01kc3… --markdown verdict.md")
def show(
    result_id: Annotated[str, typer.Argument(help="Its id, from `penstock gate list`.")],
    *,
    markdown: MarkdownOption = None,
    junit: JunitOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show one verdict, rule by rule."""
    client = ControlClient(open_home(home, as_json=as_json))
    told = client.get(f"{gate_runs.GATES}/{result_id.strip().removeprefix('gate:')}")
    result = msgspec.convert(told, GateResult, strict=False)
    _write(result, markdown, junit)
    _print(result, as_json=as_json)


def _print(result: GateResult, *, as_json: bool) -> None:
    if as_json:
        print_json(result)
        return
    for line in to_lines(result):
        print(line)
    print(f"Verdict {result.id}; evaluations {', '.join(result.evaluations)}.")
    if result.verdict == "pass" and ":" in result.candidate:
        print(f"Move an alias on it: penstock asset move {result.candidate} --alias prod --gate {result.id}")


def _write(result: GateResult, markdown: Path | None, junit: Path | None) -> None:
    if markdown is not None:
        markdown.write_text(to_markdown(result), encoding="utf-8")
    if junit is not None:
        junit.write_text(to_junit(result), encoding="utf-8")


def _row(told: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": told["id"],
        "gate": told["name"],
        "verdict": told["verdict"],
        "candidate": told["candidate"],
        "baseline": told.get("baseline"),
        "made": time_text(told["made_ns"]),
    }


def _plan(home: Home, read: GateFile) -> dict[str, Any]:
    spec = read.spec
    sides: dict[str, Any] = {}
    notes: list[str] = []
    named = {"candidate": spec.candidate, "baseline": spec.baseline}
    if running_instance(home) is None:
        notes.append("No Penstock runs on this home, so there is no plan of cost: `penstock up`.")
    elif spec.evaluation is None:
        notes.append("The gate names no evaluation: judge existing ones with --candidate eval:ID.")
    else:
        client = ControlClient(home)
        for side, name in named.items():
            if side == "baseline" and name is None:
                continue
            wanted = side_of(spec, name)
            if isinstance(wanted, EvaluationSpec):
                sides[side] = client.post(
                    f"{gate_runs.EVALUATIONS}/plan", {"spec": msgspec.to_builtins(wanted)}
                )
    if any(rule.bound.is_baseline for rule in spec.rules) and spec.baseline is None:
        notes.append("Rules hold against a baseline, and the file names none: give --baseline.")
    detectable: list[Any] = next((plan.get("detectable", []) for plan in sides.values()), [])
    return {
        "name": spec.name,
        "digest": gate_service.digest_gate(spec),
        "rules": [{"rule": rule.text, "reads_as": reads_as(rule)} for rule in spec.rules],
        "sides": sides,
        "detectable": detectable,
        "each_fail_at_level": simultaneous_level(spec.level, len(spec.rules)),
        "notes": notes,
    }


def reads_as(rule: Rule) -> str:
    """Return what a rule asks for, in words."""
    where = f" in every slice by {rule.by}" if rule.by else ""
    if rule.statistic == "new":
        return f"{rule.measure}{where}: no case with a finding that the baseline does not have"
    words = {">=": "at least", ">": "above", "<=": "at most", "<": "below", "==": "exactly"}
    unit = {"": "", "point": " points", "usd": " usd"}.get(rule.bound.unit, f" {rule.bound.unit}")
    if rule.bound.is_baseline:
        sign = "more" if rule.bound.amount >= 0 else "less"
        margin = f" and {abs(rule.bound.amount):g}{unit} {sign}" if rule.bound.amount else ""
        bound = f"the baseline's{margin}"
    else:
        bound = f"{rule.bound.amount:,g}{unit}"
    what = {
        "mean": "the whole interval of the figure",
        "quantile": f"the whole interval of the {100 * (rule.quantile or 0):g}th percentile",
        "total": "the sum",
        "max": "the largest value",
        "min": "the smallest value",
        "every": "each case",
    }[rule.statistic]
    return f"{what} of {rule.measure}{where}: {words[rule.operator]} {bound}"
