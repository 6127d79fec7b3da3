"""Every text that is kept counts against the bound on memory, whichever way it came; and none leaves that should not."""

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

import penstock
from penstock.sdk.runtime import RUNTIME
from tests.sdk.conftest import Collector, setup

BOUND = 1 << 20
TEXT = "x" * 100_000


def kept_bytes() -> int:
    pipeline = RUNTIME.pipeline
    assert pipeline is not None
    return pipeline._bytes


def fill_by_set(it: Any) -> None:
    it.set("note", TEXT)


def fill_by_event(it: Any) -> None:
    it.event("note", text=TEXT)


def fill_by_tags(it: Any) -> None:
    it.update(tags=[TEXT])


@pytest.mark.parametrize("fill", [fill_by_set, fill_by_event, fill_by_tags], ids=lambda fill: fill.__name__)
def test_what_is_noted_on_an_open_span_counts(fill: Any, collector: Collector, sdk: Collector) -> None:
    setup(collector, max_buffer_bytes=BOUND)
    with penstock.span("held") as it:
        for _ in range(5):
            fill(it)
        assert 500_000 <= kept_bytes() <= BOUND
        for _ in range(50):
            fill(it)
        assert kept_bytes() <= BOUND
    penstock.flush()
    assert kept_bytes() == 0
    assert sdk.span("held").attributes["penstock.payload_dropped"] is True


def test_open_streams_count(collector: Collector, sdk: Collector) -> None:
    setup(collector, max_buffer_bytes=BOUND)

    @penstock.observe
    def talk() -> Iterator[str]:
        while True:
            yield TEXT

    open_streams = [talk() for _ in range(30)]
    for stream in open_streams:
        next(stream)
    assert 900_000 <= kept_bytes() <= BOUND
    for stream in open_streams:
        stream.close()
    assert penstock.flush().sent == 30
    assert kept_bytes() == 0


def test_a_stream_that_is_reduced_counts_what_it_holds(collector: Collector, sdk: Collector) -> None:
    setup(collector, max_buffer_bytes=BOUND)

    @penstock.observe(reduce=len)
    def talk() -> Iterator[str]:
        for _ in range(100):
            yield TEXT

    stream = talk()
    for _ in range(99):
        next(stream)
    assert 100_000 <= kept_bytes() <= BOUND // 2
    list(stream)
    penstock.flush()
    assert kept_bytes() == 0


def test_in_a_flood_spans_of_instrumentations_lose_their_texts_and_stay(
    collector: Collector, sdk: Collector
) -> None:
    collector.gate.clear()
    setup(collector, max_buffer_bytes=BOUND)
    tracer = penstock.tracer_provider().get_tracer("x")
    for number in range(100):
        with tracer.start_as_current_span(f"chat {number}") as foreign:
            foreign.set_attribute("gen_ai.request.model", "small")
            foreign.set_attribute("gen_ai.input.messages", [TEXT])
            foreign.add_event("said", {"text": TEXT})
        assert kept_bytes() <= BOUND * 1.25
    collector.gate.set()
    told = penstock.flush()
    assert (told.sent, told.dropped) == (100, 0)
    assert told.payloads_dropped >= 80
    assert {span.attributes["gen_ai.request.model"] for span in sdk.spans} == {"small"}


def test_without_capture_nothing_that_was_said_leaves_in_notes_and_events(
    collector: Collector, sdk: Collector
) -> None:
    setup(collector, capture=False)
    with penstock.span("mine", kind="llm", model="small", tags=["eu"]) as it:
        it.set("question", "secret")
        it.set("gen_ai.request.temperature", 0.5)
        it.event("asked", question="secret")
    penstock.flush()
    assert "secret" not in str(sdk.requests)
    found = sdk.span("mine").attributes
    assert (found["gen_ai.request.model"], found["tag.tags"]) == ("small", ["eu"])
    assert found["gen_ai.request.temperature"] == 0.5


def test_redactions_reach_notes_events_and_tags(collector: Collector, sdk: Collector) -> None:
    setup(collector, redact=lambda text: text.replace("secret", "#"))
    with penstock.span("mine", tags=["a secret"]) as it:
        it.set("question", "my secret")
        it.event("asked", question="my secret")
    with penstock.span("named", redact=["card"]) as it:
        it.set("card", 4711)
    penstock.flush()
    assert "secret" not in str(sdk.requests)
    assert sdk.span("mine").attributes["question"] == "my #"
    assert sdk.span("named").attributes["card"] == "[redacted]"


def test_a_share_holds_for_a_joined_provider_too(collector: Collector, sdk: Collector) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    setup(collector, provider=provider, sample=0.0)
    with penstock.span("mine"):
        penstock.score("ok", 1)
        with provider.get_tracer("openinference.x").start_as_current_span("theirs"):
            pass
    assert penstock.flush().sent == 0
    setup(collector, provider=provider, sample=0.5)
    for _ in range(200):
        with penstock.span("outer"), penstock.span("inner"):
            penstock.score("ok", 1)
    penstock.flush()
    outer, inner = ({span.trace for span in sdk.spans if span.name == name} for name in ("outer", "inner"))
    assert outer == inner == {score["trace_id"] for score in sdk.scores}
    assert 40 < len(outer) < 160


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_forked_while_a_thread_counts_can_end_what_was_open(sdk: Collector) -> None:
    pipeline = RUNTIME.pipeline
    assert pipeline is not None
    held, free = threading.Event(), threading.Event()

    def count() -> None:
        with pipeline._guard:
            held.set()
            free.wait(120)

    thread = threading.Thread(target=count)
    with penstock.span("batch") as it:
        thread.start()
        held.wait(120)
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            it.update(output="from the child")
            it.end()
            os._exit(0)
        free.set()
        thread.join()
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
