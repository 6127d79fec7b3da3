"""What the panel beside a trace says of the tokens of a call."""

from penstock.console.span_details import list_facts
from tests.fixtures.spans import make_span

DIGEST = "sha256:" + "0123456789abcdef" * 4


def test_the_renderer_and_the_ids_of_a_call_are_told_short_where_an_engine_said_them() -> None:
    said = {"penstock.renderer.digest": DIGEST, "penstock.prompt.ids_sha256": DIGEST[:-1] + "0"}
    facts = dict(list_facts(make_span(kind="llm", attributes=said)))
    assert (facts["renderer"], facts["prompt ids"]) == ("0123456789ab", "0123456789ab")


def test_of_other_calls_nothing_is_said() -> None:
    for attributes in ({}, {"penstock.renderer.digest": 5}):
        facts = dict(list_facts(make_span(kind="llm", attributes=attributes)))
        assert not {"renderer", "prompt ids"} & set(facts)
