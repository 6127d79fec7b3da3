"""Spans as libraries send them, one file a library: each field that we know must come out as the file says.

A new dialect, or a new version of one, is a new file here; nothing else has to be written for it to be tested.
"""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.telemetry.encode import decode_span, encode_span
from penstock.telemetry.mapping_table import load_table
from penstock.telemetry.otlp import JSON, PROTOBUF, decode_otlp_batch
from tests.telemetry.test_otlp import as_protobuf, pairs

FILES = sorted((Path(__file__).parent / "corpus").glob("*.json"))
_CASES = [
    pytest.param(path, number, id=f"{path.stem}-{span['name']}")
    for path in FILES
    for number, span in enumerate(json.loads(path.read_text())["spans"])
]


def request_of(recorded: dict[str, Any], span: dict[str, Any]) -> dict[str, Any]:
    name, _, version = recorded["scope"].partition(" ")
    wire = {key: value for key, value in span.items() if key not in {"attributes", "expect", "events"}}
    wire = {
        "traceId": "0af7651916cd43dd8448eb211c80319c",
        "spanId": "b7ad6b7169203331",
        "startTimeUnixNano": "1790000000000000000",
        "endTimeUnixNano": "1790000001000000000",
        **wire,
        "attributes": pairs(span["attributes"]),
        "events": [
            {
                "name": event["name"],
                "timeUnixNano": "1790000000500000000",
                "attributes": pairs(event["attributes"]),
            }
            for event in span.get("events", [])
        ],
    }
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": pairs(recorded["resource"])},
                "scopeSpans": [{"scope": {"name": name, "version": version}, "spans": [wire]}],
            }
        ]
    }


def find(value: Any, path: str) -> Any:
    for step in path.split("."):
        value = value[int(step)] if isinstance(value, list) else value[step]
    return value


@pytest.mark.parametrize(("path", "number"), _CASES)
def test_a_recorded_span_is_understood(path: Path, number: int) -> None:
    recorded = json.loads(path.read_text())
    sent = recorded["spans"][number]
    batch = decode_otlp_batch(json.dumps(request_of(recorded, sent)).encode(), JSON)
    if not sent.get("links"):  # the test's encoder knows no ids within links
        from_protobuf = decode_otlp_batch(as_protobuf(request_of(recorded, sent)), PROTOBUF)
        assert from_protobuf == batch
    [span] = batch.spans
    decode_span(encode_span(span))
    flat = msgspec.to_builtins(span)
    found = {**flat, "kind": span.kind, "unmapped": sorted(batch.unmapped)}
    told = {place: _get(found, place) for place in sent["expect"]}
    assert told == sent["expect"]


def _get(found: dict[str, Any], place: str) -> Any:
    try:
        value = find(found, place)
    except (KeyError, IndexError):
        return None
    if place == "usage" and value is not None:
        return {name: count for name, count in value.items() if count is not None}
    return str(value) if place == "cost_usd" and value is not None else value


def test_every_name_of_the_table_leads_to_one_place() -> None:
    table = load_table()
    for name, (field, rank) in table.places.items():
        facts = table.look_up(name)
        assert (facts.field, facts.rank, facts.is_known) == (field, rank, True)
