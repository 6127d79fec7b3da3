"""`penstock dataset`: rows from anywhere as immutable versions; look into them, compare them, move an alias."""

from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
import typer

from penstock.base.digest import short_digest
from penstock.base.errors import InvalidInput, suggest
from penstock.base.late import late_imports
from penstock.cli.dataset_changes import add_changes
from penstock.cli.dataset_cleaning import register
from penstock.cli.dataset_reading import (
    FormatOption,
    LayoutOption,
    MapOption,
    NoteOption,
    print_version,
    read_options,
)
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_lines, print_record, print_rows, time_text
from penstock.cli.progress import ProgressLine
from penstock.cli.saving import print_pieces, save_pieces
from penstock.datasets.export import ExportForm
from penstock.datasets.types import RowProblem, SourceReport

with late_imports():
    from penstock.main import dataset_access

app = noun_app(
    "Rows as immutable versions: create, import, list, show, rows, diff, split, tag, export, check."
)
Reference = Annotated[str, typer.Argument(help="Such as questions, questions@3, dataset:questions@prod.")]
Name = Annotated[str, typer.Argument(help="The dataset.")]
Source = Annotated[
    str,
    typer.Argument(
        help="A file, a folder as Hugging Face lays it out, hub:ORG/NAME[@REVISION], handbook:questions, :cases, :tuning or :held-out."
    ),
]
SkipOption = Annotated[
    bool,
    typer.Option("--skip-invalid", help="Store the good rows and count the others; without, all or none."),
]
WhereOption = Annotated[
    str | None, typer.Option(help="Which rows, such as 'split:test lang:de not tag:draft \"exact words\"'.")
]
SHOWN = 10
TEXT_CHARS = 400


