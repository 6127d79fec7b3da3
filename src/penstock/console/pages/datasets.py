"""Datasets: the list, the import form, one version with its rows, sheet and profile, one row, two versions compared."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeVar
from urllib.parse import quote, urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.errors import InvalidInput
from penstock.console.cards import Block, parse_card
from penstock.console.dataset_rows import (
    RowLine,
    ShownField,
    ShownRow,
    page_href,
    row_line,
    show_fields,
    show_row,
    version_href,
)
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.datasets.cleaning.profile import Profile
from penstock.datasets.errors import NoDataset
from penstock.datasets.sheet import describe_step, write_markdown
from penstock.datasets.types import DatasetSummary, DatasetVersion, RowChange
from penstock.registry.types import LineageNode

ACTIVE = "/datasets"
Found = TypeVar("Found")
ROWS = 50
MAX_READ = 50_000
"""A page that goes through every row of a larger version would keep somebody waiting: it shows the command instead."""
FORMATS = ("cases", "instruct", "chat", "preference", "label", "retrieval")


@dataclass(frozen=True, kw_only=True)
class DatasetsPage(Page):
    """All datasets."""

    template: ClassVar[str] = "datasets.html"
    datasets: tuple[DatasetSummary, ...]
    waiting: dict[str, int]
    """Dataset to proposals that wait for a person."""


@dataclass(frozen=True, kw_only=True)
class ImportPage(Page):
    """The form that sends a file."""

    template: ClassVar[str] = "dataset_import.html"
    formats: tuple[str, ...]
    name: str


@dataclass(frozen=True, kw_only=True)
class DatasetPage(Page):
    """One version."""

    template: ClassVar[str] = "dataset.html"
    version: DatasetVersion
    numbers: tuple[int, ...]
    waiting: int
    tab: str
    tabs: tuple[tuple[str, str, str], ...]
    steps: tuple[str, ...]
    up: tuple[LineageNode, ...]
    down: tuple[LineageNode, ...]
    rows: tuple[RowLine, ...]
    where: str
    split: str
    tag: str
    next_href: str | None
    first_href: str | None
    card: tuple[Block, ...]
    profile: Profile | None
    is_large: bool

    @property
    def previous(self) -> int | None:
        """The version before, to compare with."""
        return next((each for each in self.numbers if each < self.version.number), None)


@dataclass(frozen=True, kw_only=True)
class RowPage(Page):
    """One row."""

    template: ClassVar[str] = "dataset_row.html"
    version: DatasetVersion
    row: ShownRow


@dataclass(frozen=True, kw_only=True)
class ShownChange:
    """What became of one row."""

    change: RowChange
    question: str
    before: tuple[ShownField, ...]
    after: tuple[ShownField, ...]


@dataclass(frozen=True, kw_only=True)
class DatasetDiffPage(Page):
    """Two versions."""

    template: ClassVar[str] = "dataset_diff.html"
    name: str
    numbers: tuple[int, ...]
    base: int
    other: int
    n_added: int
    n_removed: int
    n_changed: int
    n_same: int
    is_reordered: bool
    fields_changed: tuple[tuple[str, int], ...]
    changes: tuple[ShownChange, ...]
    next_href: str | None


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/datasets` and below."""
    router = APIRouter(include_in_schema=False)
    for add in (_add_lists, _add_version, _add_diff, _add_trace):
        add(router, services, renderer)
    return router


def _add_lists(router: APIRouter, services: ConsoleServices, renderer: Renderer) -> None:
    @router.get("/datasets")
    @needs(Permission.DATASETS_READ)
    def list_datasets(request: Request, notice: str | None = None) -> Response:
        page = DatasetsPage(
            frame=renderer.frame(request, "Datasets", ACTIVE, notice=notice),
            datasets=tuple(services.datasets.list_datasets()),
            waiting=services.proposals.waiting(),
        )
        return renderer.show(page)

    @router.get("/dataset-import")
    @needs(Permission.DATASETS_WRITE)
    def show_import(request: Request, name: str = "") -> Response:
        page = ImportPage(
            frame=renderer.frame(request, "Import a dataset", ACTIVE), formats=FORMATS, name=name
        )
        return renderer.show(page)

    @router.get("/datasets/{name}")
    @needs(Permission.DATASETS_READ)
    def show_newest(name: str) -> Response:
        newest = services.datasets.get(f"dataset:{name}@latest")
        return RedirectResponse(version_href(newest), status_code=303)


