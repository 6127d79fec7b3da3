"""Observed generators: however they are read or left, one span, no error of context tokens, nothing left current."""

import asyncio
import contextlib
import gc
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest
from opentelemetry import context as otel
from opentelemetry import trace

import penstock
from tests.sdk.conftest import Collector

WORDS = ["one", "two", "three"]


@pytest.fixture(autouse=True)
def nothing_is_left(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail where OpenTelemetry complains, or where a span stays current."""
    before = otel.get_current()
    yield
    gc.collect()
    assert otel.get_current() == before
    assert [record.getMessage() for record in caplog.records if record.name.startswith("opentelemetry")] == []


@penstock.observe(name="words", kind="llm")
def words() -> Generator[str, str | None, str]:
    for word in WORDS:
        with penstock.span("word"):
            yield word
    return "done"


@penstock.observe(name="words", kind="llm")
async def words_async() -> AsyncIterator[str]:
    for word in WORDS:
        with penstock.span("word"):
            await asyncio.sleep(0)
            yield word


def check(sdk: Collector, *, n_items: int, is_aborted: bool, failed: bool = False) -> None:
    span = sdk.span("words")
    assert span.attributes["stream.items"] == n_items
    assert span.attributes.get("stream.aborted", False) is is_aborted
    assert span.failed is failed
    assert span.output == ("".join(WORDS[:n_items]) if n_items else [])
    inner = [each for each in sdk.spans if each.name == "word"]
    assert {each.parent for each in inner} <= {span.id}


def test_a_generator_read_to_its_end_has_all_it_yielded_as_output(sdk: Collector) -> None:
    def read() -> Generator[str, None, str]:
        return (yield from words())

    reader = read()
    for word in WORDS:
        assert next(reader) == word
        assert not trace.get_current_span().get_span_context().is_valid
    with pytest.raises(StopIteration) as stop:
        next(reader)
    assert stop.value.value == "done"
    penstock.flush()
    check(sdk, n_items=3, is_aborted=False)
    assert sdk.span("words").attributes["gen_ai.response.time_to_first_chunk"] >= 0


def leave_by_break() -> None:
    for word in words():
        assert word == "one"
        break


def leave_by_close() -> None:
    stream = words()
    next(stream)
    stream.close()
    stream.close()


def leave_by_forgetting() -> None:
    stream = words()
    next(stream)
    cycle: list[Any] = [stream]
    cycle.append(cycle)
    del stream, cycle
    gc.collect()


def leave_in_another_thread() -> None:
    stream = words()
    next(stream)
    thread = threading.Thread(target=stream.close)
    thread.start()
    thread.join()


def leave_below_another_span() -> None:
    stream = words()
    next(stream)
    with penstock.span("elsewhere"):
        stream.close()
        assert penstock.current_span().span_id is not None


@pytest.mark.parametrize(
    "leave",
    [leave_by_break, leave_by_close, leave_by_forgetting, leave_in_another_thread, leave_below_another_span],
)
def test_a_generator_that_is_left_ends_its_span_once(sdk: Collector, leave: Callable[[], None]) -> None:
    leave()
    gc.collect()
    penstock.flush()
    check(sdk, n_items=1, is_aborted=True)


def test_a_generator_that_nobody_reads_is_no_span(sdk: Collector) -> None:
    words()
    words().close()
    gc.collect()
    assert penstock.flush().sent == 0


def test_values_and_exceptions_reach_the_generator(sdk: Collector) -> None:
    @penstock.observe(name="echo")
    def echo() -> Generator[str, str, None]:
        said = yield "start"
        try:
            said = yield said
        except KeyError as error:
            yield f"caught {error.args[0]}"

    stream = echo()
    assert [next(stream), stream.send("hi"), stream.throw(KeyError("k"))] == ["start", "hi", "caught k"]
    with pytest.raises(StopIteration):
        next(stream)
    penstock.flush()
    assert sdk.span("echo").output == "starthicaught k"


def test_an_exception_in_a_generator_fails_its_span_with_what_came_before(sdk: Collector) -> None:
    @penstock.observe(name="words")
    def broken() -> Iterator[str]:
        yield "one"
        raise ConnectionError("lost")

    with pytest.raises(ConnectionError):
        list(broken())
    penstock.flush()
    check(sdk, n_items=1, is_aborted=False, failed=True)


def test_a_stream_belongs_where_it_was_made_not_where_it_is_read(sdk: Collector) -> None:
    with penstock.attributes(session_id="s1"), penstock.span("request") as request:
        stream = words()
    with penstock.span("reader"):
        list(stream)
    penstock.flush()
    span = sdk.span("words")
    assert (span.parent, span.attributes["session.id"]) == (request.span_id, "s1")


def test_what_the_body_opens_stays_open_over_a_yield_and_is_hidden_from_the_reader(sdk: Collector) -> None:
    @penstock.observe(name="outer")
    def body() -> Iterator[int]:
        with penstock.span("kept"):
            yield 1
            with penstock.span("leaf"):
                pass
            yield 2

    for _ in body():
        assert penstock.current_span().span_id is None
        with penstock.span("mine"):
            pass
    penstock.flush()
    assert sdk.span("leaf").parent == sdk.span("kept").id
    assert {span.parent for span in sdk.spans if span.name == "mine"} == {None}


def test_a_returned_generator_keeps_its_span_open(sdk: Collector) -> None:
    @penstock.observe(name="words")
    def make() -> Iterator[str]:
        return (word for word in WORDS)

    assert list(make()) == WORDS
    penstock.flush()
    check(sdk, n_items=3, is_aborted=False)


def test_a_function_of_the_program_makes_one_output_of_many(sdk: Collector) -> None:
    @penstock.observe(name="chunks", reduce=lambda chunks: {"text": "".join(chunk["d"] for chunk in chunks)})
    def chunks() -> Iterator[dict[str, str]]:
        yield from ({"d": word} for word in WORDS)

    list(chunks())
    penstock.flush()
    assert sdk.span("chunks").output == {"text": "onetwothree"}


# -- asynchronous ones


async def test_an_async_generator_read_to_its_end(sdk: Collector) -> None:
    async for _ in words_async():
        assert penstock.current_span().span_id is None
    await asyncio.to_thread(penstock.flush)
    check(sdk, n_items=3, is_aborted=False)


async def aleave_by_break() -> None:
    async for _ in words_async():
        break
    gc.collect()
    await asyncio.sleep(0.01)  # the loop closes it in a task of its own


async def aleave_by_aclose() -> None:
    stream = words_async()
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]


async def aleave_in_another_task() -> None:
    stream = words_async()
    await anext(stream)
    await asyncio.create_task(stream.aclose())  # type: ignore[attr-defined]


async def aleave_by_aclosing_below_a_span() -> None:
    with penstock.span("elsewhere"):
        async with contextlib.aclosing(words_async()) as stream:  # type: ignore[type-var]
            await anext(stream)
    assert penstock.current_span().span_id is None


async def aleave_by_cancel() -> None:
    started = asyncio.Event()

    async def read() -> None:
        async for _ in words_async():
            started.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(read())
    await started.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    del task
    gc.collect()
    await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "leave",
    [
        aleave_by_break,
        aleave_by_aclose,
        aleave_in_another_task,
        aleave_by_aclosing_below_a_span,
        aleave_by_cancel,
    ],
)
async def test_an_async_generator_that_is_left_ends_its_span_once(
    sdk: Collector, leave: Callable[[], Any]
) -> None:
    await leave()
    await asyncio.to_thread(penstock.flush)
    check(sdk, n_items=1, is_aborted=True)


async def test_steps_in_different_tasks_are_one_stream(sdk: Collector) -> None:
    stream = words_async()
    got = [await asyncio.create_task(anext(stream)) for _ in WORDS]  # type: ignore[arg-type]
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert got == WORDS
    await asyncio.to_thread(penstock.flush)
    check(sdk, n_items=3, is_aborted=False)


async def test_a_step_that_is_cancelled_half_way_ends_the_span(sdk: Collector) -> None:
    @penstock.observe(name="words")
    async def slow() -> AsyncIterator[str]:
        yield "one"
        await asyncio.sleep(60)
        yield "two"

    stream = slow()
    await anext(stream)
    step = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.01)
    step.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await step
    await asyncio.to_thread(penstock.flush)
    check(sdk, n_items=1, is_aborted=True, failed=True)


def test_an_async_generator_without_a_loop_to_close_it_ends_its_span(sdk: Collector) -> None:
    stream = words_async()
    step = anext(stream).__await__()  # type: ignore[attr-defined]
    with contextlib.suppress(StopIteration):
        while True:
            next(step)
    del step, stream
    gc.collect()
    penstock.flush()
    assert sdk.span("words").attributes["stream.aborted"] is True


def test_a_loop_that_ends_closes_what_is_left_open(sdk: Collector) -> None:
    kept = []

    async def main() -> None:
        stream = words_async()
        await anext(stream)
        kept.append(stream)

    asyncio.run(main())
    penstock.flush()
    check(sdk, n_items=1, is_aborted=True)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_async_generator_whose_cleaning_up_cannot_run_ends_its_span(sdk: Collector) -> None:
    @penstock.observe(name="words")
    async def unclean() -> AsyncIterator[str]:
        try:
            yield "one"
        finally:
            await asyncio.sleep(0)  # nobody is there to wait for

    stream = unclean()
    step = anext(stream).__await__()  # type: ignore[attr-defined]
    with pytest.raises(StopIteration):
        next(step)
    del step, stream
    gc.collect()
    penstock.flush()
    check(sdk, n_items=1, is_aborted=True)


def test_a_stream_left_just_before_the_loop_ends_has_not_failed(sdk: Collector) -> None:
    async def main() -> None:
        with penstock.span("outer"):
            async for _ in words_async():
                break  # nothing is awaited after this: the end of the loop cancels what closes the stream

    asyncio.run(main())
    penstock.flush()
    assert not sdk.span("outer").failed
    assert sdk.span("words").parent == sdk.span("outer").id
    check(sdk, n_items=1, is_aborted=True)


async def test_a_stream_whose_closing_is_cancelled_has_not_failed(sdk: Collector) -> None:
    @penstock.observe(name="words")
    async def slow_to_close() -> AsyncIterator[str]:
        try:
            yield "one"
        finally:
            await asyncio.sleep(60)

    stream = slow_to_close()
    await anext(stream)
    closing = asyncio.ensure_future(stream.aclose())  # type: ignore[attr-defined]
    await asyncio.sleep(0.01)
    closing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await closing
    await asyncio.to_thread(penstock.flush)
    check(sdk, n_items=1, is_aborted=True)
