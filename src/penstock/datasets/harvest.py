"""Gathers rows from the record of traffic: passes over what asks the same again, and counts what makes no row."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.datasets.changes import Change, append_rows, edit_rows, write_rows
from penstock.datasets.errors import EmptyDataset
from penstock.datasets.id_table import IdTable
from penstock.datasets.ports import Traffic
from penstock.datasets.store import DatasetStore, parse_ref
from penstock.datasets.traffic import call_to_row, likeness
from penstock.datasets.types import DatasetVersion, Judgement, RowEdit, TrafficRow
from penstock.spec.datasets import DatasetFormat, DatasetRow

MAX_CALLS = 100_000


class Harvest:
    """One gathering. `left_out` is known when the rows were taken."""

    def __init__(self, traffic: Traffic, *, dedupe: bool) -> None:
        self._traffic = traffic
        self._dedupe = dedupe
        self._asked, self._ids = IdTable(), IdTable()
        self._left_out: Counter[str] = Counter()

    @property
    def left_out(self) -> dict[str, int]:
        """Reason to number of calls that made no row."""
        return dict(self._left_out.most_common())

    def calls(
        self,
        search: str,
        *,
        subject: str,
        since_ns: int | None,
        until_ns: int | None,
        project: str | None,
        limit: int,
    ) -> Iterator[TrafficRow]:
        """Yield what a search finds."""
        return self._traffic.find_calls(
            search,
            subject=subject,
            since_ns=since_ns,
            until_ns=until_ns,
            project=project,
            limit=max(1, min(limit, MAX_CALLS)),
        )

    def judgements(
        self, *, name: str | None, since_ns: int | None, project: str | None, limit: int
    ) -> Iterator[Judgement]:
        """Yield what people judged, one judgement a call: the newest with a value, and whatever correction there is."""
        corrections = self.corrections(project)
        by_call: dict[str, Judgement] = {}
        found = self._traffic.list_judgements(
            name=name, since_ns=since_ns, project=project, limit=max(1, min(limit, MAX_CALLS))
        )
        for number, judged in enumerate(found):
            key = f"?{number}" if judged.call is None else judged.call.span_id
            known = by_call.get(key)
            if known is None or (known.value is None and judged.value is not None):
                by_call[key] = judged
        for key, judged in by_call.items():
            yield msgspec.structs.replace(judged, correction=judged.correction or corrections.get(key))

    def corrections(self, project: str | None) -> dict[str, str]:
        """Return span to what a person said its answer should have been, the newest of each."""
        found: dict[str, str] = {}
        for judged in self._traffic.list_judgements(
            name=None, since_ns=None, project=project, limit=MAX_CALLS
        ):
            if judged.call is not None and judged.correction is not None:
                found.setdefault(judged.call.span_id, judged.correction)
        return found

    def pass_over(self, row: DatasetRow) -> None:
        """Note a row that is there already: its like makes no new one."""
        self._ids.add(row.id, 0)
        self._asked.add(likeness(row), 0)

    def keep(self, found: Iterable[DatasetRow | str]) -> Iterator[DatasetRow]:
        """Yield the rows among what was found; what is none is counted under its reason."""
        for row in found:
            if isinstance(row, str):
                self._left_out[row] += 1
            elif self._ids.add(row.id, 0) is not None:
                self._left_out["there already"] += 1
            elif self._dedupe and self._asked.add(likeness(row), 0) is not None:
                self._left_out["asks the same again"] += 1
            else:
                yield row


def store_harvest(
    store: DatasetStore,
    name: str,
    harvest: Harvest,
    rows: Iterable[DatasetRow],
    *,
    form: DatasetFormat,
    step: Mapping[str, Any],
    append: bool,
    note: str,
) -> DatasetVersion:
    """Return the version that holds what was gathered, after the rows of the newest one with `append`."""
    parse_ref(name)
    kind = str(step["step"]).removeprefix("from ").removesuffix("s")
    with store.hold(name), store.draft() as writer:
        base = store.find_newest(name) if append else None
        before = None if base is None else store.facts(base)
        if base is not None:
            for row in store.open(base).read():
                harvest.pass_over(row)
                writer.add(row)
        n_before = writer.n_rows
        write_rows(writer, rows, before.format if before else form, f"dataset:{name}")
        if not writer.n_rows:
            reasons = ", ".join(f"{n} × {reason}" for reason, n in harvest.left_out.items())
            raise EmptyDataset(
                f"Not one row came of it: {reasons or 'nothing was found'}.", hint="Widen the search."
            )
        entry = {
            "kind": kind,
            "source": str(step.get("search") or step.get("score") or "all"),
            "n_rows": writer.n_rows - n_before,
            "n_left_out": sum(harvest.left_out.values()),
        }
        facts = writer.facts(
            before.format if before else form,
            sources=[*(before.sources if before else ()), entry],
            steps=[
                *(before.steps if before else ()),
                {**step, "n_before": n_before, "n_after": writer.n_rows},
            ],
            left_out=harvest.left_out,
            licence=before.license if before else None,
            description=before.description if before else "",
        )
        return store.keep(name, writer, facts, parents=[base.digest] if base else [], note=note)


def add_call(
    store: DatasetStore, name: str, call: TrafficRow, *, expected: Any, tags: Sequence[str], split: str | None
) -> DatasetVersion:
    """Return a version of `name` (made if new) with one row more, of this call.

    A row that is there keeps what a person made of it: only what is said (an expected answer, further tags, a split) is changed.
    """
    made = call_to_row(call, "none")
    if isinstance(made, str):
        raise InvalidInput(f"This call makes no row: {made}.", hint="Choose another one.")
    fields = made.fields if expected is None else {**made.fields, "expected": expected}
    row = msgspec.structs.replace(made, fields=fields, tags=list(dict.fromkeys(tags)), split=split)
    source = {"kind": "trace", "source": f"{call.trace_id}/{call.span_id}", "n_rows": 1, "n_left_out": 0}
    with store.hold(name):
        newest = store.find_newest(name)
        if newest is None:
            with store.draft() as writer:
                write_rows(writer, [row], "cases", f"dataset:{name}")
                return store.keep(name, writer, writer.facts("cases", sources=[source]), parents=[], note="")
        change = Change(store, newest)
        known = next((each for each in change.read() if each.id == row.id), None)
        if known is None:
            return append_rows(change, [row], source)
        told = (
            known
            if expected is None
            else msgspec.structs.replace(known, fields={**known.fields, "expected": expected})
        )
        told = msgspec.structs.replace(
            told,
            tags=list(dict.fromkeys((*known.tags, *tags))),
            split=known.split if split is None else split,
        )
        if told == known:
            return store.describe(newest)
        return edit_rows(change, RowEdit(set=[told]))