def _add_version(router: APIRouter, services: ConsoleServices, renderer: Renderer) -> None:
    datasets = services.datasets

    @router.get("/datasets/{name}/{number:int}")
    @needs(Permission.DATASETS_READ)
    def show_version(
        request: Request,
        name: str,
        number: int,
        *,
        tab: str = "rows",
        where: str = "",
        split: str = "",
        tag: str = "",
        cursor: str | None = None,
        notice: str | None = None,
    ) -> Response:
        try:
            version = datasets.get(f"dataset:{name}@{number}")
        except NoDataset:
            return RedirectResponse(f"/assets/dataset/{quote(name)}/{number}", status_code=303)
        tab = tab if tab in {"rows", "sheet", "profile"} else "rows"
        lineage = services.registry.lineage(version.ref)
        rows: tuple[RowLine, ...] = ()
        next_href = None
        if tab == "rows":
            found = datasets.rows(version.ref, where=join_where(where, split, tag), cursor=cursor, limit=ROWS)
            rows = tuple(row_line(row, version) for row in found.rows)
            if found.next_cursor:
                next_href = version_href(version, where=where, split=split, tag=tag, cursor=found.next_cursor)
        is_large = version.facts.n_rows > MAX_READ and tab != "rows"
        page = DatasetPage(
            frame=renderer.frame(request, version.ref, ACTIVE, notice=notice),
            version=version,
            numbers=tuple(each.number for each in datasets.list_versions(name)),
            waiting=services.proposals.waiting().get(name, 0),
            tab=tab,
            tabs=tuple(
                (each, label, page_href(name, number, tab=None if each == "rows" else each))
                for each, label in (("rows", "Rows"), ("sheet", "Sheet"), ("profile", "Profile"))
            ),
            steps=tuple(describe_step(step) for step in version.facts.steps),
            up=lineage.up,
            down=lineage.down,
            rows=rows,
            where=where,
            split=split,
            tag=tag,
            next_href=next_href,
            first_href=version_href(version, where=where, split=split, tag=tag) if cursor else None,
            card=_when(tab == "sheet" and not is_large, lambda: _sheet(services, version)) or (),
            profile=_when(tab == "profile" and not is_large, lambda: services.cleaning.profile(version.ref)),
            is_large=is_large,
        )
        return renderer.show(page)

    @router.get("/datasets/{name}/{number:int}/row")
    @needs(Permission.DATASETS_READ)
    def show_one_row(request: Request, name: str, number: int, id: str) -> Response:  # noqa: A002 - the word in the URL
        version = datasets.get(f"dataset:{name}@{number}")
        row = datasets.row(version.ref, id)
        page = RowPage(
            frame=renderer.frame(request, f"{row.id} of {version.ref}", ACTIVE),
            version=version,
            row=show_row(row),
        )
        return renderer.show(page)


def _add_diff(router: APIRouter, services: ConsoleServices, renderer: Renderer) -> None:
    datasets = services.datasets

    @router.get("/datasets/{name}/diff")
    @needs(Permission.DATASETS_READ)
    def show_diff(request: Request, name: str, base: int, other: int, cursor: str | None = None) -> Response:
        found = datasets.diff(f"dataset:{name}@{base}", f"dataset:{name}@{other}", cursor=cursor, limit=ROWS)
        version = datasets.get(f"dataset:{name}@{other}")
        following = {"base": base, "other": other, "cursor": found.next_cursor}
        page = DatasetDiffPage(
            frame=renderer.frame(request, f"{name}: version {base} and {other}", ACTIVE),
            name=name,
            numbers=tuple(each.number for each in datasets.list_versions(name)),
            base=base,
            other=other,
            n_added=found.n_added,
            n_removed=found.n_removed,
            n_changed=found.n_changed,
            n_same=found.n_same,
            is_reordered=found.is_reordered,
            fields_changed=tuple(found.fields_changed.items()),
            changes=tuple(_shown(change, version) for change in found.changes),
            next_href=f"?{urlencode(following)}" if found.next_cursor else None,
        )
        return renderer.show(page)


def _add_trace(router: APIRouter, services: ConsoleServices, renderer: Renderer) -> None:
    _ = renderer

    @router.post("/dataset-from-trace")
    @needs(Permission.DATASETS_WRITE, Permission.TRACES_CONTENT)
    def add_trace(request: Request) -> Response:
        form = request.state.caller.form
        name = form.get("dataset", "").strip()
        if not name:
            raise InvalidInput("Which dataset?", hint="An unknown name makes a new dataset.")
        expected = form.get("expected", "").strip() or None
        version = services.datasets.add_trace(
            name, form.get("trace_id", ""), form.get("span_id") or None, expected=expected
        )
        said = "The call is a row here now." if version.is_new else "The call was a row here already."
        return RedirectResponse(version_href(version, notice=said), status_code=303)


def join_where(where: str, split: str, tag: str) -> str | None:
    """Return the filter of a list: what was written, and what was chosen."""
    parts = [where.strip()]
    parts += [
        f'"{name}:{value}"' for name, value in (("split", split), ("tag", tag)) if value and '"' not in value
    ]
    return " ".join(part for part in parts if part) or None


def _when(is_wanted: bool, find: Callable[[], Found]) -> Found | None:
    return find() if is_wanted else None


def _sheet(services: ConsoleServices, version: DatasetVersion) -> tuple[Block, ...]:
    text = write_markdown(services.cleaning.sheet(version.ref))
    return parse_card(text.partition("\n")[2])


def _shown(change: RowChange, version: DatasetVersion) -> ShownChange:
    row = change.after or change.before
    names = {each.partition(".")[0] for each in change.fields}

    def fields_of(each: object) -> tuple[ShownField, ...]:
        held = getattr(each, "fields", None) or {}
        wanted = {name: value for name, value in held.items() if change.kind != "changed" or name in names}
        rest = {
            name: getattr(each, name)
            for name in ("split", "group", "tags", "metadata")
            if each is not None and change.kind == "changed" and name in names
        }
        return show_fields(
            {**wanted, **{name: "none" if value is None else value for name, value in rest.items()}}
        )

    return ShownChange(
        change=change,
        question="" if row is None else row_line(row, version).question,
        before=fields_of(change.before),
        after=fields_of(change.after),
    )
