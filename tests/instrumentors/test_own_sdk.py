"""What the SDK says arrives as fields of the stored span, and its judgements beside it."""

from collections.abc import Iterator
from decimal import Decimal

import pytest

import penstock
from penstock.spec.usage import Usage
from penstock.store.spans.types import ScoreQuery
from tests.instrumentors.receiver import Receiver
from tests.sdk.conftest import switch_off


@pytest.fixture
def sdk(receiver: Receiver) -> Iterator[Receiver]:
    receiver.take()
    penstock.configure(
        url=receiver.url,
        key=receiver.key,
        service="shop",
        release="2.1",
        environment="staging",
        spill=False,
        interval_s=0.005,
        max_payload_bytes=5000,
        enabled=True,
    )
    yield receiver
    switch_off()


def test_every_field_arrives(sdk: Receiver) -> None:
    with (
        penstock.attributes(session_id="s1", user_id="ada", tags=["beta"], metadata={"plan": "pro"}),
        penstock.span(
            "answer", kind="llm", model="small", provider="openai", prompt="triage@3", agent="bo"
        ) as it,
    ):
        it.update(
            input=[{"role": "user", "content": "[not json"}],
            output="[1] is a citation",
            usage=Usage(
                input_uncached=10, input_cache_read=5, input_cache_write=2, output_text=7, output_reasoning=3
            ),
            cost_usd="0.0125",
            tags=["gold"],
        )
        it.event("retried", attempt=2)
        with penstock.span("search", kind="tool", tool="web", input="q"):
            pass
    assert penstock.flush().is_complete
    answer, search = sdk.take()
    wanted = {
        "name": "answer",
        "kind": "llm",
        "status": "ok",
        "service": "shop",
        "release": "2.1",
        "environment": "staging",
        "session_id": "s1",
        "user_id": "ada",
        "model": "small",
        "provider": "openai",
        "prompt": "triage@3",
        "agent": "bo",
        "cost_usd": Decimal("0.0125"),
        "output": "[1] is a citation",
    }
    assert {name: getattr(answer, name) for name in wanted} == wanted
    assert sorted(answer.tags) == ["beta", "gold"]
    assert answer.usage is not None
    usage = answer.usage
    assert (usage.input_uncached, usage.input_cache_read, usage.input_cache_write) == (10, 5, 2)
    assert (usage.output_text, usage.output_reasoning) == (7, 3)
    assert "[not json" in str(answer.input)
    assert answer.attributes["metadata"] in ({"plan": "pro"}, '{"plan":"pro"}')
    assert [(event.name, event.attributes) for event in answer.events] == [("retried", {"attempt": 2})]
    assert (search.kind, search.tool, search.parent_id, search.session_id) == (
        "tool",
        "web",
        answer.span_id,
        "s1",
    )
    assert (answer.scope or "").startswith("penstock ")


@pytest.mark.parametrize(
    "kind", ["chain", "agent", "retrieval", "rerank", "guard", "embedding", "evaluation", "app"]
)
def test_every_kind_arrives(sdk: Receiver, kind: str) -> None:
    with penstock.span("x", kind=kind):  # type: ignore[arg-type]
        pass
    penstock.flush()
    (span,) = sdk.take()
    assert span.kind == kind


def test_a_stream_that_was_left_says_so_and_when_it_began_to_answer(sdk: Receiver) -> None:
    @penstock.observe(kind="llm")
    def words() -> Iterator[str]:
        yield from ("one", "two")

    for _ in words():
        break
    penstock.flush()
    (span,) = sdk.take()
    assert span.attributes["stream.aborted"] is True
    assert span.ttft_ms is not None
    assert span.output == "one"


def test_judgements_are_listed_with_their_trace(sdk: Receiver) -> None:
    with penstock.span("answer") as it:
        penstock.score("f1", 0.25, scorer="f1@1")
        penstock.score("f1", 0.5, scorer="f1@1")
        penstock.feedback("up", user_id="ada", comment="nice")
    penstock.score("resolved", True, session_id="s9")
    assert penstock.flush().is_complete
    found = {
        (row.name, row.value, row.span_id) for row in sdk.store.list_scores(ScoreQuery(trace_id=it.trace_id))
    }
    assert found == {("f1", 0.5, it.span_id), ("feedback", 1.0, None)}
    (session,) = sdk.store.list_scores(ScoreQuery(session_id="s9"))
    assert (session.name, session.value) == ("resolved", 1.0)
    assert len(sdk.take()) == 4  # the answer, its two carriers, and the one of the session


def test_sending_twice_stores_once(sdk: Receiver) -> None:
    with penstock.span("once") as it:
        penstock.score("ok", 1)
    penstock.flush()
    penstock.score("ok", 1, trace_id=it.trace_id, span_id=it.span_id)
    penstock.flush()
    assert len(sdk.take()) == 2
