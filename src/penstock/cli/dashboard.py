"""`penstock dashboard`: list, show, measure, measures, create, edit, delete, export, import."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.measure_rows import list_cells, report_rows
from penstock.cli.objects import command_line_actor, read_content
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_record, print_rows, time_text
from penstock.cli.windows import WINDOW_HELP, read_window
from penstock.spec.measures import DIMENSIONS, MEASURES
from penstock.traces.measures.types import Dashboard, PanelView

with late_imports():
    from penstock.main import measure_access
    from penstock.traces.measures import dashboards

app = noun_app(
    "Numbers over many traces: list, show, measure, measures, create, edit, delete, export, import."
)

NameArgument = Annotated[str, typer.Argument(help="What the dashboard is called.")]
FromOption = Annotated[
    str, typer.Option("--from", help="File with the dashboard as TOML or JSON, - for standard input.")
]
SinceOption = Annotated[str | None, typer.Option(help=WINDOW_HELP)]
UntilOption = Annotated[
    str | None, typer.Option(help="Before: 2h or 7d ago, or this moment, UTC. Now unless told.")
]
WhereOption = Annotated[str, typer.Option("--where", help="A search, such as 'route:chat status:error'.")]
CompareOption = Annotated[
    Literal["previous", "day", "week"] | None,
    typer.Option(help="Set beside: the window before, or the same one a day or a week earlier."),
]
SubjectOption = Annotated[
    Literal["trace", "call", "span"],
    typer.Option(help="What is counted: what came in, model calls, or any spans."),
]


@app.command("list", epilog="Example: penstock dashboard list")
def list_dashboards(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List dashboards, the built-in ones first."""
    with measure_access.open_tables(open_home(home, as_json=as_json)) as tables:
        found = tables.dashboards.list()
    rows = [
        {
            "dashboard": one.name,
            "title": one.title,
            "panels": len(one.panels),
            "origin": one.origin,
            "by": one.actor,
            "updated": time_text(one.updated_ns),
        }
        for one in found
    ]
    print_rows(rows, ("dashboard", "title", "panels", "origin", "by", "updated"), as_json=as_json)


