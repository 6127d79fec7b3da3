"""`penstock dataset split`, `tag`, `filter`, `sample`, `merge`, `edit`, `convert`, `from-traces`, `from-feedback`, `add-trace`:
new versions from old ones and from traffic."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer

from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.dataset_reading import NoteOption, print_version
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, open_home
from penstock.spec.datasets import DatasetFormat

with late_imports():
    from penstock.main import dataset_access

Base = Annotated[str, typer.Argument(help="Such as questions or questions@3; without a version the newest.")]
Name = Annotated[str, typer.Argument(help="The dataset.")]
WhereOption = Annotated[
    str | None, typer.Option(help="Which rows, such as 'split:test not tag:draft'; without it all.")
]
AsOption = Annotated[
    str | None, typer.Option("--as", help="Name of another dataset for them; without it the same.")
]
SinceOption = Annotated[str | None, typer.Option(help="Not older than, such as 2h or 7d.")]
LimitOption = Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")]
AppendOption = Annotated[bool, typer.Option("--append", help="After the rows of the newest version.")]
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def add_changes(app: typer.Typer) -> None:
    """Add these commands to the application of the noun."""
    for name, function, example in _COMMANDS:
        app.command(name, epilog=f"Example: {example}")(function)


def split(
    reference: Base,
    shares: Annotated[
        list[str], typer.Argument(help="SPLIT=SHARE each, adding up to 1, such as train=0.8 test=0.2.")
    ],
    *,
    by: Annotated[
        str, typer.Option(help="What stays together: group, id, a field or a key of the metadata.")
    ] = "group",
    stratify: Annotated[
        str | None, typer.Option(help="Meet the shares within each value of this field, such as label.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another one gives another split.")] = 0,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave rows that have a split where they are.")
    ] = False,
    note: NoteOption = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Assign rows to splits, whole groups together; the same rows and seed always give the same."""
    body = {
        "shares": _shares(shares),
        "by": by,
        "stratify": stratify,
        "seed": seed,
        "keep": keep,
        "note": note,
    }
    print_version(_access(home, as_json).change(reference, "split", body), as_json=as_json)