@app.command(epilog="Example: penstock dataset create questions questions.jsonl --map input=Question")
def create(
    name: Name,
    source: Source,
    *,
    form: FormatOption = None,
    layout: LayoutOption = None,
    mapped: MapOption = None,
    skip_invalid: SkipOption = False,
    split: Annotated[str | None, typer.Option(help="Of rows that say none themselves.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Of every row; may be given several times.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many rows.")] = None,
    licence: Annotated[str | None, typer.Option("--license", help="Under which the rows stand.")] = None,
    description: Annotated[str, typer.Option(help="What they are.")] = "",
    note: NoteOption = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make the version that holds exactly the rows of a source. The same rows again are the same version."""
    options = read_options(
        form, layout, mapped, skip_invalid=skip_invalid, split=split, tags=tuple(tag or ()), limit=limit
    )
    options = msgspec.structs.replace(options, license=licence, description=description)
    access = dataset_access.DatasetAccess(open_home(home, as_json=as_json))
    with ProgressLine(f"dataset {name}", quiet=as_json) as line:
        version = access.create(name, source, options, append=False, note=note, tell=line.tell)
    print_version(version, as_json=as_json)


@app.command("import", epilog="Example: penstock dataset import questions more.csv --split test")
def import_rows(
    name: Name,
    source: Source,
    *,
    form: FormatOption = None,
    layout: LayoutOption = None,
    mapped: MapOption = None,
    skip_invalid: SkipOption = False,
    split: Annotated[str | None, typer.Option(help="Of rows that say none themselves.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Of every row; may be given several times.")] = None,
    note: NoteOption = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make a version with the rows of a source after those of the newest version."""
    options = read_options(
        form, layout, mapped, skip_invalid=skip_invalid, split=split, tags=tuple(tag or ()), limit=None
    )
    access = dataset_access.DatasetAccess(open_home(home, as_json=as_json))
    with ProgressLine(f"dataset {name}", quiet=as_json) as line:
        version = access.create(name, source, options, append=True, note=note, tell=line.tell)
    print_version(version, as_json=as_json)


@app.command(epilog="Example: penstock dataset check questions.csv --format cases --map input=Question")
def check(
    source: Annotated[str, typer.Argument(help="A file, or a folder as Hugging Face lays it out.")],
    *,
    form: FormatOption = None,
    layout: LayoutOption = None,
    mapped: MapOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Read a file as `create` would and say what it holds and what is wrong, row by row. Stores nothing; exit code 2
    when something is wrong."""
    open_home(home, as_json=as_json)
    options = read_options(form, layout, mapped)
    with ProgressLine("check", quiet=as_json) as line:
        report = dataset_access.check_source(source, options, line.tell)
    if as_json:
        print_json({**msgspec.to_builtins(report), "is_well": report.is_well})
    else:
        _print_report(report)
    if not report.is_well:
        raise typer.Exit(2)


@app.command("list", epilog="Example: penstock dataset list")
def list_datasets(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List datasets, each by its newest version."""
    found = dataset_access.DatasetAccess(open_home(home, as_json=as_json)).list_datasets()
    if as_json:
        print_json(found)
        return
    rows = [
        {
            **each,
            "splits": _counts(each.get("splits", {})),
            "aliases": ", ".join(f"{alias} → {number}" for alias, number in sorted(each["aliases"].items())),
            "updated": time_text(each["updated_ns"]),
        }
        for each in found
    ]
    columns = ("name", "latest", "format", "n_rows", "splits", "aliases", "updated")
    print_rows(rows, columns, as_json=False, empty="None yet: penstock dataset create NAME FILE")


@app.command(epilog="Example: penstock dataset show questions@2")
def show(reference: Reference, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show what is in a version and how it came about, and which versions there are."""
    access = dataset_access.DatasetAccess(open_home(home, as_json=as_json))
    version = access.show(reference)
    versions = access.get(version.name)["versions"]
    if as_json:
        print_json({**msgspec.to_builtins(version), "versions": [each["ref"] for each in versions]})
        return
    facts = version.facts
    print_record(
        {
            "version": version.ref,
            "rows": facts.n_rows,
            "format": facts.format,
            "fields": facts.fields,
            "splits": _counts(facts.splits),
            "groups": facts.n_groups,
            "tags": _counts(facts.tags),
            "aliases": version.aliases,
            "license": facts.license,
            "description": facts.description or None,
            "left_out": _counts(facts.left_out),
            "rows_digest": short_digest(facts.rows_digest),
            "made": time_text(version.created_ns),
            "note": version.note or None,
            "versions": ", ".join(str(each["number"]) for each in versions),
        },
        as_json=False,
    )
    for source in facts.sources:
        print(f"source  {source.get('kind')} {source.get('source')}: {source.get('n_rows'):,} rows")
    for step in facts.steps:
        rest = {name: value for name, value in step.items() if name not in {"step", "n_before", "n_after"}}
        print(f"step    {step.get('step')} {msgspec.json.encode(rest).decode()}: {_went(step)}")


@app.command(epilog="Example: penstock dataset rows questions --where 'split:test' --limit 5")
def rows(
    reference: Reference,
    *,
    where: WhereOption = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = SHOWN,
    offset: Annotated[int, typer.Option(min=0, help="From which row on, counted from 0.")] = 0,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Print rows of a version, in order."""
    access = dataset_access.DatasetAccess(open_home(home, as_json=as_json))
    found = list(access.list_rows(reference, where=where, limit=limit, offset=offset))
    if as_json:
        print_json(found)
        return
    shown = [
        {
            "id": row["id"],
            "split": row.get("split"),
            "group": row.get("group"),
            "tags": ",".join(row.get("tags", [])) or None,
            "row": "  ".join(f"{name}: {_short(value)}" for name, value in row["fields"].items()),
        }
        for row in found
    ]
    columns = [name for name in ("id", "split", "group", "tags", "row") if any(each[name] for each in shown)]
    print_lines(shown, columns or ["id"], give_up=("tags", "group"), shorten="row", empty="No row matches.")


@app.command(epilog="Example: penstock dataset diff questions@1 questions@2")
def diff(
    base: Reference,
    other: Annotated[str, typer.Argument(help="The version that is held against it.")],
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many changes to show.")] = 20,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Say how one version differs from another: rows added, removed and changed, by id."""
    found = dataset_access.DatasetAccess(open_home(home, as_json=as_json)).diff(base, other, limit)
    if as_json:
        print_json(found)
        return
    order = "; rows in both come in another order" if found["is_reordered"] else ""
    print(
        f"{found['base']} → {found['other']}: {found['n_added']:,} added, {found['n_removed']:,} removed, "
        f"{found['n_changed']:,} changed, {found['n_same']:,} the same{order}"
    )
    if found["fields_changed"]:
        print(f"fields: {_counts(found['fields_changed'])}")
    marks = {"added": "+", "removed": "-", "changed": "~"}
    for change in found["changes"]:
        told = (
            _changed(change)
            if change["kind"] == "changed"
            else _short((change.get("after") or change.get("before"))["fields"])
        )
        print(f"{marks[change['kind']]} {change['id']}  {told}")
    if found["next_cursor"]:
        print("… and more: --limit shows up to 1000.")


@app.command(epilog="Example: penstock dataset export questions --format csv --out questions.csv")
def export(
    reference: Reference,
    *,
    form: Annotated[
        ExportForm | None,
        typer.Option(
            "--format", help="jsonl, csv, tsv, parquet, openai or huggingface.  [default: by the file's name]"
        ),
    ] = None,
    out: Annotated[str, typer.Option(help="File to write; - for standard output.")] = "-",
    where: WhereOption = None,
    spreadsheet: Annotated[
        bool,
        typer.Option("--spreadsheet", help="Of csv and tsv: put ' before texts that would be formulas."),
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Write rows into a file: for other programs, for fine-tuning, or as a folder (zip) that Hugging Face's library loads."""
    suffix = Path(out).suffix.removeprefix(".")
    known = get_args(ExportForm)
    chosen = form or (suffix if suffix in known else "huggingface" if suffix == "zip" else "jsonl")
    if chosen in {"parquet", "huggingface"} and out == "-":
        raise InvalidInput(f"An export as {chosen} needs a file.", hint="Add --out FILE.")
    if (
        suffix
        and suffix in known
        and form is not None
        and suffix != form
        and form not in {"openai", "huggingface"}
    ):
        raise InvalidInput(
            f"{out} is no name for {form}.", hint=suggest(form, known) or "Change one of them."
        )
    pieces = dataset_access.DatasetAccess(open_home(home, as_json=as_json)).export(
        reference, chosen, where, is_for_spreadsheet=spreadsheet
    )
    if out == "-":
        print_pieces(pieces)
        return
    size = save_pieces(pieces, Path(out))
    print_json({"file": out, "format": chosen, "size_bytes": size}) if as_json else print(
        f"{out}: {size:,} bytes as {chosen}"
    )


@app.command(
    epilog="Example: penstock dataset move questions@3 --alias golden --reason 'reviewed by two people'"
)
def move(
    reference: Reference,
    *,
    alias: Annotated[str, typer.Option(help="The alias to move.")] = "prod",
    reason: Annotated[str | None, typer.Option(help="Why; kept with the move.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Point an alias at a version. Protected aliases such as `prod` need a reason."""
    moved = dataset_access.DatasetAccess(open_home(home, as_json=as_json)).move(reference, alias, reason)
    if as_json:
        print_json(moved)
    else:
        print(f"{alias} → dataset:{moved['name']}@{moved['to_number']}")


def _print_report(report: SourceReport) -> None:
    told = f"{report.source}: {report.n_rows:,} rows of {report.format}, read as {report.layout}"
    print(told + (f"; splits {_counts(report.splits)}" if set(report.splits) - {""} else ""))
    print(f"fields: {', '.join(report.fields)}")
    if report.mapping:
        print("columns: " + ", ".join(f"{field} = {column}" for field, column in report.mapping.items()))
    for problem in report.problems:
        print(_told(problem))
    if report.n_problems > len(report.problems):
        print(f"… and {report.n_problems - len(report.problems):,} more problems: {_counts(report.left_out)}")
    print("all is well" if report.is_well else f"{report.n_problems:,} problems")


def _told(problem: RowProblem) -> str:
    return f"{problem.place}{f' {problem.column}' if problem.column else ''}: {problem.message}"


def _changed(change: dict[str, Any]) -> str:
    return ", ".join(
        f"{name}: {_short(_part(change['before'], name))} → {_short(_part(change['after'], name))}"
        for name in change["fields"]
    )


def _part(row: dict[str, Any], name: str) -> Any:
    if name.startswith("metadata."):
        return row.get("metadata", {}).get(name.removeprefix("metadata."))
    return row["fields"].get(name) if name in row["fields"] else row.get(name)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= TEXT_CHARS else f"{text[:TEXT_CHARS]}…"


def _counts(counts: dict[str, int]) -> str | None:
    return ", ".join(f"{name or '(none)'} {number:,}" for name, number in counts.items()) or None


def _went(step: dict[str, Any]) -> str:
    before, after = step.get("n_before"), step.get("n_after")
    if after is None:  # a teacher's replies: what became of them is told by the step itself
        return f"{step.get('n_kept', 'unknown')} rows made"
    return f"{after:,} rows" if before in {None, after} else f"{before:,} → {after:,} rows"


add_changes(app)
register(app)
