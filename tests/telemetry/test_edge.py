"""What passes the edge: content only where it is kept, sizes within bounds, rules as the snapshot has them."""

from pathlib import Path

import msgspec

from penstock.spec.masks import MaskRule
from penstock.spec.snapshot import Limits, Snapshot
from penstock.spec.spans import FOREIGN_MARK, Span, SpanEvent, SpanLink
from penstock.telemetry.cutting import CUT, MAX_ATTRIBUTES
from penstock.telemetry.edge import LARGE_RECORD_BYTES, Edge, EdgeRules, SnapshotEdge
from penstock.telemetry.encode import decode_span
from penstock.telemetry.masks import MASKED
from tests.fixtures.spans import make_span


def foreign(**values: object) -> Span:
    attributes = {FOREIGN_MARK: 2, **values.pop("attributes", {})}  # type: ignore[dict-item]
    return make_span(1, attributes=attributes, **values)


def test_without_capture_content_goes_and_metadata_stays() -> None:
    span = foreign(
        attributes={
            "gen_ai.request.model": "m",
            "gen_ai.request.temperature": 0.5,
            "gen_ai.system_instructions": "secret",
            "llm.prompts.0.content": "secret",
            "input.value": "secret",
            "some.unknown.text": "secret",
            "some.unknown.number": 7,
        },
        events=[SpanEvent(name="gen_ai.user.message", time_ns=1, attributes={"content": "secret"})],
        input="secret",
        output="secret",
        user_id="u",
    )
    rules = EdgeRules(project_capture={"default": False})
    kept, record = Edge(rules).admit(span)
    assert b"secret" not in record
    assert kept.payload_dropped
    assert kept.attributes == {
        FOREIGN_MARK: 2,
        "gen_ai.request.model": "m",
        "gen_ai.request.temperature": 0.5,
        "some.unknown.number": 7,
    }
    assert (kept.user_id, kept.usage, kept.name) == ("u", span.usage, span.name)
    assert Edge(EdgeRules(project_capture={"other": False})).admit(span)[0] is span
    assert Edge(EdgeRules(capture_payloads=False, project_capture={"default": True})).admit(span)[0] is span


def test_without_capture_no_error_and_no_link_quotes_what_was_asked() -> None:
    span = foreign(
        attributes={"error.type": "ValueError: secret", "exception.type": "KeyError"},
        events=[
            SpanEvent(
                name="exception",
                time_ns=1,
                attributes={"exception.type": "E: secret", "exception.message": "secret"},
            )
        ],
        links=[SpanLink(trace_id="c" * 32, span_id="d" * 16, attributes={"why": "secret"})],
        status="error",
        status_message="bad request: 'secret' has no answer",
        error_code="ValueError: secret",
        tags=["batch"],
    )
    kept, record = Edge(EdgeRules(capture_payloads=False)).admit(span)
    assert b"secret" not in record
    assert (kept.status, kept.status_message, kept.error_code, kept.tags) == ("error", None, None, ["batch"])
    assert kept.attributes == {FOREIGN_MARK: 2, "exception.type": "KeyError"}
    assert kept.links == [SpanLink(trace_id="c" * 32, span_id="d" * 16)]
    for code in ("openai.RateLimitError", "PS-5601", "429", "context_length_exceeded"):
        told = foreign(error_code=code, attributes={"error.type": code})
        kept, _ = Edge(EdgeRules(capture_payloads=False)).admit(told)
        assert (kept.error_code, kept.attributes["error.type"]) == (code, code)


def test_a_large_span_is_kept_and_says_what_was_cut() -> None:
    long = "x" * (1024 * 1024)
    span = foreign(attributes={"big": long, "list": [long], "small": 1}, input={"text": long}, output="fine")
    kept, record = Edge(EdgeRules(max_payload_bytes=300_000)).admit(span)
    assert len(record) < 1024 * 1024
    assert kept.attributes[CUT] == {"input": len(long) + 11, "big": len(long), "list": len(long) + 4}
    assert kept.input["penstock_cut"] == {"size_bytes": len(long) + 11, "kept_bytes": 300_000}
    assert len(kept.attributes["big"]) < LARGE_RECORD_BYTES + 100
    assert (kept.attributes["small"], kept.output) == (1, "fine")
    assert decode_span(record).attributes == kept.attributes


def test_ten_thousand_attributes_are_cut_with_a_mark() -> None:
    span = foreign(attributes={f"attribute.{number}": "v" * 40 for number in range(10_000)})
    kept, _ = Edge().admit(span)
    assert kept.attributes[CUT] == {"attributes": 10_001}
    assert MAX_ATTRIBUTES <= len(kept.attributes) <= MAX_ATTRIBUTES + 2
    assert kept.is_foreign


def test_an_ordinary_span_passes_untouched() -> None:
    span = foreign(input={"a": 1})
    assert Edge().admit(span)[0] is span


def test_the_rules_follow_the_snapshot_and_nothing_is_kept_before_there_is_one(tmp_path: Path) -> None:
    path = tmp_path / "current.json"
    edge = SnapshotEdge(path)
    span = foreign(input="bob@example.com")
    assert edge.refresh().admit(span)[0].input is None

    def write(limits: Limits, written_ns: int) -> None:
        path.write_bytes(
            msgspec.json.encode(Snapshot(digest="d" * written_ns, written_ns=written_ns, limits=limits))
        )

    write(Limits(), 1)
    assert edge.refresh().admit(span)[0] is span
    write(Limits(masks=(MaskRule(name="email", builtin="email"),)), 2)
    masked, _ = edge.refresh().admit(span)
    assert (masked.input, masked.attributes[MASKED]) == ("[email]", {"email": 1})
    path.write_bytes(b"damaged")
    assert edge.refresh().admit(span)[0].input == "[email]"
    path.unlink()
    assert edge.refresh().admit(span)[0].input == "[email]"


def test_a_small_bound_for_payloads_holds_for_small_spans_too() -> None:
    kept, _ = Edge(EdgeRules(max_payload_bytes=100)).admit(foreign(input="x" * 500, output="fine"))
    assert kept.input["penstock_cut"]["size_bytes"] == 502
    assert (kept.output, kept.attributes[CUT]) == ("fine", {"input": 502})


def test_a_name_of_a_megabyte_is_cut() -> None:
    kept, record = Edge().admit(make_span(1, name="n" * 1024 * 1024))
    assert len(record) < 20_000
    assert kept.attributes[CUT] == {"name": 1024 * 1024}
