"""What goes by age: counted before, deleted in steps, by project, with nothing of what stays touched."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.errors import SpanStoreBusy
from penstock.store.spans.subject_rows import DuckDBSubjectRows
from penstock.store.spans.upkeep import DuckDBUpkeep
from penstock.traces.upkeep.retention import DAY_NS, Ages, Retention, RetentionPolicy
from tests.fixtures.spans import make_span

NOW = 1_790_000_000_000_000_000 + 400 * DAY_NS
AGES = (1, 10, 40, 100)
"""Days that the traces of each project are old."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDBSpanStore]:
    opened = DuckDBSpanStore(tmp_path / "spans.duckdb")
    opened.append(
        [
            make_span(
                span, trace=number * 10 + at + 1, start_ns=NOW - days * DAY_NS, end_ns=NOW - days * DAY_NS + 5,
                project=project, input="asked" if span == 1 else None,
            )
            for number, project in enumerate(("default", "support"))
            for at, days in enumerate(AGES)
            for span in (1, 2)
        ]
    )  # fmt: skip
    yield opened
    opened.close()


def make_retention(store: DuckDBSpanStore, policy: RetentionPolicy, **options: Any) -> Retention:
    upkeep, reader = DuckDBUpkeep(store.file), DuckDBSubjectRows(store.file)
    path = store.file.path.parent / "retention.json"
    return Retention(upkeep, reader, lambda: policy, path, now_ns=lambda: NOW, pause_s=0.0, **options)


def left(store: DuckDBSpanStore) -> dict[int, tuple[int, bool]]:
    """Return of each trace the number of spans and whether its payload is there."""
    found = {}
    for trace in (1, 2, 3, 4, 11, 12, 13, 14):
        spans = store.get_trace(f"{trace:032x}")
        if spans:
            payload = store.get_payload(f"{trace:032x}", f"{1:016x}")
            found[trace] = (len(spans), payload.input is not None)
    return found


MIXED = RetentionPolicy(
    usual=Ages(payload_days=30, span_days=60), projects={"support": Ages(payload_days=5, span_days=0)}
)


@pytest.mark.parametrize("max_spans", [1, 3, 20_000])
def test_payloads_go_before_their_traces_and_projects_have_ages_of_their_own(
    store: DuckDBSpanStore, max_spans: int
) -> None:
    retention = make_retention(store, MIXED, max_spans=max_spans)
    counted = retention.count()
    done = retention.run()
    assert left(store) == {
        1: (2, True), 2: (2, True), 3: (2, False),
        11: (2, True), 12: (2, False), 13: (2, False), 14: (2, False),
    }  # fmt: skip
    assert (done.n_traces, done.n_spans, done.is_done, done.error) == (1, 2, True, None)
    assert (counted.n_traces, counted.n_spans, counted.n_payloads) == (1, 2, 4)
    assert done.n_payloads == 4
    assert retention.count().n_payloads == 0


def test_without_ages_everything_is_kept_and_no_run_is_due(store: DuckDBSpanStore) -> None:
    retention = make_retention(store, RetentionPolicy())
    assert not retention.is_due()
    assert retention.run().n_spans == 0
    assert len(left(store)) == 8


def test_a_run_is_due_at_first_and_then_after_its_hours(store: DuckDBSpanStore) -> None:
    now = [NOW]
    policy = RetentionPolicy(usual=Ages(span_days=500), every_hours=24)
    retention = Retention(
        DuckDBUpkeep(store.file),
        DuckDBSubjectRows(store.file),
        lambda: policy,
        store.file.path.parent / "retention.json",
        now_ns=lambda: now[0],
    )
    assert retention.is_due()
    retention.run()
    assert not retention.is_due()
    now[0] += DAY_NS
    assert retention.is_due()


def test_what_runs_did_is_added_up_over_restarts(store: DuckDBSpanStore) -> None:
    make_retention(store, RetentionPolicy(usual=Ages(span_days=60))).run()
    again = make_retention(store, RetentionPolicy(usual=Ages(span_days=30)))
    again.run()
    state = again.state
    assert (state.n_runs, state.n_traces, state.last is not None and state.last.n_traces) == (2, 4, 2)


def test_a_run_that_is_stopped_says_so_and_the_next_one_goes_on(store: DuckDBSpanStore) -> None:
    stop = threading.Event()
    stop.set()
    retention = make_retention(store, MIXED)
    assert not retention.run(stop).is_done
    assert retention.run().is_done
    assert 4 not in left(store)


def test_a_failure_is_noted_and_not_raised(store: DuckDBSpanStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise SpanStoreBusy("somebody reads all the time")

    monkeypatch.setattr(DuckDBUpkeep, "expire", fail)
    done = make_retention(store, MIXED).run()
    assert not done.is_done
    assert "somebody reads" in str(done.error)


def test_the_file_is_written_anew_after_something_went_where_the_settings_want_it(
    store: DuckDBSpanStore,
) -> None:
    done = make_retention(store, RetentionPolicy(usual=Ages(span_days=60), compact=True)).run()
    assert done.compaction is not None
    assert done.compaction.n_spans == 12
    idle = make_retention(store, RetentionPolicy(usual=Ages(span_days=60), compact=True)).run()
    assert idle.compaction is None
