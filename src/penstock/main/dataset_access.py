"""Datasets for the command line: files are sent to the running control process, everything else is asked of it.

Checking a file needs no running process: it is read here, by the same code.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from penstock.datasets.errors import InvalidRows
from penstock.datasets.formats import make_plan
from penstock.datasets.intake import Intake, mend_options
from penstock.datasets.normalise import to_row
from penstock.datasets.sources import find_files, read_file
from penstock.datasets.store import parse_ref
from penstock.datasets.types import DatasetVersion, RawRow, ReadOptions, RowProblem, SourceReport, Tell
from penstock.datasets.writing import RowWriter
from penstock.main.control_client import ControlClient
from penstock.spec.datasets import ROWS_FILE, DatasetFormat, DatasetRow
from penstock.spec.home import Home

_PIECE = 1 << 18
_LONG_S = 3600.0
_PLACES = ("hub:", "handbook:")


class DatasetAccess:
    """What the command line asks of the instance that runs on a home; raises `NotRunning` without one."""

    def __init__(self, home: Home) -> None:
        self._client = ControlClient(home)

    def get(self, ref: str, path: str = "", **query: Any) -> Any:
        """Return the JSON answer about a dataset; its version, where `ref` names one, goes along."""
        name, version = split_ref(ref)
        return self._client.get(f"/api/v1/datasets/{quote(name)}{path}", version=version, **query)

    def list_datasets(self) -> list[dict[str, Any]]:
        """Return all datasets."""
        found: list[dict[str, Any]] = self._client.get("/api/v1/datasets")["datasets"]
        return found

    def list_rows(self, ref: str, *, where: str | None, limit: int, offset: int) -> Iterator[dict[str, Any]]:
        """Yield rows, at most `limit`, page by page, all of one version."""
        name, _ = split_ref(ref)
        pinned = self.show(ref).ref.rpartition("@")[2]
        cursor: str | None = None
        while limit > 0:
            page = self._client.get(
                f"/api/v1/datasets/{quote(name)}/rows",
                version=pinned,
                where=where,
                limit=min(limit, 500),
                offset=offset,
                cursor=cursor,
            )
            yield from page["rows"]
            limit -= len(page["rows"])
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def show(self, ref: str) -> DatasetVersion:
        """Return one version."""
        return msgspec.convert(self.get(ref, "/version"), DatasetVersion)

    def diff(self, base: str, other: str, limit: int) -> dict[str, Any]:
        """Return how one version differs from another."""
        name, _ = split_ref(base)
        refs = [str(parse_ref(each)) for each in (base, other)]
        found: dict[str, Any] = self._client.get(
            f"/api/v1/datasets/{quote(name)}/diff", base=refs[0], other=refs[1], limit=limit
        )
        return found

    def create(
        self, name: str, source: str, options: ReadOptions, *, append: bool, note: str, tell: Tell
    ) -> DatasetVersion:
        """Return the version made of a file, which is sent, or of a place that control reads itself."""
        path = Path(source).expanduser()
        said = {**_reading(options), "append": append, "note": note}
        if source.startswith(_PLACES) or path.is_dir():
            place = source if source.startswith(_PLACES) else str(path.absolute())
            answer = self._client.post(
                f"/api/v1/datasets/{quote(name)}/import", {**said, "source": place}, timeout_s=_LONG_S
            )
        else:
            find_files(path, path.name, options.layout)  # what cannot be read at all need not be sent
            size = path.stat().st_size
            answer = self._client.send_file(
                f"/api/v1/datasets/{quote(name)}/upload", _pieces(path, tell), size, **said, file=path.name
            )
        return msgspec.convert(answer, DatasetVersion)

    def change(self, ref: str, what: str, body: dict[str, Any]) -> DatasetVersion:
        """Return the version that a change has made."""
        name, version = split_ref(ref)
        asked = {**body, "version": version} if version else body
        path = f"/api/v1/datasets/{quote(name)}/{what}"
        return msgspec.convert(self._client.post(path, asked, timeout_s=_LONG_S), DatasetVersion)

    def export(
        self, ref: str, form: str, where: str | None, *, is_for_spreadsheet: bool = False
    ) -> Iterator[bytes]:
        """Yield a file."""
        name, version = split_ref(ref)
        query = {"version": version, "format": form, "where": where}
        if is_for_spreadsheet:
            query["spreadsheet"] = "true"
        return self._client.stream(f"/api/v1/datasets/{quote(name)}/export", **query)

    def move(self, ref: str, alias: str, reason: str | None) -> dict[str, Any]:
        """Point an alias at a version."""
        version = self.show(ref)
        body = {"number": version.number, "reason": reason, "override_reason": reason}
        moved: dict[str, Any] = self._client.post(
            f"/api/v1/assets/dataset/{quote(version.name)}/aliases/{quote(alias)}/move", body
        )
        return moved


def check_source(source: str, options: ReadOptions, tell: Tell) -> SourceReport:
    """Return what a file or folder holds and what is wrong with it, read here."""
    path = Path(source).expanduser()
    with tempfile.TemporaryDirectory(prefix="penstock-check-") as folder:
        files = find_files(path, path.name, options.layout)
        intake = Intake(files, mend_options(options), path.name, tell=tell)
        with RowWriter(Path(folder) / ROWS_FILE) as writer:
            intake.run(writer)
            return intake.report(writer)


def read_edited_rows(path: Path, form: DatasetFormat) -> list[DatasetRow]:
    """Return the rows of a file, such as an export that was edited; raise `InvalidRows`."""
    options = ReadOptions(format=form)
    rows: list[DatasetRow] = []
    problems: list[RowProblem] = []
    found = [each for file in find_files(path, path.name, None) for each in read_file(file)]
    raw = [each for each in found if isinstance(each, RawRow)]
    plan = make_plan([each.value for each in raw], form, {}, path.name)
    for each in found:
        row = to_row(each, plan, options) if isinstance(each, RawRow) else each
        if isinstance(row, DatasetRow):
            rows.append(row)
        else:
            problems.append(row)
    if problems:
        raise InvalidRows(path.name, problems, len(problems))
    return rows


def split_ref(ref: str) -> tuple[str, str | None]:
    """Return the name of a dataset and what follows the `@`, if anything does."""
    wanted = parse_ref(ref)
    return wanted.name, str(wanted).partition("@")[2] or None


def _reading(options: ReadOptions) -> dict[str, Any]:
    said: dict[str, Any] = msgspec.to_builtins(options)
    said["map"] = [f"{field}={column}" for field, column in said.pop("mapping", {}).items()]
    return {name: value for name, value in said.items() if value is not None}


def _pieces(path: Path, tell: Callable[[float | None, str], None]) -> Iterator[bytes]:
    size, sent = max(1, path.stat().st_size), 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            sent += len(piece)
            tell(
                sent / size,
                "sent; reading" if sent >= size else f"sent {sent / 1e6:,.0f} of {size / 1e6:,.0f} MB",
            )
            yield piece
