"""A newer table over history: fields follow it, what was sent and said stays."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.spec.spans import FOREIGN_MARK, Span
from penstock.spec.usage import Usage
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.upkeep import DuckDBScan
from penstock.telemetry.mapping_table import load_table
from penstock.traces.remap import remap_history
from tests.fixtures.spans import make_span


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDBSpanStore]:
    opened = DuckDBSpanStore(tmp_path / "spans.duckdb")
    yield opened
    opened.close()


def old_span(number: int, attributes: dict[str, Any], **fields: Any) -> Span:
    """A span as the first version of the table left it."""
    values = {"kind": "internal", "usage": None, "input": None, "output": None, "provider": None, **fields}
    return make_span(number, attributes={FOREIGN_MARK: 1, **attributes}, **values)


def remapped(store: DuckDBSpanStore, *spans: Span) -> list[Span]:
    store.append(spans)
    assert remap_history(DuckDBScan(store.file), store) == len(spans)
    return store.get_trace(spans[0].trace_id)


def test_fields_follow_the_table_and_what_was_sent_stays(store: DuckDBSpanStore) -> None:
    attributes = {
        "ai.operationId": "ai.generateText.doGenerate",
        "ai.model.provider": "anthropic.messages",
        "ai.model.id": "claude",
        "ai.usage.inputTokens": 10,
        "ai.usage.cachedInputTokens": 4,
        "ai.usage.outputTokens": 3,
        "ai.telemetry.metadata.userId": "u1",
        "otel.scope": "ai 5.0",
        "links": [{"trace_id": "ab" * 16, "span_id": "cd" * 8}],
        "resource": {"deployment.environment.name": "production", "host.name": "a"},
    }
    [span] = remapped(store, old_span(1, attributes, service="web"))
    assert (span.kind, span.provider, span.model, span.user_id) == ("llm", "anthropic", "claude", "u1")
    assert span.usage == Usage(input_uncached=10, input_cache_read=4, output_text=3)
    assert (span.environment, span.scope, span.service) == ("production", "ai 5.0", "web")
    assert span.links[0].span_id == "cd" * 8
    assert span.attributes["ai.model.id"] == "claude"
    assert span.attributes[FOREIGN_MARK] == load_table().version
    assert "otel.scope" not in span.attributes


def test_a_payload_that_was_not_known_as_one_is_found(store: DuckDBSpanStore) -> None:
    tool = {
        "ai.operationId": "ai.toolCall",
        "ai.toolCall.name": "weather",
        "ai.toolCall.args": '{"city": "Oslo"}',
    }
    [span] = remapped(store, old_span(1, tool))
    assert (span.kind, span.tool) == ("tool", "weather")
    assert store.get_payload(span.trace_id, span.span_id).input == {"city": "Oslo"}
    assert "ai.toolCall.args" not in span.attributes


def test_payloads_that_are_stored_stay(store: DuckDBSpanStore) -> None:
    known = {"openinference.span.kind": "LLM", "output.value": "a copy"}
    [span] = remapped(store, old_span(1, known, input={"messages": []}, output="the answer"))
    payload = store.get_payload(span.trace_id, span.span_id)
    assert (payload.input, payload.output) == ({"messages": []}, "the answer")
    assert span.attributes["output.value"] == "a copy"


def test_what_a_project_did_not_keep_does_not_come_back(store: DuckDBSpanStore) -> None:
    hidden = old_span(1, {"ai.toolCall.args": "secret"}, payload_dropped=True)
    [span] = remapped(store, hidden)
    assert store.get_payload(span.trace_id, span.span_id).input is None


def test_own_spans_are_left_alone_and_a_second_run_changes_nothing(store: DuckDBSpanStore) -> None:
    own = make_span(2, attributes={"gen_ai.operation.name": "embeddings"})
    store.append([own])
    first = remapped(store, old_span(1, {"gen_ai.operation.name": "chat"}))
    assert [span.kind for span in first] == ["llm", own.kind]
    assert remap_history(DuckDBScan(store.file), store) == 0


def test_many_are_done_in_batches_and_told_about(
    store: DuckDBSpanStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.traces.remap.BATCH", 7)
    store.append([old_span(number, {"gen_ai.operation.name": "chat"}) for number in range(1, 31)])
    told: list[int] = []
    assert remap_history(DuckDBScan(store.file), store, tell=lambda n, _: told.append(n)) == 30
    assert told[0] == 7
    assert told[-1] == 30
    assert {span.kind for span in store.get_trace(make_span(1).trace_id)} == {"llm"}
    assert msgspec.json.encode(told)


def test_one_side_that_is_missing_is_filled_and_the_other_stays(store: DuckDBSpanStore) -> None:
    known = {"input.value": "what was asked", "output.value": "a copy"}
    [span] = remapped(store, old_span(1, known, output="the answer"))
    payload = store.get_payload(span.trace_id, span.span_id)
    assert (payload.input, payload.output) == ("what was asked", "the answer")


def test_a_side_that_is_stored_is_not_replaced_by_its_copy(store: DuckDBSpanStore) -> None:
    known = {"input.value": "a copy", "output.value": "what was answered"}
    [span] = remapped(store, old_span(1, known, input="the question"))
    payload = store.get_payload(span.trace_id, span.span_id)
    assert (payload.input, payload.output) == ("the question", "what was answered")
