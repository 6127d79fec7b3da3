"""Pages and commands get traces that agree with the lists they came from."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.base.errors import InvalidInput
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.types import TraceQuery
from penstock.traces.service import TraceService, UnknownTrace
from tests.fixtures.spans import T0, make_call_trace


@pytest.fixture
def service(tmp_path: Path) -> Iterator[TraceService]:
    store = DuckDBSpanStore(tmp_path / "s.duckdb")
    store.append(make_call_trace(1))
    store.append(make_call_trace(2))
    yield TraceService(store)
    store.close()


def test_a_shown_trace_agrees_with_its_row_in_the_list(service: TraceService) -> None:
    row = service.list_traces().rows[0]
    view = service.show_trace(row.trace_id)
    assert view.summary == row
    assert view.cost_usd == row.cost_usd
    assert view.models == ["handbook", "minilm", "pocket"]
    assert view.versions == {"app:handbook": "1"}
    assert [span.span_id for span in view.spans] == [f"{number:016x}" for number in range(1, 6)]
    assert service.get_payload(row.trace_id, view.spans[0].span_id).input is not None


def test_ids_may_be_written_with_capitals_and_dashes(service: TraceService) -> None:
    assert service.show_trace("00000000-0000-0000-0000-000000000001 ").trace_id == f"{1:032x}"


def test_an_unknown_trace_says_what_to_do(service: TraceService) -> None:
    with pytest.raises(UnknownTrace) as caught:
        service.show_trace("nope")
    assert caught.value.hint


def test_a_window_that_ends_before_it_begins_is_refused(service: TraceService) -> None:
    with pytest.raises(InvalidInput):
        service.overview(2, 1)
    with pytest.raises(InvalidInput):
        service.list_traces(TraceQuery(since_ns=2, until_ns=1))
    assert service.overview(T0, T0 + 10**11).n_calls == 2
