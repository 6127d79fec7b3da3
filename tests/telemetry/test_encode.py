"""A span survives the way through the spool; what cannot be written costs a value, not the span."""

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings

from penstock.spec.spans import Span
from penstock.telemetry.edge import SnapshotEdge
from penstock.telemetry.encode import decode_span, encode_slim, encode_span
from penstock.telemetry.recorder import SpanRecorder
from penstock.telemetry.spool import SpoolReader, SpoolWriter
from tests.fixtures.spans import make_call_trace, make_span, spans


def opened(span: Span) -> Span:
    """Return a decoded record as the span it was: payloads parsed, class set back."""
    fields = {name: getattr(span, name) for name in Span.__struct_fields__}
    for name in ("input", "output"):
        fields[name] = None if fields[name] is None else msgspec.json.decode(fields[name])
    return Span(**fields)


@settings(max_examples=50, deadline=None)
@given(spans())
def test_a_span_is_decoded_as_it_was_encoded(span: Span) -> None:
    assert opened(decode_span(encode_span(span))) == span


def test_money_stays_exact() -> None:
    cost = Decimal("0.000000000000000001")
    assert decode_span(encode_span(make_span(1, cost_usd=cost))).cost_usd == cost


def test_a_raw_payload_passes_through_unparsed() -> None:
    raw = msgspec.Raw(b'{"b":1,  "a":[1.0]}')
    assert bytes(decode_span(encode_span(make_span(1, input=raw))).input) == bytes(raw)


@pytest.mark.parametrize(
    "garbage",
    [
        b"<html>502</html>",
        b'{"a": 1',
        b'1,"name":"forged"',
        b'{"a":1},"cost_usd":"9","x":{}',
        b"",
        b"[" * 50_000,
    ],
)
def test_raw_bytes_that_are_no_json_are_kept_as_text_and_forge_nothing(garbage: bytes) -> None:
    span = make_span(1, input=msgspec.Raw(b"{}"), output=msgspec.Raw(garbage))
    decoded = opened(decode_span(encode_span(span)))
    assert decoded == msgspec.structs.replace(make_span(1), input={}, output=garbage.decode())


def test_the_slim_form_has_everything_but_the_payloads() -> None:
    span = make_call_trace()[0]
    slim = opened(decode_span(encode_slim(span)))
    assert slim == msgspec.structs.replace(span, input=None, output=None, payload_dropped=True)


def test_values_that_json_cannot_hold_become_text() -> None:
    span = make_span(
        1,
        name="half \ud800",
        attributes={"object": object(), "big": 2**80, "set": (1, 2), 5: "key", "nan": float("nan")},
        input={"deep \udfff": ["\ud800"]},
    )
    decoded = opened(decode_span(encode_span(span)))
    assert decoded.name == "half ?"
    assert decoded.attributes["big"] == str(2**80)
    assert decoded.attributes["5"] == "key"
    assert decoded.attributes["nan"] is None
    assert decoded.input == {"deep ?": ["?"]}


def test_a_value_nested_beyond_reason_is_cut_and_the_span_kept() -> None:
    deep: object = "bottom"
    for _ in range(100_000):
        deep = [deep]
    assert decode_span(encode_span(make_span(1, input=deep))).span_id == make_span(1).span_id


@pytest.mark.parametrize("record", [b"", b"null", b"[]", b'{"trace_id":"a"}', b"\xff", b'{"start_ns":"x"}'])
def test_a_record_that_is_no_span_is_refused(record: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_span(record)


def test_recording_never_raises_into_the_call(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path / "w")
    recorder = SpanRecorder(spool)

    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    recorder.record(make_span(1, attributes={"hostile": Hostile()}))
    recorder.record(make_span(2))
    recorder.close()
    recorder.record(make_span(3))
    assert (recorder.failed_records, spool.dropped_records) == (1, 1)
    assert [decode_span(record).name for record in SpoolReader(tmp_path / "w")] == ["span 2"]


def test_a_recorder_with_an_edge_keeps_what_the_rules_allow(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path / "w")
    edge = SnapshotEdge(tmp_path / "no snapshot yet")
    recorder = SpanRecorder(spool, edge.admit)
    recorder.record(make_span(1, input="secret", output="secret"))
    recorder.close()
    [record] = SpoolReader(tmp_path / "w")
    assert b"secret" not in record
    assert decode_span(record).payload_dropped
