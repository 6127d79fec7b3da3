"""From what a source says to a row of ours, or to what is wrong with it; and the same check for rows that code made."""

from collections.abc import Mapping
from typing import Any

import msgspec

from penstock.datasets.fields import Unfit, shape_fields, shape_name, shape_object, shape_texts
from penstock.datasets.formats import Plan, pick
from penstock.datasets.rows import MAX_ID_CHARS, MAX_NAME_CHARS, find_unfit
from penstock.datasets.types import RawRow, ReadOptions, RowProblem
from penstock.spec.datasets import DatasetFormat, DatasetRow, Provenance

_OF_ROW = ("id", "split", "group", "tags", "metadata", "provenance")
_PREFERENCE_INPUT = ("tools", "messages")


def to_row(raw: RawRow, plan: Plan, options: ReadOptions) -> DatasetRow | RowProblem:
    """Return the row of the plan's format, with an empty id where the source gives none, or what is wrong with it."""
    value = raw.value
    try:
        value, columns = _unpair(value, plan) if plan.is_pair else (value, plan.columns)
        given = {field: pick(value, column) for field, column in columns.items()}
        fields = {name: each for name, each in given.items() if name not in _OF_ROW and "." not in name}
        return DatasetRow(
            id=_id_of(given.get("id")),
            fields=shape_fields(plan.form, fields),
            split=_name_of(given, "split") or options.split,
            group=_name_of(given, "group"),
            tags=_tags_of(given.get("tags"), options.tags),
            metadata=_metadata(value, given, columns),
            provenance=_provenance(given.get("provenance"), raw),
        )
    except Unfit as error:
        field, _, message = str(error).partition(": ")
        head, dot, rest = field.partition(".")
        column = plan.columns.get(field) or plan.columns.get(head, head) + dot + rest
        return RowProblem(place=raw.place, column=column, message=message, reason=error.reason)


def check_row(row: DatasetRow, form: DatasetFormat, place: str) -> DatasetRow | RowProblem:
    """Return a row that code made, with its fields in shape, or what is wrong with it."""
    try:
        unfit = find_unfit(row.fields) or find_unfit(row.metadata)
        if unfit:
            return RowProblem(place=place, message=f"holds {unfit}", reason="value that cannot be kept")
        return DatasetRow(
            id=_id_of(row.id or None),
            fields=shape_fields(form, row.fields),
            split=None if row.split is None else shape_name(row.split, "split", MAX_NAME_CHARS),
            group=None if row.group is None else shape_name(row.group, "group", MAX_NAME_CHARS),
            tags=_tags_of(list(row.tags), ()),
            metadata=row.metadata,
            provenance=row.provenance,
        )
    except Unfit as error:
        field, _, message = str(error).partition(": ")
        return RowProblem(place=place, column=field, message=message, reason=error.reason)


def _id_of(value: Any) -> str:
    return "" if value is None else shape_name(value, "id", MAX_ID_CHARS)


def _name_of(given: Mapping[str, Any], name: str) -> str | None:
    value = given.get(name)
    return None if value is None or value == "" else shape_name(value, name, MAX_NAME_CHARS)


def _tags_of(value: Any, more: tuple[str, ...]) -> list[str]:
    if value is None:
        items: list[str] = []
    elif isinstance(value, str) and not value.startswith("["):
        items = [each for each in value.split(",") if each.strip()]
    else:
        items = shape_texts(value, "tags")
    return list(dict.fromkeys(shape_name(each, "tags", MAX_NAME_CHARS) for each in (*items, *more)))


def _metadata(
    value: Mapping[str, Any], given: Mapping[str, Any], columns: Mapping[str, str]
) -> dict[str, Any]:
    """Return what the source says of the row beyond its fields: its own metadata, mapped columns, and all other columns."""
    own = {} if given.get("metadata") is None else shape_object(given["metadata"], "metadata")
    mapped = {
        name.partition(".")[2]: each
        for name, each in given.items()
        if name.startswith("metadata.") and each is not None
    }
    taken = {column.partition(".")[0] if column not in value else column for column in columns.values()}
    others = {name: each for name, each in value.items() if name not in taken and each is not None}
    return {**others, **own, **mapped}


def _provenance(value: Any, raw: RawRow) -> Provenance:
    """Return where the row was first made, where it says so itself, else its place."""
    if isinstance(value, Mapping):
        try:
            return msgspec.convert(value, Provenance)
        except msgspec.ValidationError:
            pass
    return Provenance(kind=raw.kind, source=raw.place)  # type: ignore[arg-type]  # readers write the three kinds


def _unpair(value: Mapping[str, Any], plan: Plan) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a row of OpenAI's preference files with our field names, and the columns by which it is read."""
    asked = value.get("input")
    if not isinstance(asked, Mapping):
        raise Unfit("input: must be an object with messages", "wrong type")
    rest = {
        name: each
        for name, each in value.items()
        if name not in {"input", "preferred_output", "non_preferred_output"}
    }
    flat = {
        **rest,
        **{name: asked[name] for name in _PREFERENCE_INPUT if asked.get(name)},
        "chosen": value.get("preferred_output"),
        "rejected": value.get("non_preferred_output"),
    }
    more = {name: each for name, each in asked.items() if name not in _PREFERENCE_INPUT}
    columns = {name: name for name in (*_PREFERENCE_INPUT, "chosen", "rejected")}
    return {**more, **flat}, {**columns, **plan.columns}
