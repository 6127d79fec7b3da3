"""A span file whose bytes were changed: told clearly, spans go on being taken, a backup brings everything back."""

import json
from pathlib import Path

import duckdb
import pytest

from penstock.main.backup import back_up
from penstock.main.recording import Recording
from penstock.main.restore import restore
from penstock.spec.home import Home
from penstock.store.spans.errors import SpanStoreFailed, SpanStoreUnreadable
from penstock.store.spans.types import TraceQuery
from penstock.telemetry.encode import encode_span
from penstock.telemetry.otlp import JSON
from penstock.telemetry.spool import open_writer
from tests.main import lives

HEADERS_BYTES = 3 * 4096
BLOCK_BYTES = 256 * 1024


def damage(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        found = file.read(500)
        file.seek(at)
        file.write(bytes(byte ^ 0x55 for byte in found))


def payload_block(path: Path) -> int:
    """Return where in the file payloads lie."""
    with duckdb.connect(str(path), read_only=True) as connection:
        blocks = connection.execute(
            "SELECT block_id FROM pragma_storage_info('payloads')"
            " WHERE column_name = 'input' AND segment_type = 'VARCHAR' AND block_id >= 0"
        ).fetchall()
    return HEADERS_BYTES + int(blocks[0][0]) * BLOCK_BYTES


def read_all_payloads(recording: Recording) -> None:
    for trace in range(1, 600):
        recording.store.get_payload(f"{trace:032x}", f"{1:016x}")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    lives.fill(tmp_path / "home", 600)
    return Home(root=tmp_path / "home")


def test_damage_within_the_file_is_told_and_spans_go_on_being_taken(home: Home, tmp_path: Path) -> None:
    back_up(home, tmp_path / "home.tar", environ={})
    damage(home.span_db, payload_block(home.span_db) + 1000)
    recording = Recording(home, lives.settings_of())
    with pytest.raises(SpanStoreFailed, match="Corrupt") as told:
        read_all_payloads(recording)
    assert "backup" in (told.value.hint or "")
    assert len(recording.store.list_traces(TraceQuery(limit=100)).rows) == 100, "lists go on"
    recording.ingest.take("traces", lives.request(1), JSON, way="http")
    recording.stop_taking()
    recording.close()
    restored = Home(root=tmp_path / "again")
    restore(tmp_path / "home.tar", restored.root)
    back = Recording(restored, lives.settings_of())
    payload = back.store.get_payload(f"{1:032x}", f"{1:016x}")
    assert json.dumps(payload.input) == json.dumps(f"1 {lives.TEXT}")
    assert back.store.append([lives.make_span(1, trace=9999)]) == 1
    back.stop_taking()
    back.close()


def test_a_file_that_cannot_be_opened_is_named_and_the_spool_keeps_what_gateways_write(home: Home) -> None:
    damage(home.span_db, 4096)
    damage(home.span_db, 8192)
    gateway = open_writer(home.spool, "gateway")
    gateway.append_durable([encode_span(lives.gateway_span(1))])
    with pytest.raises(SpanStoreUnreadable, match="damaged") as told:
        Recording(home, lives.settings_of())
    assert str(home.span_db) in told.value.message
    assert "backup" in (told.value.hint or "")
    gateway.append_durable([encode_span(lives.gateway_span(2))])
    home.span_db.rename(home.root / "damaged.duckdb")
    recording = Recording(home, lives.settings_of())
    recording.collector.run_once()
    assert len(recording.store.list_traces(TraceQuery()).rows) == 2
    gateway.close()
    recording.stop_taking()
    recording.close()
