"""Options by which commands say how rows are to be understood, and how they show a version that was made."""

from typing import Annotated, Literal

import msgspec
import typer

from penstock.base.errors import InvalidInput
from penstock.cli.output import print_json
from penstock.datasets.types import DatasetVersion, ReadOptions
from penstock.spec.datasets import DatasetFormat

Layout = Literal["jsonl", "json", "csv", "tsv", "parquet"]
FormatOption = Annotated[
    DatasetFormat | None,
    typer.Option(
        "--format", help="cases, instruct, chat, preference, label or retrieval.  [default: by the columns]"
    ),
]
LayoutOption = Annotated[
    Layout | None, typer.Option(help="jsonl, json, csv, tsv or parquet.  [default: by the file's name]")
]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map", help="FIELD=COLUMN where they differ, such as input=Question or metadata.lang=language."
    ),
]
NoteOption = Annotated[str, typer.Option(help="Why; kept with the version.")]


def read_options(
    form: DatasetFormat | None,
    layout: Layout | None,
    mapped: list[str] | None,
    *,
    skip_invalid: bool = False,
    split: str | None = None,
    tags: tuple[str, ...] = (),
    limit: int | None = None,
) -> ReadOptions:
    """Return what the options say; raise `InvalidInput` for a mapping that is none."""
    mapping = {}
    for each in mapped or ():
        field, equals, column = each.partition("=")
        if not equals or not field or not column:
            raise InvalidInput(
                f"{each!r} maps nothing.", hint="Write FIELD=COLUMN, such as input=Question.", param="map"
            )
        mapping[field] = column
    return ReadOptions(
        format=form,
        layout=layout,
        mapping=mapping,
        skip_invalid=skip_invalid,
        split=split,
        tags=tags,
        limit=limit,
    )


def print_version(version: DatasetVersion, *, as_json: bool) -> None:
    """Print what was made, in a line or two, or JSON."""
    if as_json:
        print_json(msgspec.to_builtins(version) | {"is_new": version.is_new})
        return
    facts = version.facts
    splits = ", ".join(f"{name or '(none)'} {n:,}" for name, n in facts.splits.items())
    groups = f", {_count(facts.n_groups, 'group')}" if facts.n_groups is not None else ""
    told = "" if version.is_new else " was there already"
    shown = f"; splits: {splits}" if set(facts.splits) - {""} else ""
    print(f"{version.ref}{told}: {_count(facts.n_rows, 'row')} of {facts.format}{groups}{shown}")
    for reason, number in facts.left_out.items():
        print(f"left out  {number:,} × {reason}")
    for problem in version.problems:
        print(f"  {problem.place}{f' {problem.column}' if problem.column else ''}: {problem.message}")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
