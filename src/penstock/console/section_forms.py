"""Forms from the sections people write: every key of a provider, route, limit or price has its field, drawn from its type.

Nothing here knows HTML or HTTP.
"""

import ast
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from textwrap import dedent
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from penstock.console.section_fields import (
    Fields,
    Widget,
    default_of,
    is_filled,
    row_numbers,
    rows_in,
    section_in,
    widget_of,
)


@dataclass(frozen=True, kw_only=True)
class FormField:
    """One field, ready to draw."""

    name: str
    label: str
    help: str
    widget: Widget
    value: str
    placeholder: str
    """The default, as a person would write it."""
    is_required: bool
    options: tuple[str, ...] = ()
    chosen: frozenset[str] = frozenset()
    """Of several options, those that are chosen."""
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """One thing to mend in a form, with the name of its field or group."""

    name: str
    label: str
    text: str


@dataclass(frozen=True, kw_only=True)
class FormGroup:
    """Fields that belong together: a table of the section, or one row of a list of tables."""

    name: str
    label: str
    help: str
    fields: tuple[FormField, ...]
    groups: tuple["FormGroup", ...] = ()
    rows: tuple["FormGroup", ...] = ()
    """Of a list: its rows, with an empty one at the end."""
    is_list: bool = False
    is_used: bool = False
    """Whether anything in it is filled in or wrong."""
    error: str | None = None

    @property
    def wrongs(self) -> tuple["Wrong", ...]:
        """What is wrong in it and below, in the order of the page."""
        own = (Wrong(name=self.name, label=self.label, text=self.error),) if self.error and self.name else ()
        tables = [each for each in self.groups if each.name == "targets"]
        rest = [each for each in self.groups if each.name != "targets"]
        return (
            *own,
            *(wrong for each in tables for wrong in each.wrongs),
            *(Wrong(name=each.name, label=each.label, text=each.error) for each in self.fields if each.error),
            *(wrong for each in (*self.rows, *rest) for wrong in each.wrongs),
        )

    @property
    def one(self) -> str:
        """What one row of a list is called."""
        return self.label.removesuffix("s")


def build_form(
    model: type[BaseModel], fields: Fields, errors: Mapping[str, str], *, n_blank: int = 1
) -> FormGroup:
    """Return the form of a section with these fields filled in, these errors in place, and so many empty rows."""
    return _Form(fields, errors, n_blank).group(model, "", "", "")


@cache
def read_docs(model: type[BaseModel]) -> Mapping[str, str]:
    """Return the sentence below each key of a section, as the source has it."""
    try:
        (tree,) = ast.parse(dedent(inspect.getsource(model))).body
    except (OSError, SyntaxError, ValueError):
        return {}
    docs: dict[str, str] = {}
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    for before, after in pairwise(body):
        if (
            isinstance(before, ast.AnnAssign)
            and isinstance(before.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            docs[before.target.id] = " ".join(str(after.value.value).split())
    return docs


class _Form:
    """What is filled in and what is wrong, while the groups of one form are built."""

    def __init__(self, fields: Fields, errors: Mapping[str, str], n_blank: int) -> None:
        self._fields = fields
        self._errors = errors
        self._n_blank = n_blank

    def group(self, model: type[BaseModel], name: str, label: str, help_text: str) -> FormGroup:
        """Return one table of the section."""
        docs = read_docs(model)
        plain: list[FormField] = []
        groups: list[FormGroup] = []
        for key, info in model.model_fields.items():
            below, doc = f"{name}.{key}" if name else key, docs.get(key, "")
            if (rows := rows_in(info.annotation)) is not None:
                groups.append(self._list(rows, below, write_label(key), doc))
            elif (section := section_in(info.annotation)) is not None:
                groups.append(self.group(section, below, write_label(key), doc))
            else:
                plain.append(self._field(below, write_label(key), info, doc))
        return FormGroup(
            name=name,
            label=label,
            help=help_text,
            fields=tuple(plain),
            groups=tuple(groups),
            is_used=is_filled(self._fields, name)
            or any(each.startswith(f"{name}.") for each in self._errors),
            error=self._errors.get(name),
        )

    def _list(self, model: type[BaseModel], name: str, label: str, help_text: str) -> FormGroup:
        numbers = row_numbers(self._fields, name)
        first = max(numbers, default=-1) + 1
        rows = [
            self.group(model, f"{name}.{each}", "", "")
            for each in (*numbers, *range(first, first + self._n_blank))
        ]
        return FormGroup(
            name=name,
            label=label,
            help=help_text,
            fields=(),
            rows=tuple(rows),
            is_list=True,
            is_used=bool(numbers) or any(each.startswith(name) for each in self._errors),
            error=self._errors.get(name),
        )

    def _field(self, name: str, label: str, info: FieldInfo, help_text: str) -> FormField:
        widget, options = widget_of(info.annotation)
        default = default_of(info)
        said = {option for option in options if f"{name}:{option}" in self._fields}
        if widget == "several" and f"{name}:" not in self._fields:
            said = set(default or ())
        return FormField(
            name=name,
            label=label,
            help=help_text,
            widget=widget,
            value=self._fields.get(name, ""),
            placeholder=_show_default(default),
            is_required=info.is_required(),
            options=options,
            chosen=frozenset(said),
            error=self._errors.get(name),
        )


def write_label(key: str) -> str:
    """Return how a key is called on a form: `deadline_s` is `Deadline, seconds`."""
    words = key.removesuffix("_s").replace("_", " ").replace("usd per", "US dollars per")
    text = f"{words}, seconds" if key.endswith("_s") else words
    return f"{text[:1].upper()}{text[1:]}".replace(" url", " URL").replace("Ttl", "TTL")


def _show_default(value: Any) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
