"""Datasets over REST: list, read, compare, make versions from uploads, places, traffic and other versions, and export.

An upload is the request's body as it is, taken to a file piece by piece; how it is to be understood stands in the URL.
"""

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.errors import InvalidInput, TooLarge
from penstock.control.api.parameters import StoredNumber
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices
from penstock.datasets.export import MEDIA_TYPES, SUFFIXES, ExportForm
from penstock.datasets.service import DatasetService
from penstock.datasets.types import ReadOptions, RowEdit
from penstock.spec.datasets import DatasetFormat, DatasetRow

MAX_UPLOAD_BYTES = 20 * 1024**3
Limit = Annotated[int, Query(ge=1, le=1000)]
Where = Annotated[str | None, Query(max_length=10_000)]


class Reading(BaseModel):
    """How a source is to be understood: in the URL of an upload, in the body of an import."""

    model_config = ConfigDict(extra="forbid")
    format: DatasetFormat | None = None
    layout: Literal["jsonl", "json", "csv", "tsv", "parquet"] | None = None
    map: Annotated[list[str], Query()] = []
    """`FIELD=COLUMN`, each."""
    skip_invalid: bool = False
    split: str | None = None
    tags: Annotated[list[str], Query()] = []
    limit: int | None = None
    license: str | None = None
    description: str = ""

    def options(self) -> ReadOptions:
        """Return it as the room says it; raise `InvalidInput` for a mapping that is none."""
        mapping = dict(_pair(each) for each in self.map)
        rest = self.model_dump(exclude={"map", "name", "note", "append", "source", "file"})
        return msgspec.convert({**rest, "mapping": mapping}, ReadOptions)


class Upload(Reading):
    """What the URL of an upload says."""

    file: str = "upload"
    """The file's name, by which places are told and the layout guessed."""
    append: bool = False
    note: str = ""


class Import(Reading):
    """Body of an import of what control can read itself."""

    source: str
    """An absolute path of control's machine, `hub:ORG/NAME[@REVISION]`, `handbook:questions`, `:cases`, `:tuning` or `:held-out`."""
    append: bool = False
    note: str = ""


class CheckPlace(Reading):
    """Body of a check of what control can read itself."""

    source: str


class Noted(BaseModel):
    """What every body that makes a version has: of which version, and why."""

    model_config = ConfigDict(extra="forbid")
    version: str | None = None
    """Number, alias or `latest`; without it the newest."""
    note: str = ""


class Append(Noted):
    """Rows to come after the others, in the form of `DatasetRow`."""

    rows: list[dict[str, Any]]


class Edit(Noted):
    """Rows to set and ids to delete."""

    set: list[dict[str, Any]] = []
    delete: list[str] = []


class Tag(Noted):
    """Tags to add and to remove."""

    add: list[str] = []
    remove: list[str] = []
    where: str | dict[str, Any] | None = None


class Split(Noted):
    """Shares of splits."""

    shares: dict[str, float]
    by: str | None = None
    stratify: str | None = None
    seed: int = 0
    keep: bool = False


class Filter(Noted):
    """Which rows, and maybe the name of another dataset for them."""

    where: str | dict[str, Any]
    name: str | None = None


class Sample(Noted):
    """How many rows."""

    n: int
    seed: int = 0
    name: str | None = None


class Convert(Noted):
    """The other format."""

    format: DatasetFormat
    name: str | None = None


class Merge(BaseModel):
    """What is merged."""

    model_config = ConfigDict(extra="forbid")
    refs: list[str]
    prefix: bool = False
    note: str = ""


class FromTraces(BaseModel):
    """Which calls, and what is expected of each."""

    model_config = ConfigDict(extra="forbid")
    search: str = ""
    subject: Literal["call", "trace"] = "call"
    expected: Literal["none", "reply", "feedback"] = "none"
    since_ns: StoredNumber | None = None
    until_ns: StoredNumber | None = None
    project: str | None = None
    limit: int = 1000
    dedupe: bool = True
    append: bool = False
    note: str = ""


class FromFeedback(BaseModel):
    """Which judgements, and what is made of them."""

    model_config = ConfigDict(extra="forbid")
    format: DatasetFormat = "cases"
    score: str | None = None
    good: float = 0.5
    since_ns: StoredNumber | None = None
    project: str | None = None
    limit: int = 1000
    append: bool = False
    note: str = ""


