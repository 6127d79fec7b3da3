"""The use-cases of datasets: make versions, read them, compare them, make new ones from old ones.

Rows are streamed everywhere: no method holds a whole version in memory, whatever its size.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from penstock.datasets.ports import Blobs, Traffic, VersionKeeper
from penstock.datasets.types import (
    DatasetDiff,
    DatasetSummary,
    DatasetVersion,
    ReadOptions,
    RowEdit,
    RowPage,
    SourceReport,
    Tell,
)
from penstock.spec.datasets import DatasetFacts, DatasetFormat, DatasetRow


class DatasetService:
    """Datasets over a registry and a blob store. Every method may be called from any thread.

    A `ref` is `dataset:NAME`, `NAME` or either with `@ALIAS`, `@NUMBER`, `@latest`; without a suffix it is the newest
    version. `where` is a text such as `split:test tag:hard lang:de,fr -tag:draft "exact words"` or an object such as
    `{"split": "test", "tags": ["hard"], "ids": [...], "lang": "de"}`.
    """

    def __init__(
        self,
        versions: VersionKeeper,
        blobs: Blobs,
        *,
        hold_folder: Callable[[], AbstractContextManager[Path]],
        traffic: Traffic | None = None,
        private_root: Path | None = None,
    ) -> None:
        """`hold_folder` gives room for files on their way; nothing below `private_root` is read for anybody."""
        raise NotImplementedError

    # -- making versions

    def check(
        self,
        source: Path | str,
        options: ReadOptions | None = None,
        *,
        name: str = "",
        tell: Tell | None = None,
    ) -> SourceReport:
        """Return what a source holds and what is wrong with it; nothing is stored."""
        raise NotImplementedError

    def create(
        self,
        name: str,
        source: Path | str,
        options: ReadOptions | None = None,
        *,
        source_name: str = "",
        note: str = "",
        tell: Tell | None = None,
    ) -> DatasetVersion:
        """Return the version that holds the rows of a file, folder or `hub:ORG/NAME[@REVISION]`."""
        raise NotImplementedError

    def create_from_rows(
        self,
        name: str,
        rows: Iterable[DatasetRow],
        form: DatasetFormat,
        *,
        parents: Sequence[str] = (),
        sources: Sequence[Mapping[str, Any]] = (),
        steps: Sequence[Mapping[str, Any]] = (),
        left_out: Mapping[str, int] | None = None,
        description: str = "",
        licence: str | None = None,
        note: str = "",
    ) -> DatasetVersion:
        """Return the version that holds these rows, checked as rows of a file are. The way by which cleaning makes versions."""
        raise NotImplementedError

    # -- reading

    def list_datasets(self) -> list[DatasetSummary]:
        """Return all datasets by name."""
        raise NotImplementedError

    def list_versions(self, name: str) -> list[DatasetVersion]:
        """Return the versions of a dataset, newest first."""
        raise NotImplementedError

    def get(self, ref: str) -> DatasetVersion:
        """Return one version."""
        raise NotImplementedError

    def facts(self, ref: str) -> DatasetFacts:
        """Return what is in a version and how it came about."""
        raise NotImplementedError

    def read(self, ref: str, where: str | Mapping[str, Any] | None = None) -> Iterator[DatasetRow]:
        """Yield the rows of a version in order."""
        raise NotImplementedError

    def rows(
        self,
        ref: str,
        *,
        where: str | Mapping[str, Any] | None = None,
        cursor: str | None = None,
        offset: int = 0,
        limit: int = 50,
    ) -> RowPage:
        """Return one page of rows; `offset` counts rows of the version and is for the first page only."""
        raise NotImplementedError

    def row(self, ref: str, row_id: str) -> DatasetRow:
        """Return one row; raise `UnknownRow`."""
        raise NotImplementedError

    def diff(self, base: str, other: str, *, cursor: str | None = None, limit: int = 50) -> DatasetDiff:
        """Return how `other` differs from `base`, by id."""
        raise NotImplementedError

    # -- new versions from old ones

    def append(
        self, ref: str, rows: Iterable[DatasetRow], *, note: str = "", source: Mapping[str, Any] | None = None
    ) -> DatasetVersion:
        """Return a version with these rows after those of `ref`; an id that is there already raises `ClashingIds`."""
        raise NotImplementedError

    def edit(self, ref: str, edit: RowEdit, *, note: str = "") -> DatasetVersion:
        """Return a version with rows set and deleted by id; deleting what is not there raises `UnknownRow`."""
        raise NotImplementedError

    def tag(
        self,
        ref: str,
        *,
        add: Sequence[str] = (),
        remove: Sequence[str] = (),
        where: str | Mapping[str, Any] | None = None,
        note: str = "",
    ) -> DatasetVersion:
        """Return a version whose matching rows have these tags more or less."""
        raise NotImplementedError

    def split(
        self,
        ref: str,
        shares: Mapping[str, float],
        *,
        by: str | None = None,
        stratify: str | None = None,
        seed: int = 0,
        keep: bool = False,
        note: str = "",
    ) -> DatasetVersion:
        """Return a version whose rows are assigned to splits, whole groups together."""
        raise NotImplementedError

    def filter(
        self, ref: str, where: str | Mapping[str, Any], *, name: str | None = None, note: str = ""
    ) -> DatasetVersion:
        """Return a version with the matching rows alone, of the same dataset or as dataset `name`."""
        raise NotImplementedError

    def sample(
        self, ref: str, n: int, *, seed: int = 0, name: str | None = None, note: str = ""
    ) -> DatasetVersion:
        """Return a version with about `n` rows, whole groups, drawn by `seed`."""
        raise NotImplementedError

    def merge(
        self, name: str, refs: Sequence[str], *, prefix: bool = False, note: str = ""
    ) -> DatasetVersion:
        """Return a version of dataset `name` with the rows of all `refs`."""
        raise NotImplementedError

    def convert(
        self, ref: str, form: DatasetFormat, *, name: str | None = None, note: str = ""
    ) -> DatasetVersion:
        """Return a version with the rows told in another format; raise `WrongFormat` where that has no meaning."""
        raise NotImplementedError

    # -- from traffic

    def from_traces(
        self,
        name: str,
        search: str = "",
        *,
        subject: str = "call",
        expected: str = "none",
        since_ns: int | None = None,
        until_ns: int | None = None,
        project: str | None = None,
        limit: int = 1000,
        dedupe: bool = True,
        append: bool = False,
        note: str = "",
    ) -> DatasetVersion:
        """Return a version with one row for each call or trace that a search finds."""
        raise NotImplementedError

    def from_feedback(
        self,
        name: str,
        *,
        form: DatasetFormat = "cases",
        score: str | None = None,
        since_ns: int | None = None,
        project: str | None = None,
        limit: int = 1000,
        append: bool = False,
        note: str = "",
    ) -> DatasetVersion:
        """Return a version made of what people judged."""
        raise NotImplementedError

    def add_trace(
        self,
        name: str,
        trace_id: str,
        span_id: str | None = None,
        *,
        expected: Any = None,
        tags: Sequence[str] = (),
        split: str | None = None,
    ) -> DatasetVersion:
        """Return a version of `name` (made if new) with one row more, of this call; the same again changes nothing."""
        raise NotImplementedError

    # -- out again

    def export(self, ref: str, form: str, *, where: str | Mapping[str, Any] | None = None) -> Iterator[bytes]:
        """Yield a file: `jsonl`, `csv`, `tsv`, `parquet`, `openai`, or `huggingface` (a zip of a loadable folder)."""
        raise NotImplementedError
