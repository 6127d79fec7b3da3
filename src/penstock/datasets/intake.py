"""From a source to written rows: every row is read, understood, checked and counted, and every problem is told or counted.

Two looks at a source: the first rows tell how all are to be understood, then all are read. Nothing is kept in memory but the
first fifty problems.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from penstock.base.digest import digest_file
from penstock.datasets.errors import MEND_OR_SKIP, MEND_THE_END, InvalidRows, UnreadableSource
from penstock.datasets.formats import N_LOOKED_AT, Plan, make_plan
from penstock.datasets.normalise import to_row
from penstock.datasets.sources import SourceFile, read_file
from penstock.datasets.types import (
    MAX_PROBLEMS,
    RawRow,
    Read,
    ReadOptions,
    RowProblem,
    SourceReport,
    Tell,
)
from penstock.datasets.writing import RowWriter, source_entry
from penstock.spec.datasets import DatasetRow

_TELL_EVERY = 5000
_N_SAMPLES = 3
_MAX_LOOKED_AT_BYTES = 16 * 1024 * 1024


class Intake:
    """Reads one source into a writer. After `run`, everything that can be said of it is in `report()`."""

    def __init__(
        self,
        files: Sequence[SourceFile],
        options: ReadOptions,
        name: str,
        *,
        kind: str = "file",
        tell: Tell | None = None,
    ) -> None:
        self._files, self._options, self._name, self._kind = files, options, name, kind
        self._tell = tell
        self._problems: list[RowProblem] = []
        self._ends: list[RowProblem] = []
        self._left_out: Counter[str] = Counter()
        self._samples: list[DatasetRow] = []
        self._plan: Plan | None = None
        self._n_read = 0

    @property
    def plan(self) -> Plan:
        """How the rows are understood; made by the first rows. Raises `UnreadableSource` where there are none."""
        if self._plan is None:
            first = self._look()
            rows = [each.value for each in first if isinstance(each, RawRow)]
            if not rows:
                problems = [each for each in first if isinstance(each, RowProblem)]
                if problems:
                    raise InvalidRows(self._name, problems, len(problems), hint=MEND_OR_SKIP)
                raise UnreadableSource(f"{self._name} holds no rows.", hint="Name a source that holds some.")
            self._plan = make_plan(rows, self._options.format, self._options.mapping, self._name)
        return self._plan

    @property
    def problems(self) -> list[RowProblem]:
        """The first of them."""
        return self._problems

    @property
    def n_problems(self) -> int:
        """How many there are."""
        return self._left_out.total()

    @property
    def left_out(self) -> dict[str, int]:
        """Reason to number of rows, the commonest first."""
        return dict(self._left_out.most_common())

    def run(self, writer: RowWriter) -> None:
        """Write every row that is well and note what is wrong with the others."""
        plan = self.plan
        limit = self._options.limit
        for number, raw in enumerate(self._read_all(), 1):
            if limit is not None and writer.n_rows >= limit:
                break
            row = to_row(raw, plan, self._options) if isinstance(raw, RawRow) else raw
            if isinstance(row, DatasetRow):
                row = writer.add(row, raw.place)
            if isinstance(row, RowProblem):
                self._note(row)
            elif len(self._samples) < _N_SAMPLES:
                self._samples.append(row)
            if self._tell is not None and number % _TELL_EVERY == 0:
                self._tell(None, f"{number:,} rows")

    def entries(self, n_rows: int) -> list[dict[str, Any]]:
        """Return what facts say of where the rows came from."""
        digest = digest_file(self._files[0].path) if len(self._files) == 1 else None
        return [source_entry(self._kind, self._name, n_rows, self.n_problems, digest)]

    def report(self, writer: RowWriter) -> SourceReport:
        """Return what the source turned out to hold."""
        facts = writer.facts(self.plan.form)
        return SourceReport(
            source=self._name,
            layout=self._files[0].layout
            if len(self._files) == 1
            else f"{len(self._files)} × {self._files[0].layout}",
            format=self.plan.form,
            n_rows=writer.n_rows,
            n_problems=self.n_problems,
            problems=self._problems,
            left_out=self.left_out,
            fields=facts.fields,
            splits=facts.splits,
            n_groups=facts.n_groups,
            samples=self._samples,
            mapping=self.plan.renamed,
        )

    def check(self) -> None:
        """Raise `InvalidRows` when there was a problem and rows are not to be skipped, or part of a file was not read."""
        if self._ends:
            others = [each for each in self._problems if not each.is_end]
            raise InvalidRows(self._name, [*self._ends, *others], self.n_problems, hint=MEND_THE_END)
        if self.n_problems and not self._options.skip_invalid:
            raise InvalidRows(self._name, self._problems, self.n_problems, hint=MEND_OR_SKIP)

    def _look(self) -> list[Read]:
        """Return the first rows, as many as are needed to tell what all are."""
        first, held = [], 0
        for each in itertools.islice(self._read_all(), N_LOOKED_AT):
            first.append(each)
            held += len(msgspec.json.encode(each.value)) if isinstance(each, RawRow) else 0
            if held > _MAX_LOOKED_AT_BYTES:
                break
        return first

    def _note(self, problem: RowProblem) -> None:
        self._left_out[problem.reason] += 1
        if problem.is_end and len(self._ends) < MAX_PROBLEMS:
            self._ends.append(problem)
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append(problem)

    def _read_all(self) -> Iterator[Read]:
        for file in self._files:
            for each in read_file(file):
                if isinstance(each, RowProblem):
                    yield each
                    continue
                value = each.value
                if file.split is not None and value.get("split") is None:
                    value = {**value, "split": file.split}
                yield RawRow(each.place, value, self._kind)


def mend_options(options: ReadOptions | None) -> ReadOptions:
    """Return options whose mapping is a plain dictionary."""
    given = options or ReadOptions()
    return msgspec.structs.replace(given, mapping=dict(given.mapping))


def name_of(source: Path) -> str:
    """Return what a source is called in places."""
    return source.name or str(source)