class AddTrace(BaseModel):
    """One call to become a row."""

    model_config = ConfigDict(extra="forbid")
    trace_id: str
    span_id: str | None = None
    expected: Any = None
    tags: list[str] = []
    split: str | None = None


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/datasets`."""
    router = APIRouter(prefix="/api/v1/datasets", tags=["datasets"])
    for add in (_add_reading, _add_making, _add_changing, _add_traffic):
        add(router, services.datasets)
    return router


def _add_reading(router: APIRouter, datasets: DatasetService) -> None:
    @router.get("")
    @needs(Permission.DATASETS_READ)
    def list_datasets() -> Response:
        """All datasets, by name."""
        return json_reply({"datasets": datasets.list_datasets()})

    @router.get("/{name}")
    @needs(Permission.DATASETS_READ)
    def list_versions(name: str) -> Response:
        """The versions of a dataset, newest first."""
        return json_reply({"name": name, "versions": datasets.list_versions(name)})

    @router.get("/{name}/version")
    @needs(Permission.DATASETS_READ)
    def show_version(name: str, version: str | None = None) -> Response:
        """One version: facts, parents, aliases. Without `version` what `prod` names, else the newest."""
        return json_reply(datasets.get(_ref(name, version)))

    @router.get("/{name}/rows")
    @needs(Permission.DATASETS_READ)
    def list_rows(
        name: str,
        *,
        version: str | None = None,
        where: Where = None,
        cursor: str | None = None,
        offset: StoredNumber = 0,
        limit: Limit = 50,
    ) -> Response:
        """One page of rows; it may hold fewer than asked for and still not be the last, which has no cursor."""
        ref = _ref(name, version)
        return json_reply(datasets.rows(ref, where=where, cursor=cursor, offset=offset, limit=limit))

    @router.get("/{name}/row")
    @needs(Permission.DATASETS_READ)
    def show_row(name: str, id: str, version: str | None = None) -> Response:  # noqa: A002 - the word in the URL
        """One row."""
        return json_reply(datasets.row(_ref(name, version), id))

    @router.get("/{name}/diff")
    @needs(Permission.DATASETS_READ)
    def diff(name: str, base: str, other: str, cursor: str | None = None, limit: Limit = 50) -> Response:
        """How one version differs from another; each is a number, an alias, or a reference to another dataset."""
        refs = [each if ":" in each else _ref(name, each) for each in (base, other)]
        return json_reply(datasets.diff(refs[0], refs[1], cursor=cursor, limit=limit))

    @router.get("/{name}/export")
    @needs(Permission.DATASETS_READ)
    def export(
        name: str,
        version: str | None = None,
        format: ExportForm = "jsonl",  # noqa: A002 - the word in the URL
        where: Where = None,
        *,
        spreadsheet: bool = False,
    ) -> Response:
        """The rows as a file, as a stream; a table for a `spreadsheet` holds no formulas."""
        pieces = datasets.export(_ref(name, version), format, where=where, is_for_spreadsheet=spreadsheet)
        first = next(pieces, b"")  # what is wrong is told before the reply begins
        file = f"{name}.{SUFFIXES[format]}"
        return StreamingResponse(
            chain([first], pieces),
            media_type=MEDIA_TYPES[format],
            headers={"content-disposition": f'attachment; filename="{file}"'},
        )


def _add_making(router: APIRouter, datasets: DatasetService) -> None:
    @router.post("/check")
    @needs(Permission.DATASETS_READ)
    async def check(request: Request, asked: Annotated[Upload, Query()]) -> Response:
        """What an uploaded file holds, and what is wrong with it; nothing is stored."""
        with datasets.store.folder() as folder:
            path = await _take(request, folder)
            options = asked.options()
            report = await run_in_threadpool(datasets.check, path, options, source_name=_plain(asked.file))
        return json_reply(report)

    @router.post("/check-place")
    @needs(Permission.DATASETS_WRITE)
    def check_place(body: CheckPlace) -> Response:
        """What a place that control can read holds, and what is wrong with it; nothing is stored."""
        return json_reply(datasets.check(body.source, body.options()))

    @router.post("/{name}/upload")
    @needs(Permission.DATASETS_WRITE)
    async def upload(request: Request, name: str, asked: Annotated[Upload, Query()]) -> Response:
        """Make a version of an uploaded file."""
        with datasets.store.folder() as folder:
            path = await _take(request, folder)
            version = await run_in_threadpool(
                datasets.create,
                name,
                path,
                asked.options(),
                source_name=_plain(asked.file),
                append=asked.append,
                note=asked.note,
            )
        return json_reply(version, status=201)

    @router.post("/{name}/import")
    @needs(Permission.DATASETS_WRITE)
    def import_place(name: str, body: Import) -> Response:
        """Make a version of what control can read itself."""
        version = datasets.create(name, body.source, body.options(), append=body.append, note=body.note)
        return json_reply(version, status=201)

    @router.post("/{name}/merge")
    @needs(Permission.DATASETS_WRITE)
    def merge(name: str, body: Merge) -> Response:
        """Make a version of the rows of several datasets."""
        return json_reply(datasets.merge(name, body.refs, prefix=body.prefix, note=body.note), status=201)


def _add_changing(router: APIRouter, datasets: DatasetService) -> None:
    @router.post("/{name}/append")
    @needs(Permission.DATASETS_WRITE)
    def append(name: str, body: Append) -> Response:
        """Make a version with more rows."""
        rows = [_row(each) for each in body.rows]
        return json_reply(datasets.append(_ref(name, body.version), rows, note=body.note), status=201)

    @router.post("/{name}/edit")
    @needs(Permission.DATASETS_WRITE)
    def edit(name: str, body: Edit) -> Response:
        """Make a version with rows set and deleted."""
        wanted = RowEdit(set=[_row(each) for each in body.set], delete=body.delete)
        return json_reply(datasets.edit(_ref(name, body.version), wanted, note=body.note), status=201)

    @router.post("/{name}/tag")
    @needs(Permission.DATASETS_WRITE)
    def tag(name: str, body: Tag) -> Response:
        """Make a version with tags more or less."""
        version = datasets.tag(
            _ref(name, body.version), add=body.add, remove=body.remove, where=body.where, note=body.note
        )
        return json_reply(version, status=201)

    @router.post("/{name}/split")
    @needs(Permission.DATASETS_WRITE)
    def split(name: str, body: Split) -> Response:
        """Make a version whose rows are assigned to splits."""
        version = datasets.split(
            _ref(name, body.version),
            body.shares,
            by=body.by,
            stratify=body.stratify,
            seed=body.seed,
            keep=body.keep,
            note=body.note,
        )
        return json_reply(version, status=201)

    @router.post("/{name}/filter")
    @needs(Permission.DATASETS_WRITE)
    def filter_rows(name: str, body: Filter) -> Response:
        """Make a version of the matching rows."""
        ref = _ref(name, body.version)
        return json_reply(datasets.filter(ref, body.where, name=body.name, note=body.note), status=201)

    @router.post("/{name}/sample")
    @needs(Permission.DATASETS_WRITE)
    def sample(name: str, body: Sample) -> Response:
        """Make a version of some rows."""
        ref = _ref(name, body.version)
        version = datasets.sample(ref, body.n, seed=body.seed, name=body.name, note=body.note)
        return json_reply(version, status=201)

    @router.post("/{name}/convert")
    @needs(Permission.DATASETS_WRITE)
    def convert(name: str, body: Convert) -> Response:
        """Make a version in another format."""
        ref = _ref(name, body.version)
        return json_reply(datasets.convert(ref, body.format, name=body.name, note=body.note), status=201)


def _add_traffic(router: APIRouter, datasets: DatasetService) -> None:
    @router.post("/{name}/from-traces")
    @needs(Permission.DATASETS_WRITE, Permission.TRACES_CONTENT)
    def from_traces(name: str, body: FromTraces) -> Response:
        """Make a version of what a search finds."""
        return json_reply(datasets.from_traces(name, **body.model_dump()), status=201)

    @router.post("/{name}/from-feedback")
    @needs(Permission.DATASETS_WRITE, Permission.TRACES_CONTENT)
    def from_feedback(name: str, body: FromFeedback) -> Response:
        """Make a version of what people judged."""
        rest = body.model_dump(exclude={"format"})
        return json_reply(datasets.from_feedback(name, form=body.format, **rest), status=201)

    @router.post("/{name}/traces")
    @needs(Permission.DATASETS_WRITE, Permission.TRACES_CONTENT)
    def add_trace(name: str, body: AddTrace) -> Response:
        """Add one call as a row; the dataset is made if it is new."""
        return json_reply(datasets.add_trace(name, **body.model_dump()), status=201)


async def _take(request: Request, folder: Path) -> Path:
    """Write the body to a file as it comes and return the file."""
    path = folder / "upload"
    size = 0
    with path.open("wb") as file:
        async for piece in request.stream():
            size += len(piece)
            if size > MAX_UPLOAD_BYTES:
                raise TooLarge(f"The upload is over {MAX_UPLOAD_BYTES:,} bytes.", hint="Import it in parts.")
            await run_in_threadpool(file.write, piece)
    return path


def _ref(name: str, version: str | None) -> str:
    return f"dataset:{name}@{version}" if version else f"dataset:{name}"


def _plain(file: str) -> str:
    """Return a file's name without the folders before it, which are nobody's business."""
    return file.replace("\\", "/").rpartition("/")[2][:200] or "upload"


def _pair(text: str) -> tuple[str, str]:
    field, equals, column = text.partition("=")
    if not equals or not field or not column:
        raise InvalidInput(
            f"{text!r} maps nothing.", hint="Write FIELD=COLUMN, such as input=Question.", param="map"
        )
    return field, column


def _row(value: Mapping[str, Any]) -> DatasetRow:
    try:
        return msgspec.convert({"id": "", **value}, DatasetRow)
    except msgspec.ValidationError as error:
        raise InvalidInput(
            f"A row cannot be read: {error}.", hint="A row has id, fields, split, group, tags."
        ) from error
