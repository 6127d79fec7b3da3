"""What the doctor says about the record of a stopped home."""

from pathlib import Path

import pytest

from penstock.main.doctor_record import LAGGING_BYTES, Told, examine_record
from penstock.spec.home import Home
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.telemetry.counters import LATE_OF_ERASED, IngestCounters
from penstock.telemetry.encode import encode_span
from penstock.telemetry.spool import SpoolWriter
from tests.fixtures.spans import make_span


@pytest.fixture
def home(tmp_path: Path, migrated_sqlite: Path) -> Home:
    home = Home(root=tmp_path)
    home.control_db.write_bytes(migrated_sqlite.read_bytes())
    home.run.mkdir()
    store = DuckDBSpanStore(home.span_db)
    store.append([make_span(1), make_span(2)])
    store.close()
    return home


def told(home: Home) -> dict[str, Told]:
    return {each.what: each for each in examine_record(home)}


def test_a_sound_record_is_told_with_its_size(home: Home) -> None:
    assert told(home)["span store"].is_bad is False
    assert "2 spans" in told(home)["span store"].detail
    assert set(told(home)) <= {"span store", "spool"}


def test_a_damaged_store_is_bad_and_the_cure_is_told(home: Home) -> None:
    data = bytearray(home.span_db.read_bytes())
    data[4096:9000] = bytes(4904)
    home.span_db.write_bytes(data)
    found = told(home)["span store"]
    assert found.is_bad is True
    assert "Restore a backup" in str(found.cure)


def test_what_waits_in_the_spool_is_told_and_a_lot_of_it_is_noted(home: Home) -> None:
    writer = SpoolWriter(home.spool / "gateway-1", segment_bytes=1 << 30)
    writer.append_durable([encode_span(make_span(1))])
    assert told(home)["spool"].is_bad is False
    writer.append_durable([encode_span(make_span(2, input="x" * (LAGGING_BYTES // 2))) for _ in range(3)])
    writer.close()
    assert told(home)["spool"].is_bad is None


def test_lost_spans_are_told_but_not_those_that_were_kept_out_on_purpose(home: Home) -> None:
    counters = IngestCounters(home.run / "ingest.json")
    counters.add("dropped", LATE_OF_ERASED, 2)  # as older versions counted
    counters.add("erased", LATE_OF_ERASED, 5)
    counters.save(is_last=True)
    assert "lost spans" not in told(home)
    counters.add("dropped", "records that hold no span", 3)
    counters.save(is_last=True)
    assert told(home)["lost spans"].detail == "3 records that hold no span"