@app.command(epilog="Example: penstock dashboard show cost --since 7d --compare previous")
def show(
    name: NameArgument,
    *,
    since: SinceOption = None,
    until: UntilOption = None,
    where: WhereOption = "",
    compare: CompareOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show what is in a dashboard: of each panel the window as one; --json gives the slices too."""
    place = open_home(home, as_json=as_json)
    with measure_access.open_tables(place) as tables:
        dashboard = tables.dashboards.get(name)
    since_ns, until_ns = read_window(since, until, length_s=dashboard.window_s)
    with measure_access.open_measures(place) as measures:
        view = measures.show_dashboard(
            name, since_ns=since_ns, until_ns=until_ns, where=where, compare=compare
        )
    if as_json:
        print_json(view)
        return
    print(f"{dashboard.title}: {time_text(since_ns)} to {time_text(until_ns)}")
    for shown in view.panels:
        print(f"\n{shown.panel.title}")
        _print_panel(shown)


@app.command(
    epilog="Example: penstock dashboard measure latency_p95 cost --by model --since 7d --compare previous"
)
def measure(
    names: Annotated[
        list[str], typer.Argument(metavar="MEASURE…", help="See `penstock dashboard measures`.")
    ],
    *,
    by: Annotated[list[str] | None, typer.Option(help="Group by this dimension. May be repeated.")] = None,
    subject: SubjectOption = "call",
    where: WhereOption = "",
    since: SinceOption = None,
    until: UntilOption = None,
    compare: CompareOption = None,
    sliced: Annotated[bool, typer.Option("--sliced", help="Cut the window into slices.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most groups.")] = 50,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Measure anything by anything, with how many spans stand behind each value."""
    since_ns, until_ns = read_window(since, until, length_s=86_400)
    asked = measure_access.Asked(
        measure=_split(names),
        since_ns=since_ns,
        until_ns=until_ns,
        by=_split(by or []),
        subject=subject,
        q=where,
        sliced=sliced,
        compare=compare,
        limit=limit,
    )
    with measure_access.open_measures(open_home(home, as_json=as_json)) as measures:
        report = measures.measure(asked)
    if as_json:
        print_json(report)
        return
    columns, rows = report_rows(report)
    print_rows(rows, columns, as_json=False, empty="Nothing matched in this window.")
    if sys.stdout.isatty() and report.n_groups > len({tuple(row.group.values()) for row in report.rows}):
        print(f"{report.n_groups} groups in all; --limit shows more.")


@app.command(epilog="Example: penstock dashboard measures")
def measures(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List what can be measured, and by what it can be grouped."""
    open_home(home, as_json=as_json)
    if as_json:
        print_json({"measures": list(MEASURES.values()), "dimensions": DIMENSIONS})
        return
    rows = [{"measure": one.name, "unit": one.unit, "what": one.text} for one in MEASURES.values()]
    rows.append(
        {"measure": "score.NAME", "unit": "score", "what": "Mean of the scores of a name, with its interval."}
    )
    print_rows(rows, ("measure", "unit", "what"), as_json=False)
    if sys.stdout.isatty():
        print(f"\nBy: {', '.join(DIMENSIONS)}, version.ASSET, attr.NAME")


@app.command(epilog="Example: penstock dashboard create team --from team.toml")
def create(
    name: NameArgument, source: FromOption, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """Make a dashboard from a file."""
    _put(name, source, home, as_json=as_json, expected_version=0)


@app.command(epilog="Example: penstock dashboard edit team --from team.toml")
def edit(
    name: NameArgument, source: FromOption, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """Replace what a dashboard says by what a file says."""
    with measure_access.open_tables(open_home(home, as_json=as_json)) as tables:
        version = tables.dashboards.get(name).version
    _put(name, source, home, as_json=as_json, expected_version=version)


@app.command(epilog="Example: penstock dashboard delete team")
def delete(name: NameArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Forget a dashboard."""
    with measure_access.open_tables(open_home(home, as_json=as_json)) as tables:
        tables.dashboards.delete(name)
    if as_json:
        print_json({"name": name, "deleted": True})
    else:
        print(f"deleted {name}")


@app.command("export", epilog="Example: penstock dashboard export latency > latency.json")
def export_dashboard(
    name: NameArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """Print a dashboard, built-in ones too, as JSON that `create` and `import` take."""
    with measure_access.open_tables(open_home(home, as_json=as_json)) as tables:
        found = tables.dashboards.get(name)
    print(
        json.dumps(
            {"dashboard": [{"name": name, **dashboards.write_content(found)}]}, indent=2, ensure_ascii=False
        )
    )


@app.command("import", epilog="Example: penstock dashboard import dashboards.toml")
def import_dashboards(
    file: Annotated[Path, typer.Argument(help="TOML or JSON with a list `dashboard`.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make or replace every dashboard of a file; those that are the same stay as they are."""
    documents = read_content(None, str(file), {}).get("dashboard")
    if not isinstance(documents, list):
        raise InvalidInput(
            f"{file} has no list `dashboard`.", hint="Write [[dashboard]] with name, title and panels."
        )
    done: list[dict[str, Any]] = []
    with measure_access.open_tables(open_home(home, as_json=as_json)) as tables:
        wanted = [_named(document) for document in documents]
        for one in wanted:
            tables.dashboards.check(one)
        known = {one.name: one for one in tables.dashboards.list()}
        for one in wanted:
            unchanged = one.name in known and dashboards.is_same(known[one.name], one)
            if not unchanged:
                tables.dashboards.put(one, actor=command_line_actor())
            done.append({"dashboard": one.name, "what": "unchanged" if unchanged else "written"})
    print_rows(done, ("dashboard", "what"), as_json=as_json)


def _put(name: str, source: str, home: Path, *, as_json: bool, expected_version: int) -> None:
    content = read_content(None, source, {})
    if isinstance(content.get("dashboard"), list) and len(content["dashboard"]) == 1:
        content = {key: value for key, value in content["dashboard"][0].items() if key != "name"}
    with measure_access.open_tables(open_home(home, as_json=as_json)) as tables:
        saved = tables.dashboards.put(
            dashboards.read_dashboard(name, content),
            actor=command_line_actor(),
            expected_version=expected_version,
        )
    print_record(
        {"dashboard": saved.name, "panels": len(saved.panels), "version": saved.version}, as_json=as_json
    )


def _named(document: Any) -> Dashboard:
    if not isinstance(document, dict) or not isinstance(document.get("name"), str):
        raise InvalidInput("Each dashboard of the file needs a name.")
    content = {key: value for key, value in document.items() if key != "name"}
    return dashboards.read_dashboard(document["name"], content)


def _print_panel(shown: PanelView) -> None:
    report = shown.total if shown.total is not None else shown.report
    if report is None:
        print(f"  cannot be shown: {shown.problem}")
        return
    if not report.rows:
        print("  nothing matched")
        return
    if shown.panel.by and shown.total is None:
        columns, rows = report_rows(report)
        print_rows(rows, columns, as_json=False)
        return
    for line in list_cells(report):
        print(f"  {line}")


def _split(items: Sequence[str]) -> list[str]:
    return [name for item in items for name in item.split(",") if name]