def tag(
    reference: Base,
    *,
    add: Annotated[list[str] | None, typer.Option(help="A tag to add; may be given several times.")] = None,
    remove: Annotated[
        list[str] | None, typer.Option(help="A tag to remove; may be given several times.")
    ] = None,
    where: WhereOption = None,
    note: NoteOption = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Add and remove tags of rows."""
    body = {"add": add or [], "remove": remove or [], "where": where, "note": note}
    print_version(_access(home, as_json).change(reference, "tag", body), as_json=as_json)


def filter_rows(
    reference: Base,
    where: Annotated[str, typer.Argument(help="Which rows, such as 'lang:de not tag:draft'.")],
    *,
    name: AsOption = None,
    note: NoteOption = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make a version of the matching rows alone."""
    body = {"where": where, "name": name, "note": note}
    print_version(_access(home, as_json).change(reference, "filter", body), as_json=as_json)


def sample(
    reference: Base,
    n: Annotated[int, typer.Argument(min=1, help="At most so many rows; groups stay together.")],
    *,
    seed: Annotated[int, typer.Option(help="Another one draws others.")] = 0,
    name: AsOption = None,
    note: NoteOption = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make a version of some rows, drawn by the seed; the same rows and seed always give the same."""
    body = {"n": n, "seed": seed, "name": name, "note": note}
    print_version(_access(home, as_json).change(reference, "sample", body), as_json=as_json)


def merge(
    name: Name,
    refs: Annotated[
        list[str], typer.Argument(help="Datasets of one format, two or more, each maybe with a version.")
    ],
    *,
    prefix: Annotated[bool, typer.Option("--prefix", help="Put each dataset's name before its ids.")] = False,
    note: NoteOption = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make a version with the rows of several datasets; an id that two have is refused."""
    body = {"refs": refs, "prefix": prefix, "note": note}
    print_version(_access(home, as_json).change(name, "merge", body), as_json=as_json)


def edit(
    reference: Base,
    *,
    rows: Annotated[
        Path | None,
        typer.Option("--set", help="File of rows that take the place of those with their ids, as exported."),
    ] = None,
    delete: Annotated[
        list[str] | None, typer.Option(help="Id of a row to delete; may be given several times.")
    ] = None,
    note: NoteOption = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Change, add and delete rows by id."""
    access = _access(home, as_json)
    form = access.show(reference).facts.format
    changed = (
        []
        if rows is None
        else [msgspec.to_builtins(row) for row in dataset_access.read_edited_rows(rows, form)]
    )
    body = {"set": changed, "delete": delete or [], "note": note}
    print_version(access.change(reference, "edit", body), as_json=as_json)


def convert(
    reference: Base,
    form: Annotated[DatasetFormat, typer.Argument(help="cases, instruct or chat.")],
    *,
    name: AsOption = None,
    note: NoteOption = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Tell the rows in another format, where that has a meaning."""
    body = {"format": form, "name": name, "note": note}
    print_version(_access(home, as_json).change(reference, "convert", body), as_json=as_json)


def from_traces(
    name: Name,
    search: Annotated[
        str, typer.Argument(help="Which calls, as in `penstock traces spans`; empty: all.")
    ] = "",
    *,
    expected: Annotated[
        Literal["none", "reply", "feedback"],
        typer.Option(
            help="What is expected: nothing, what was answered, or what a person said it should have been."
        ),
    ] = "none",
    traces: Annotated[
        bool,
        typer.Option(
            "--traces", help="One row for each trace, by its root; without, one for each model call."
        ),
    ] = False,
    since: SinceOption = None,
    project: Annotated[str | None, typer.Option(help="Of this project.")] = None,
    limit: LimitOption = 1000,
    dedupe: Annotated[bool, typer.Option(help="Of calls that ask the same keep the newest.")] = True,
    append: AppendOption = False,
    note: NoteOption = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make a version from traffic: what was asked, with where it came from. What was masked stays masked."""
    body = {
        "search": search,
        "subject": "trace" if traces else "call",
        "expected": expected,
        "since_ns": _since_ns(since),
        "project": project,
        "limit": limit,
        "dedupe": dedupe,
        "append": append,
        "note": note,
    }
    print_version(_access(home, as_json).change(name, "from-traces", body), as_json=as_json)


def from_feedback(
    name: Name,
    *,
    form: Annotated[
        Literal["cases", "label", "preference"],
        typer.Option(
            "--format", help="cases (expected: the correction, or the approved reply), label or preference."
        ),
    ] = "cases",
    score: Annotated[str | None, typer.Option(help="By the score of this name.  [default: all]")] = None,
    good: Annotated[float, typer.Option(help="A value of this or over counts as approval.")] = 0.5,
    since: SinceOption = None,
    project: Annotated[str | None, typer.Option(help="Of this project.")] = None,
    limit: LimitOption = 1000,
    append: AppendOption = False,
    note: NoteOption = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make a version of what people judged of answers; what models and code judged is not feedback."""
    body = {
        "format": form,
        "score": score,
        "good": good,
        "since_ns": _since_ns(since),
        "project": project,
        "limit": limit,
        "append": append,
        "note": note,
    }
    print_version(_access(home, as_json).change(name, "from-feedback", body), as_json=as_json)


def add_trace(
    name: Name,
    trace_id: Annotated[str, typer.Argument(help="The trace.")],
    span_id: Annotated[str | None, typer.Argument(help="A span of it.  [default: the root]")] = None,
    *,
    expected: Annotated[str | None, typer.Option(help="What a good answer is.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag; may be given several times.")] = None,
    split: Annotated[str | None, typer.Option(help="The split it goes to.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Add one call as a row; the dataset is made if it is new."""
    body: dict[str, Any] = {
        "trace_id": trace_id,
        "span_id": span_id,
        "expected": expected,
        "tags": tag or [],
        "split": split,
    }
    print_version(_access(home, as_json).change(name, "traces", body), as_json=as_json)


_COMMANDS = (
    ("split", split, "penstock dataset split questions train=0.8 test=0.2"),
    ("tag", tag, "penstock dataset tag questions --add hard --where 'lang:th'"),
    ("filter", filter_rows, "penstock dataset filter questions 'split:test' --as held-out"),
    ("sample", sample, "penstock dataset sample questions 100 --as smoke"),
    ("merge", merge, "penstock dataset merge all-questions questions more-questions --prefix"),
    ("edit", edit, "penstock dataset edit questions --set mended.jsonl --delete q17"),
    ("convert", convert, "penstock dataset convert answers chat --as answers-chat"),
    ("from-traces", from_traces, "penstock dataset from-traces asked 'route:handbook status:ok' --since 7d"),
    ("from-feedback", from_feedback, "penstock dataset from-feedback corrected --score thumbs"),
    ("add-trace", add_trace, "penstock dataset add-trace hard-ones 4bf92f3577b34da6a3ce929d0e0e4736"),
)


def _access(home: Path, as_json: bool) -> dataset_access.DatasetAccess:
    return dataset_access.DatasetAccess(open_home(home, as_json=as_json))


def _shares(texts: list[str]) -> dict[str, float]:
    shares: dict[str, float] = {}
    for text in texts:
        name, _, share = text.partition("=")
        try:
            shares[name] = float(share)
        except ValueError as error:
            raise InvalidInput(
                f"{text!r} is no share.", hint="Write SPLIT=SHARE, such as train=0.8."
            ) from error
    if len(shares) != len(texts):
        raise InvalidInput("A split is named twice.", hint="Such as train=0.8 test=0.2.")
    return shares


def _since_ns(text: str | None) -> int | None:
    if text is None:
        return None
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit()) or unit not in _UNITS_S:
        raise InvalidInput(f"{text!r} is no length of time.", hint="Write it like 90s, 15m, 2h or 7d.")
    return max(0, time.time_ns() - int(number) * _UNITS_S[unit] * 1_000_000_000)
