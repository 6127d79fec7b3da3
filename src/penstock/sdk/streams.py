"""Observed generators: the span is current only while the generator runs, never while it waits at a `yield`.

What the body itself put into OpenTelemetry's context is kept from step to step and hidden from whoever reads. The span
ends exactly once: at the end, at an exception, when the reader closes or leaves early, or when nobody holds the generator any
longer (`_Ending`, whose `__del__` runs with the frame), in whichever task or thread that happens.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Generator
from typing import Any, Final

from opentelemetry import context as otel
from opentelemetry.context import Context

from penstock.sdk.observation import NOTHING, Observation, begin, monotonic_s
from penstock.sdk.payloads import capture, open_payload
from penstock.sdk.runtime import RUNTIME
from penstock.sdk.settings import Redaction
from penstock.spec.spans import SpanKind

MAX_ITEMS: Final = 10_000
"""Of a stream that are kept as its output; what comes after is passed on and counted."""
Reduce = Callable[[list[Any]], Any]
_ITEM_BYTES = 64
_STREAM = otel.create_key("penstock-stream")


class Opening:
    """What is known when a generator is made: its span begins with its first step."""

    __slots__ = ("capture", "context", "given", "kind", "name", "redactions", "reduce")

    def __init__(
        self,
        name: str,
        kind: SpanKind,
        redactions: Collection[Redaction],
        *,
        given: Any,
        capture: bool,
        reduce: Reduce | None,
    ) -> None:
        self.name, self.kind, self.redactions = name, kind, redactions
        self.given, self.capture, self.reduce = given, capture, reduce
        self.context = otel.get_current()
        """Where the generator was made: its reader may be somewhere else, such as a web server."""

    def start(self) -> "Stream":
        """Begin the span."""
        observation, inside = begin(self.name, self.kind, self.context, self.redactions)
        if self.given is not None:
            observation.update(input=self.given)
        return Stream(observation, inside, self.capture, self.reduce)


class Stream:
    """A span that is open while a generator is read: steps in and out of its context, gathers what came."""

    __slots__ = (
        "_before",
        "_capture",
        "_inside",
        "_items",
        "_left",
        "_n_items",
        "_reduce",
        "_reserved",
        "_started_s",
        "observation",
    )

    def __init__(
        self, observation: Observation, inside: Context, capture: bool, reduce: Reduce | None
    ) -> None:
        self.observation = observation
        self._inside = otel.set_value(_STREAM, self, inside)
        self._before = inside
        self._capture, self._reduce = capture, reduce
        self._items: list[Any] = []
        self._n_items = 0
        settings = RUNTIME.settings
        self._reserved = 0
        self._left = 0
        if settings is not None:  # what is reduced may be far larger than what comes of it
            whole = settings.max_buffer_bytes // 4
            self._left = settings.max_payload_bytes if reduce is None else whole
        self._started_s = monotonic_s()

    def __enter__(self) -> None:
        if self.observation is not NOTHING:
            self._before = otel.get_current()
            otel.attach(self._inside)

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Put back what was current before the step, where the step's context still is."""
        if self.observation is NOTHING:
            return
        now = otel.get_current()
        # a step that was dropped half done may end in a foreign context
        if otel.get_value(_STREAM, now) is self:
            self._inside = now
            otel.attach(self._before)

    def take(self, item: Any) -> None:
        """Note what is passed on."""
        if self._n_items == 0:
            self.observation.set("gen_ai.response.time_to_first_chunk", monotonic_s() - self._started_s)
        self._n_items += 1
        if not self._capture or self._left <= 0 or self._n_items > MAX_ITEMS or not self.observation.is_open:
            return
        copied, size = capture(item, self._left)
        size += _ITEM_BYTES
        if not self.observation.reserve(size):
            self._left = 0
            self.observation.note_dropped()
            return
        self._left -= size
        self._reserved += size
        self._items.append(copied if self._reduce is None else item)  # copied: kept as it is now

    def finish(self, error: BaseException | None = None, *, is_aborted: bool = False) -> None:
        """End the span, with what came until now as its output."""
        observation = self.observation
        if not observation.is_open:
            return
        if is_aborted or isinstance(error, asyncio.CancelledError):
            observation.set("stream.aborted", True)
        if error is not None:
            observation.fail(error)
        observation.set("stream.items", self._n_items)
        if self._capture:
            output = self._joined()
            observation.give_back(self._reserved)
            observation.update(output=output)
        observation.end()
        self._items = []

    def _joined(self) -> Any:
        items = self._items
        if self._reduce is not None:
            try:
                return self._reduce(items)
            except Exception as error:  # the program's own function; its failure is told instead of its value
                return f"<not reduced: {type(error).__name__}>"
        if items and all(isinstance(item, str) for item in items):
            return "".join(items)
        return [open_payload(item) for item in items]


class _Ending:
    """Lies in a generator's frame: ends its span when the frame goes away without having ended it."""

    __slots__ = ("stream",)

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def __del__(self) -> None:
        self.stream.leave()  # where the frame went away in the middle of a step
        self.stream.finish(is_aborted=True)


def follow(source: Generator[Any, Any, Any], opening: Opening) -> Generator[Any, Any, Any]:
    """Return a generator that does what `source` does, observed (PEP 380, step by step)."""
    stream = opening.start()
    ending = _Ending(stream)
    sent: Any = None
    thrown: BaseException | None = None
    try:
        while True:
            with stream:
                item = source.send(sent) if thrown is None else source.throw(thrown)
            sent, thrown = None, None
            stream.take(item)
            try:
                sent = yield item
            except GeneratorExit:
                with stream:
                    source.close()
                stream.finish(is_aborted=True)
                raise
            except BaseException as error:  # handed to the source, which decides
                thrown = error
    except StopIteration as stop:
        stream.finish()
        return stop.value
    except GeneratorExit:
        raise
    except BaseException as error:
        stream.finish(error)
        raise
    finally:
        del ending


async def follow_async(source: AsyncGenerator[Any, Any], opening: Opening) -> AsyncGenerator[Any, Any]:
    """Return an asynchronous generator that does what `source` does, observed (PEP 525)."""
    stream = opening.start()
    ending = _Ending(stream)
    sent: Any = None
    thrown: BaseException | None = None
    is_left = False
    try:
        while True:
            with stream:
                item = await (source.asend(sent) if thrown is None else source.athrow(thrown))
            sent, thrown = None, None
            stream.take(item)
            try:
                sent = yield item
            except GeneratorExit:
                is_left = True
                with stream:
                    await source.aclose()
                stream.finish(is_aborted=True)
                raise
            except BaseException as error:  # handed to the source, which decides
                thrown = error
    except StopAsyncIteration:
        stream.finish()
    except GeneratorExit:
        raise
    except asyncio.CancelledError as error:
        if (
            is_left or error is thrown
        ):  # whoever read it left, and a loop that ends cancels what closes it: no failure
            stream.finish(is_aborted=True)
        else:
            stream.finish(error)
        raise
    except BaseException as error:
        stream.finish(error)
        raise
    finally:
        del ending
