"""`penstock knowledge question list|show|from-traces|from-feedback|propose|import`: sets of labelled questions."""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from penstock.base.clock import now_ns
from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.dataset_reading import print_version
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_lines, print_record, print_rows, printable, time_text
from penstock.cli.progress import ProgressLine
from penstock.cli.windows import read_moment_ns
from penstock.datasets.types import ReadOptions
from penstock.knowledge.quality.types import MadeQuestions
from penstock.main.control_client import ControlClient

with late_imports():
    from penstock.main import dataset_access, retrieval_access

app = noun_app("Sets of labelled questions: what a base should find.")
SetOption = Annotated[str, typer.Option("--set", help="The set (a dataset); it is made where there is none.")]
BaseArgument = Annotated[str, typer.Argument(help="The knowledge base.")]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Tell what would be added, and add nothing.")]
SinceOption = Annotated[str | None, typer.Option(help="How far back, such as 7d or 2026-11-01.")]


@app.command("list", epilog="Example: penstock knowledge question list")
def list_sets(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List sets of labelled questions."""
    with retrieval_access.open_retrieval(open_home(home, as_json=as_json)) as access:
        found = access.list_sets()
    rows = [
        {
            "set": each.name,
            "ref": each.ref,
            "questions": each.n_questions,
            "updated": time_text(each.updated_ns),
            "shipped": each.is_shipped,
        }
        for each in found
    ]
    print_rows(rows, ("set", "ref", "questions", "updated"), as_json=as_json)


@app.command(epilog="Example: penstock knowledge question show handbook:questions --limit 5")
def show(
    ref: Annotated[str, typer.Argument(help="dataset:NAME, or handbook:questions.")],
    where: Annotated[str | None, typer.Option(help="Which questions, such as 'split:test'.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many.")] = 20,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show the questions of a set with what should be found."""
    with retrieval_access.open_retrieval(open_home(home, as_json=as_json)) as access:
        found = access.read_questions(ref, where, limit)
    if as_json:
        print_json(found)
        return
    rows = [
        {
            "id": each.id,
            "question": each.question,
            "should find": "; ".join(label.name for label in each.labels),
        }
        for each in found
    ]
    print_lines(rows, ("id", "question", "should find"), shorten="should find")


@app.command(
    "from-traces", epilog="Example: penstock knowledge question from-traces handbook --set asked --since 7d"
)
def from_traces(
    *,
    base: BaseArgument,
    name: SetOption,
    since: SinceOption = None,
    limit: Annotated[int, typer.Option(min=1, max=5000, help="Traces that are read.")] = 500,
    unlabelled: Annotated[
        bool,
        typer.Option(
            "--unlabelled", help="Also questions whose answer cites nothing, for labelling by hand."
        ),
    ] = False,
    dry_run: DryOption = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Add recorded questions, labelled by the documents that their answers cite (tag `silver`)."""
    asked = {
        "kind": "traces",
        "name": name,
        "since_ns": None if since is None else read_moment_ns(since, now_ns=now_ns()),
        "limit": limit,
        "with_unlabelled": unlabelled,
        "dry_run": dry_run,
    }
    with retrieval_access.open_retrieval(open_home(home, as_json=as_json)) as access:
        _print_made(access.make_questions(base, asked), as_json=as_json)


@app.command(
    "from-feedback", epilog="Example: penstock knowledge question from-feedback handbook --set judged"
)
def from_feedback(
    *,
    base: BaseArgument,
    name: SetOption,
    since: SinceOption = None,
    min_clicks: Annotated[int, typer.Option(min=1, help="People whose clicks alone make relevant.")] = 2,
    dry_run: DryOption = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Add questions whose results people judged."""
    asked = {
        "kind": "feedback",
        "name": name,
        "since_ns": None if since is None else read_moment_ns(since, now_ns=now_ns()),
        "min_clicks": min_clicks,
        "dry_run": dry_run,
    }
    with retrieval_access.open_retrieval(open_home(home, as_json=as_json)) as access:
        _print_made(access.make_questions(base, asked), as_json=as_json)


@app.command(epilog="Example: penstock knowledge question propose handbook --set asked --model pocket -n 20")
def propose(
    *,
    base: BaseArgument,
    name: SetOption,
    model: Annotated[str, typer.Option(help="A route of the gateway.")],
    n: Annotated[int, typer.Option("-n", min=1, max=2000, help="How many at most.")] = 20,
    budget: Annotated[str | None, typer.Option(help="US dollars that are never passed.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell calls and cost, and ask nothing.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Have a model ask questions about passages of a base. Nothing is added before somebody accepts it
    (penstock dataset proposals)."""
    body: dict[str, Any] = {
        "kind": "questions",
        "model": model,
        "n": n,
        "knowledge": base,
        "budget_usd": budget,
        "plan": dry_run,
    }
    client = ControlClient(open_home(home, as_json=as_json))
    answer = client.post(f"/api/v1/datasets/{quote(name)}/proposals", body)
    print_record(answer.get("plan", answer), as_json=as_json)


@app.command("import", epilog="Example: penstock knowledge question import ./labels.jsonl --set labelled")
def import_file(
    *,
    file: Annotated[
        Path, typer.Argument(help="JSONL, CSV or another table: query, relevant, passages, answer.")
    ],
    name: SetOption,
    append: Annotated[bool, typer.Option("--append", help="After the questions that are there.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make a set of a file of questions that somebody labelled."""
    if not file.expanduser().exists():
        raise InvalidInput(f"There is no file {str(file)!r}.", param="file")
    access = dataset_access.DatasetAccess(open_home(home, as_json=as_json))
    with ProgressLine(f"import {name}", quiet=as_json) as line:
        made = access.create(
            name,
            str(file),
            ReadOptions(format="retrieval"),
            append=append,
            note=f"from {file.name}",
            tell=line.tell,
        )
    print_version(made, as_json=as_json)


def _print_made(made: MadeQuestions, *, as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    print(
        f"{made.n_added:,} questions {'in ' + made.ref if made.ref else 'would be added'}; {made.n_known:,} were known"
    )
    for reason, number in made.left_out.items():
        print(f"left out  {number:,} × {reason}")
    for each in made.preview:
        print(
            f"  {printable(each.question)}  → {'; '.join(printable(label.name) for label in each.labels) or '(no label)'}"
        )
