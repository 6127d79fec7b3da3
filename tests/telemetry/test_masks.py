"""Masks meet what they are for and nothing else, everywhere in a span; what cannot be masked is not kept."""

import time

import msgspec
import pytest

from penstock.spec.masks import BuiltInMask, MaskRule
from penstock.spec.scores import SpanScore
from penstock.spec.spans import SpanEvent
from penstock.telemetry.encode import encode_span
from penstock.telemetry.finders import own_pattern
from penstock.telemetry.masks import FAILED, MASKED, MaskSet
from tests.fixtures.spans import make_span

EMAIL = MaskRule(name="email", builtin="email")


def masked(kind: BuiltInMask, text: str) -> str:
    found = MaskSet([MaskRule(name=kind, builtin=kind)]).apply_value(text, "input", "default")
    assert isinstance(found, str)
    return found


@pytest.mark.parametrize(
    ("kind", "text", "left"),
    [
        ("email", "write to bob.o+x@mail.ex-ample.co.uk!", "write to [email]!"),
        ("email", "\\nann@example.com", "\\[email]"),
        ("credit_card", "my card 4111 1111-1111 1111, thanks", "my card [credit_card], thanks"),
        ("credit_card", "378282246310005", "[credit_card]"),
        ("iban", "DE89 3704 0044 0532 0130 00 please", "[iban] please"),
        ("iban", "gb82west12345698765432.", "[iban]."),
        ("phone", "+49 30 1234567, (555) 123-4567", "[phone], [phone]"),
        ("phone", "07700 900123 or 555-123-4567", "[phone] or [phone]"),
        ("api_key", "sk-proj-abcdefghijklmnop1234", "[api_key]"),
        ("api_key", "Authorization: Bearer abcdef.ghijkl-mnopqrs", "Authorization: [api_key]"),
        ("api_key", "AKIAABCDEFGHIJKLMNOP", "[api_key]"),
    ],
)
def test_built_in_rules_meet_personal_data(kind: BuiltInMask, text: str, left: str) -> None:
    assert masked(kind, text) == left


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("email", "user@localhost, @bob, a@b"),
        ("credit_card", "order 4111111111111112, 0000000000000000, 1790000000000000000000"),
        ("iban", "DE89 3704 0044 0532 0130 01, GB00WEST12345698765432"),
        ("phone", "2026-11-21 10:53:05, 1.2.3.4, 123e4567-e89b-12d3-a456-426614174000, 10 000 000"),
        ("api_key", "skill-building, sk-short, bearer of news"),
    ],
)
def test_built_in_rules_leave_what_only_looks_alike(kind: BuiltInMask, text: str) -> None:
    assert masked(kind, text) == text


def test_every_place_of_a_span_that_holds_text_is_masked() -> None:
    mail = "bob@example.com"
    span = make_span(
        1,
        name=f"call {mail}",
        status_message=mail,
        user_id=mail,
        tags=[mail],
        attributes={"deep": [{mail: {"x": mail}}]},
        events=[SpanEvent(name="e", time_ns=1, attributes={"text": mail})],
        scores=[SpanScore(name="s", comment=mail, time_ns=1)],
        input={"messages": [{"content": mail}]},
        output=msgspec.Raw(b'{"a": "x\\u0020bob@example.com", "n": 4111111111111111}'),
    )
    rules = [
        MaskRule(name="email", builtin="email", where=("input", "output", "attributes", "identity")),
        MaskRule(name="card", builtin="credit_card", replacement="****"),
    ]
    done = MaskSet(rules).apply(span)
    record = encode_span(done)
    assert b"bob@" not in record
    assert b"4111" not in record
    assert b"****" in record
    assert done.attributes[MASKED] == {"email": 10, "card": 1}


def test_a_rule_holds_for_its_project_and_its_places_only() -> None:
    rule = MaskRule(name="email", builtin="email", where=("output",), project="shop")
    span = make_span(1, input="a@example.com", output="a@example.com")
    assert MaskSet([rule]).apply(span) is span
    done = MaskSet([rule]).apply(msgspec.structs.replace(span, project="shop"))
    assert (done.input, done.output) == ("a@example.com", "[email]")


def test_a_masked_user_is_masked_where_it_was_read_from_too() -> None:
    rule = MaskRule(name="email", builtin="email", where=("identity",))
    span = make_span(
        1, user_id="a@example.com", attributes={"user.id": "a@example.com", "note": "b@example.com"}
    )
    done = MaskSet([rule]).apply(span)
    assert done.user_id == done.attributes["user.id"] == "[email]"
    assert done.attributes["note"] == "b@example.com"


def test_what_is_not_met_stays_as_it_came() -> None:
    raw = msgspec.Raw(b'{"b":1,  "a":[1.0]}')
    assert MaskSet([EMAIL]).apply(make_span(1, input=raw)).input is raw


def test_a_payload_that_is_no_json_is_masked_as_text() -> None:
    done = MaskSet([EMAIL]).apply(make_span(1, input=msgspec.Raw(b"<a>bob@example.com \xff")))
    assert done.input == "<a>[email] \ufffd"


def test_what_cannot_be_masked_is_dropped() -> None:
    deep: object = "bob@example.com"
    for _ in range(5000):
        deep = [deep]
    for span, rules in (
        (make_span(1, input=deep, attributes={"a": "b"}, user_id="u"), [EMAIL]),
        (make_span(1, input="fine", attributes={"a": "b"}), [MaskRule(name="broken", pattern="(")]),
    ):
        done = MaskSet(rules).apply(span)
        assert (done.input, done.payload_dropped, done.user_id) == (None, True, None)
        assert done.attributes == {MASKED: {FAILED: 1}}
        assert (done.trace_id, done.start_ns, done.usage) == (span.trace_id, span.start_ns, span.usage)


@pytest.mark.parametrize("pattern", ["(", "(?<!a)b", r"(a)\1", "x*"])
def test_patterns_that_cannot_be_used_are_refused_with_a_reason(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        own_pattern(pattern)


def test_a_pattern_that_would_backtrack_for_ages_takes_no_time_to_speak_of() -> None:
    rule = MaskRule(name="slow", pattern="(a+)+$")
    begun = time.process_time()
    MaskSet([rule]).apply(make_span(1, input="a" * 50_000 + "b"))
    assert time.process_time() - begun < 20  # a backtracking engine would not end in a lifetime


def test_characters_outside_ascii_are_kept_around_a_match() -> None:
    rule = MaskRule(name="order", pattern=r"ORD-\d+", replacement="ORD-…")
    assert MaskSet([rule]).apply(make_span(1, input="für ORD-1234 – danke")).input == "für ORD-… – danke"
