"""The use-cases of datasets: make versions, read them, compare them, make new ones from old ones, and write them out.

Rows are streamed everywhere: no method holds a whole version in memory, whatever its size.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import msgspec

from penstock.base.errors import InvalidInput, NotFound
from penstock.datasets.changes import (
    Change,
    append_rows,
    convert_rows,
    edit_rows,
    filter_rows,
    merge_versions,
    sample_rows,
    split_rows,
    tag_rows,
    write_rows,
)
from penstock.datasets.difference import diff_rows
from penstock.datasets.errors import EmptyDataset, UnknownRow
from penstock.datasets.export import (
    FORMS,
    write_folder,
    write_lines,
    write_openai,
    write_parquet,
    write_table,
)
from penstock.datasets.filters import make_filter
from penstock.datasets.harvest import Harvest, add_call, store_harvest
from penstock.datasets.hub import HubAccess
from penstock.datasets.intake import Intake, mend_options
from penstock.datasets.pages import MAX_PAGE_BYTES, read_cursor
from penstock.datasets.places import open_place
from penstock.datasets.ports import Blobs, Traffic, VersionKeeper
from penstock.datasets.rows import encode_row
from penstock.datasets.sources import find_files
from penstock.datasets.store import DatasetStore, label_of, parse_ref
from penstock.datasets.traffic import FEEDBACK_FORMATS, GOOD, call_to_row, check_expected, judgement_to_row
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

MAX_LIMIT = 1000
MAX_SCANNED = 50_000
"""Rows that one page of a filtered list looks at before it is given with what was found."""
Where = str | Mapping[str, Any] | None


class DatasetService:
    """Datasets over a registry and a blob store. Every method may be called from any thread.

    A `ref` is `dataset:NAME`, `NAME` or either with `@ALIAS`, `@NUMBER`, `@latest`. Without a suffix reading takes what
    `prod` names, or the newest where there is no `prod`; new versions are made from the newest. `where` is a text such as
    `split:test tag:hard lang:de,fr -tag:draft "exact words"` or an object such as
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
        hub: HubAccess | None = None,
    ) -> None:
        """`hold_folder` gives room for files on their way; nothing below `private_root` is read for anybody."""
        self.store = DatasetStore(versions, blobs, hold_folder)
        self._traffic = traffic
        self._private_root = private_root
        self._hub = hub or HubAccess()

    # -- making versions

    def check(
        self,
        source: Path | str,
        options: ReadOptions | None = None,
        *,
        source_name: str = "",
        tell: Tell | None = None,
    ) -> SourceReport:
        """Return what a source holds and what is wrong with it; nothing is stored. As `create` otherwise."""
        with ExitStack() as stack:
            intake = self._open_source(stack, source, mend_options(options), source_name, tell)
            writer = stack.enter_context(self.store.draft())
            intake.run(writer)
            return intake.report(writer)

    def create(
        self,
        name: str,
        source: Path | str,
        options: ReadOptions | None = None,
        *,
        source_name: str = "",
        append: bool = False,
        note: str = "",
        tell: Tell | None = None,
    ) -> DatasetVersion:
        """Return the version that holds the rows of a source, after those of the newest version with `append`.

        A `Path` is a file or folder that the caller may read; a text is a place somebody named: an absolute path
        outside the home, `hub:ORG/NAME[@REVISION]`, `handbook:questions`, `:cases`, `:tuning` or `:held-out`. A problem in any row stores nothing, unless
        `skip_invalid`. Raises `InvalidRows`, `UnknownFormat`, `UnreadableSource`, `SourceRefused`, `ClashingIds`.
        """
        read = mend_options(options)
        parse_ref(name)
        with ExitStack() as stack:
            stack.enter_context(self.store.hold(name))
            intake = self._open_source(stack, source, read, source_name, tell)
            base = self.store.find_newest(name) if append else None
            before = None if base is None else self.store.facts(base)
            if before is not None and before.format != intake.plan.form:
                intake = self._open_source(
                    stack, source, msgspec.structs.replace(read, format=before.format), source_name, tell
                )
            writer = stack.enter_context(self.store.draft())
            if base is not None:
                for row in self.store.open(base).read():
                    writer.add(row)
            n_before = writer.n_rows
            intake.run(writer)
            intake.check()
            if writer.n_rows == n_before:
                raise EmptyDataset(
                    f"Not one row of {source_name or source} is well.", hint="Mend the source."
                )
            facts = writer.facts(
                intake.plan.form,
                sources=[*(before.sources if before else ()), *intake.entries(writer.n_rows - n_before)],
                steps=[*before.steps, {"step": "append", "n_before": n_before, "n_after": writer.n_rows}]
                if before
                else (),
                left_out=intake.left_out,
                licence=read.license or (before.license if before else None),
                description=read.description or (before.description if before else ""),
            )
            made = self.store.keep(name, writer, facts, parents=[base.digest] if base else [], note=note)
            return msgspec.structs.replace(made, problems=intake.problems)

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
        newest: str | None = None,
    ) -> DatasetVersion:
        """Return the version that holds these rows, checked as rows of a file are. The way by which cleaning makes versions.

        `parents` are references or digests. `newest` is the digest of what was the newest version when the work began: where
        another is the newest by now, `NewerVersion` is raised, since its rows would be lost. Raises `InvalidRows`,
        `EmptyDataset`.
        """
        with self.store.hold(name), self.store.draft() as writer:
            self.store.check_newest(name, newest)
            write_rows(writer, rows, form, f"dataset:{name}")
            facts = writer.facts(
                form,
                sources=sources,
                steps=steps,
                left_out=left_out,
                licence=licence,
                description=description,
            )
            return self.store.keep(name, writer, facts, parents=parents, note=note)

    # -- reading

    def list_datasets(self) -> list[DatasetSummary]:
        """Return all datasets by name."""
        return self.store.list_summaries()

    def list_versions(self, name: str) -> list[DatasetVersion]:
        """Return the versions of a dataset, newest first."""
        return self.store.list_versions(name)

    def get(self, ref: str) -> DatasetVersion:
        """Return one version."""
        return self.store.describe(self.store.find(ref))

    def get_base(self, ref: str) -> tuple[DatasetVersion, str]:
        """Return what a new version of `ref` is made from (without a suffix the newest), and the digest of the newest."""
        base = self.store.describe(self.store.find_base(ref))
        newest = self.store.find_newest(base.name)
        return base, base.digest if newest is None else newest.digest

    def facts(self, ref: str) -> DatasetFacts:
        """Return what is in a version and how it came about."""
        return self.store.facts(self.store.find(ref))

    def read(self, ref: str, where: Where = None) -> Iterator[DatasetRow]:
        """Yield the rows of a version in order."""
        rows = self.store.open(self.store.find(ref)).read()
        test = make_filter(where)
        return rows if test is None else filter(test, rows)

    def rows(
        self, ref: str, *, where: Where = None, cursor: str | None = None, offset: int = 0, limit: int = 50
    ) -> RowPage:
        """Return one page of rows; `offset` counts rows of the version and is for the first page only.

        A page may hold fewer rows than `limit` and still not be the last: after `MAX_SCANNED` rows that a filter
        passes over, or after `MAX_PAGE_BYTES` of rows, it is given with what was found. The last page has no cursor.
        """
        version = self.store.find(ref)
        stored = self.store.open(version)
        test = make_filter(where)
        limit = max(1, min(limit, MAX_LIMIT))
        start = read_cursor(cursor) if cursor is not None else max(0, offset)
        found: list[DatasetRow] = []
        number, held = start, 0
        for number, row in enumerate(stored.read(start), start + 1):
            if test is None or test(row):
                found.append(row)
                held += len(encode_row(row))
            if len(found) == limit or held >= MAX_PAGE_BYTES or number - start >= MAX_SCANNED:
                break
        is_last = number >= stored.n_rows
        return RowPage(
            ref=label_of(version),
            rows=found,
            n_rows=stored.n_rows,
            next_cursor=None if is_last else str(number),
        )

    def row(self, ref: str, row_id: str) -> DatasetRow:
        """Return one row; raise `UnknownRow`."""
        version = self.store.find(ref)
        for row in self.store.open(version).read():
            if row.id == row_id:
                return row
        raise UnknownRow(f"{label_of(version)} has no row {row_id!r}.", row=row_id)

    def diff(self, base: str, other: str, *, cursor: str | None = None, limit: int = 50) -> DatasetDiff:
        """Return how `other` differs from `base`, by id."""
        first, second = self.store.find(base), self.store.find(other)
        labels = (label_of(first), label_of(second))
        return diff_rows(self.store.open(first), self.store.open(second), labels, cursor=cursor, limit=limit)

    # -- new versions from old ones

    def append(
        self, ref: str, rows: Iterable[DatasetRow], *, note: str = "", source: Mapping[str, Any] | None = None
    ) -> DatasetVersion:
        """Return a version with these rows after those of `ref`; an id that is there already raises `ClashingIds`."""
        with self.store.hold(ref):
            return append_rows(self._change(ref, note), rows, source)

    def edit(self, ref: str, edit: RowEdit, *, note: str = "") -> DatasetVersion:
        """Return a version with rows set and deleted by id; deleting what is not there raises `UnknownRow`."""
        with self.store.hold(ref):
            return edit_rows(self._change(ref, note), edit)

    def tag(
        self,
        ref: str,
        *,
        add: Sequence[str] = (),
        remove: Sequence[str] = (),
        where: Where = None,
        note: str = "",
    ) -> DatasetVersion:
        """Return a version whose matching rows have these tags more or less."""
        with self.store.hold(ref):
            return tag_rows(self._change(ref, note), add, remove, where)

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
        """Return a version whose rows are assigned to splits, whole groups together.

        `by` names what keeps rows together: their group (the default; rows without one go alone), or a field or key of
        the metadata. A row's split follows from that and the seed alone, so it stays when rows are added; not so with
        `stratify`, which meets the shares within each value of a field. `keep` leaves rows that have a split where
        they are, and puts the rest of their group there, too; `TornGroup` where rows of one group are in several.
        """
        with self.store.hold(ref):
            return split_rows(self._change(ref, note), shares, by=by, stratify=stratify, seed=seed, keep=keep)

    def filter(
        self, ref: str, where: str | Mapping[str, Any], *, name: str | None = None, note: str = ""
    ) -> DatasetVersion:
        """Return a version with the matching rows alone, of the same dataset or as dataset `name`."""
        with self.store.hold(name or ref):
            return filter_rows(self._change(ref, note), where, name)

    def sample(
        self, ref: str, n: int, *, seed: int = 0, name: str | None = None, note: str = ""
    ) -> DatasetVersion:
        """Return a version with at most `n` rows, whole groups, drawn by `seed`."""
        with self.store.hold(name or ref):
            return sample_rows(self._change(ref, note), n, seed, name)

    def merge(
        self, name: str, refs: Sequence[str], *, prefix: bool = False, note: str = ""
    ) -> DatasetVersion:
        """Return a version of dataset `name` with the rows of all `refs`, which must be of one format."""
        parse_ref(name)
        with self.store.hold(name):
            bases = [self.store.find(ref) for ref in refs]
            return merge_versions(self.store, name, bases, prefix=prefix, note=note)

    def convert(
        self, ref: str, form: DatasetFormat, *, name: str | None = None, note: str = ""
    ) -> DatasetVersion:
        """Return a version with the rows told in another format; raise `WrongFormat` where that has no meaning."""
        with self.store.hold(name or ref):
            return convert_rows(self._change(ref, note), form, name)

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
        """Return a version of format `cases` with one row for each call (or trace) that a search finds.

        `expected` is `none`, `reply` (what was answered) or `feedback` (what a person said it should have been). With
        `dedupe` of those that ask the same the newest stays. With `append` the rows come after the newest version's.
        """
        check_expected(expected)
        harvest = Harvest(self._needed_traffic(), dedupe=dedupe)
        calls = harvest.calls(
            search, subject=subject, since_ns=since_ns, until_ns=until_ns, project=project, limit=limit
        )
        corrections = harvest.corrections(project) if expected == "feedback" else {}
        rows = harvest.keep(call_to_row(call, expected, corrections.get(call.span_id)) for call in calls)
        step = {"step": "from traces", "search": search, "subject": subject, "expected": expected}
        return store_harvest(
            self.store, name, harvest, rows, form="cases", step=step, append=append, note=note
        )

    def from_feedback(
        self,
        name: str,
        *,
        form: DatasetFormat = "cases",
        score: str | None = None,
        good: float = GOOD,
        since_ns: int | None = None,
        project: str | None = None,
        limit: int = 1000,
        append: bool = False,
        note: str = "",
    ) -> DatasetVersion:
        """Return a version made of what people judged, by the score of one name or all; see `traffic.judgement_to_row`.

        A value of `good` or over counts as approval.
        """
        if form not in FEEDBACK_FORMATS:
            raise InvalidInput(
                f"Feedback makes no rows of {form}.", hint=f"Use {', '.join(FEEDBACK_FORMATS)}."
            )
        harvest = Harvest(self._needed_traffic(), dedupe=False)
        judged = harvest.judgements(name=score, since_ns=since_ns, project=project, limit=limit)
        rows = harvest.keep(judgement_to_row(each, form, good) for each in judged)
        step = {"step": "from feedback", "score": score or "", "good": good}
        return store_harvest(self.store, name, harvest, rows, form=form, step=step, append=append, note=note)

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
        """Return a version of `name` (made if new) with one row more, of this call; of a row that is there,
        only what is said is changed: the expected answer, further tags, the split.

        The dataset must be of format `cases`. Raises `NotFound`,
        `InvalidInput` for a call whose payload is gone.
        """
        call = self._needed_traffic().get_call(trace_id, span_id)
        return add_call(self.store, name, call, expected=expected, tags=tags, split=split)

    # -- out again

    def export(
        self, ref: str, form: str, *, where: Where = None, is_for_spreadsheet: bool = False
    ) -> Iterator[bytes]:
        """Yield a file: `jsonl`, `csv`, `tsv`, `parquet`, `openai`, or `huggingface` (a zip of a loadable folder).

        Raises `InvalidInput`, `EmptyDataset` where no row is asked for, and `WrongFormat` where the rows cannot be told
        so, before the first piece where it can. A table for a spreadsheet has an apostrophe before what would be a
        formula, and so does not come back as the same rows.
        """
        if form not in FORMS:
            raise InvalidInput(f"There is no export as {form!r}.", hint=f"Use {', '.join(FORMS)}.")
        version = self.store.find(ref)
        facts, stored, test = self.store.facts(version), self.store.open(version), make_filter(where)

        def read() -> Iterator[DatasetRow]:
            return stored.read() if test is None else filter(test, stored.read())

        if next(iter(read()), None) is None:
            raise EmptyDataset(f"No row of {label_of(version)} is asked for.", hint="Widen the filter.")
        if form == "jsonl":
            return write_lines(read)
        if form == "openai":
            for _ in write_openai(read, facts.format):
                pass  # so that a row that cannot be told so is told of before the file begins
            return write_openai(read, facts.format)
        if form in {"csv", "tsv"}:
            return write_table(read, "," if form == "csv" else "\t", is_for_spreadsheet=is_for_spreadsheet)
        label = label_of(version)
        return self._packed(form, read, facts, label, version.stamp, is_whole=test is None)

    def _packed(
        self,
        form: str,
        read: Callable[[], Iterator[DatasetRow]],
        facts: DatasetFacts,
        label: str,
        stamp: str,
        *,
        is_whole: bool,
    ) -> Iterator[bytes]:
        with self.store.folder() as folder:
            if form == "parquet":
                yield from write_parquet(read, folder)
            else:
                yield from write_folder(read, folder, facts, label, stamp, is_whole=is_whole)

    def _open_source(
        self, stack: ExitStack, source: Path | str, options: ReadOptions, name: str, tell: Tell | None
    ) -> Intake:
        kind = "file"
        if isinstance(source, str):
            source, called, kind = stack.enter_context(
                open_place(source, self.store, private_root=self._private_root, hub=self._hub, tell=tell)
            )
            name = name or called
        name = name or source.name
        return Intake(find_files(source, name, options.layout), options, name, kind=kind, tell=tell)

    def _change(self, ref: str, note: str) -> Change:
        return Change(self.store, self.store.find_base(ref), note)

    def _needed_traffic(self) -> Traffic:
        if self._traffic is None:
            raise NotFound("There is no record of traffic here.", hint="Start Penstock with `penstock up`.")
        return self._traffic
