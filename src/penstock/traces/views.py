"""Saved views: a search with its columns and order, under a name that a project shares."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import msgspec
from sqlalchemy import Engine, Row, delete, insert, select, update

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import InvalidInput, NotFound, suggest
from penstock.base.json_text import clean_text
from penstock.store.control.tables.views import saved_views
from penstock.store.spans.types import Order, SpanRow, TraceRow
from penstock.traces.search import parse

ViewSubject = Literal["trace", "span"]
MAX_NAME = 80
MAX_VIEWS = 500
DEFAULT_PROJECT = "default"
TRACE_COLUMNS: tuple[str, ...] = (*TraceRow.__struct_fields__, "tokens")
SPAN_COLUMNS: tuple[str, ...] = (*SpanRow.__struct_fields__, "tokens")


class UnknownView(NotFound):
    """No view has this name."""

    code = "PS-1962"


class SavedView(msgspec.Struct, frozen=True, kw_only=True):
    """One view as it is kept."""

    name: str
    query: str = ""
    """A search; empty for everything."""
    subject: ViewSubject = "trace"
    columns: tuple[str, ...] = ()
    """Columns in order; none for the usual ones."""
    order: Order = "newest"
    project: str = DEFAULT_PROJECT
    actor: str = ""
    updated_ns: int = 0


class ViewService:
    """Views on the control tables. Every method may be called from any thread."""

    def __init__(self, engine: Engine, *, now_ns: Callable[[], int] = wall_clock) -> None:
        self._engine = engine
        self._now_ns = now_ns

    def list(self, project: str = DEFAULT_PROJECT) -> list[SavedView]:
        """Return the views of a project by name."""
        query = select(saved_views).where(saved_views.c.project == project).order_by(saved_views.c.name)
        with self._engine.connect() as connection:
            return [_view_of(row) for row in connection.execute(query)]

    def get(self, name: str, project: str = DEFAULT_PROJECT) -> SavedView:
        """Return one view; raise `UnknownView`."""
        query = select(saved_views).where(saved_views.c.project == project, saved_views.c.name == name)
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise UnknownView(
                f"There is no view {name!r}.", hint=suggest(name, [view.name for view in self.list(project)])
            )
        return _view_of(row)

    def save(self, view: SavedView, *, actor: str) -> SavedView:
        """Keep a view, in place of the one of its name; raise `InvalidInput` for what could not be shown."""
        checked = check_view(view)
        values: dict[str, Any] = {
            "subject": checked.subject,
            "query": checked.query,
            "columns": list(checked.columns),
            "ordering": checked.order,
            "actor": actor,
            "updated_ns": self._now_ns(),
        }
        key = (saved_views.c.project == checked.project) & (saved_views.c.name == checked.name)
        with self._engine.begin() as connection:
            if connection.execute(update(saved_views).where(key).values(**values)).rowcount == 0:
                names = connection.execute(
                    select(saved_views.c.name).where(saved_views.c.project == checked.project)
                ).all()
                if len(names) >= MAX_VIEWS:
                    raise InvalidInput(f"There are {MAX_VIEWS} views already.", hint="Delete some of them.")
                connection.execute(
                    insert(saved_views).values(project=checked.project, name=checked.name, **values)
                )
        return self.get(checked.name, checked.project)

    def delete(self, name: str, project: str = DEFAULT_PROJECT) -> None:
        """Forget a view; raise `UnknownView`."""
        self.get(name, project)
        with self._engine.begin() as connection:
            connection.execute(
                delete(saved_views).where(saved_views.c.project == project, saved_views.c.name == name)
            )


def read_view(fields: Mapping[str, Any]) -> SavedView:
    """Return the view that JSON fields describe; raise `InvalidInput` that names the wrong one."""
    try:
        return msgspec.convert(dict(fields), SavedView)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"The view cannot be read: {error}.") from error


def check_view(view: SavedView) -> SavedView:
    """Return the view in order; raise `InvalidInput` for a name, search or column that cannot be."""
    name = clean_text(view.name).strip()
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise InvalidInput(f"The name of a view has 1 to {MAX_NAME} characters.", where="name")
    parse(view.query, subject=view.subject)
    known = TRACE_COLUMNS if view.subject == "trace" else SPAN_COLUMNS
    _check_columns(view.columns, known)
    return msgspec.structs.replace(view, name=name)


def _check_columns(columns: Sequence[str], known: Sequence[str]) -> None:
    for column in columns:
        if column not in known:
            raise InvalidInput(
                f"There is no column {column!r}.",
                hint=suggest(column, known) or f"There are {', '.join(known)}.",
                where="columns",
            )


def _view_of(row: Row[Any]) -> SavedView:
    return SavedView(
        name=row.name,
        query=row.query,
        subject=row.subject if row.subject in get_args(ViewSubject) else "trace",
        columns=tuple(row.columns),
        order=row.ordering,
        project=row.project,
        actor=row.actor,
        updated_ns=row.updated_ns,
    )
