"""Moves a committed answer to the client: the provider's bytes where both speak the same dialect, else through the hub.

From the first byte on there is no way back: what goes wrong now is told at the end of the stream, as the client's
dialect tells errors. A client that waits long between two events gets comments, so that nothing on the way hangs up.
"""

import asyncio
import time
from collections.abc import Sequence

from penstock.base.errors import PenstockError, UpstreamError
from penstock.base.logs import redact
from penstock.dialects.openai.sse import UsageStripper
from penstock.dialects.port import StreamWriter
from penstock.dialects.registry import DIALECTS
from penstock.gateway.answers import Answer, AttemptFailed
from penstock.gateway.calls import Call
from penstock.gateway.error_replies import to_hub_error, write_error_end
from penstock.gateway.errors import BrokenStream, ShutDown
from penstock.gateway.http import JSON, Header, Send, send_reply
from penstock.gateway.outgoing import client_dialect, read_hub_request
from penstock.gateway.table import header_text
from penstock.spec.callers import KNOWLEDGE_HEADER
from penstock.spec.hub import End, Event, Failed, Start, UsageSeen
from penstock.spec.rendering import (
    PROMPT_IDS_ATTRIBUTE,
    PROMPT_IDS_HEADER,
    RENDERER_ATTRIBUTE,
    RENDERER_HEADER,
)
from penstock.spec.snapshot import Limits

_PASSED = frozenset(
    {
        b"retry-after",
        b"x-request-id",
        b"request-id",
        b"openai-processing-ms",
        b"openai-version",
        b"x-amzn-requestid",
        b"x-amzn-errortype",
    }
)
_KNOWLEDGE = KNOWLEDGE_HEADER.encode()
_RENDERING = {
    RENDERER_HEADER.encode(): RENDERER_ATTRIBUTE,
    PROMPT_IDS_HEADER.encode(): PROMPT_IDS_ATTRIBUTE,
}
_MAX_DIGEST_CHARS = 80
_PASSED_FAMILIES = (b"x-ratelimit-", b"anthropic-ratelimit-")
_KEEP_ALIVE = b": keep-alive\n\n"
_BORDERS = (b"\n\n", b"\r\n\r\n", b"\r\r")
_LAST_WORD_S = 1.0
_SSE = b"text/event-stream"


async def relay_answer(call: Call, answer: Answer, send: Send, limits: Limits) -> None:
    """Give `answer` to the client. Raises `PenstockError` only before anything was sent."""
    call.target = answer.target
    call.http_status = answer.status
    call.usage, call.reply_model = answer.usage, answer.reply_model
    call.dropped = answer.dropped
    if answer.target.provider.local:
        call.rendered = _read_rendering(answer.headers)
    try:
        if not answer.is_stream:
            await send_reply(send, answer.status, *_write_body(call, answer, limits))
        elif answer.reader is not None or answer.events:
            await _Streaming(call, answer, send, limits).translate()
        else:
            await _Streaming(call, answer, send, limits).pass_on()
    finally:
        answer.release()


def _read_rendering(headers: Sequence[Header]) -> dict[str, str]:
    """Return what an engine of ours says of the tokens it evaluated; nobody else is believed."""
    return {
        _RENDERING[name]: value.decode("latin-1")[:_MAX_DIGEST_CHARS]
        for name, value in headers
        if name in _RENDERING
    }


async def relay_failure(call: Call, failed: AttemptFailed, send: Send, limits: Limits) -> None:
    """Tell the client what the last provider said; raise the attempt's error if there is nothing of it to show."""
    answer = failed.answer
    if answer is not None and answer.status < 400:  # a reply without a word is better than none
        if answer.record is not None:
            answer.record.outcome = "served"
        await relay_answer(call, answer, send, limits)
        return
    if answer is None:
        if failed.retry_after_s is not None:
            failed.error.fields.setdefault("retry_after_s", failed.retry_after_s)
        raise failed.error
    call.target = answer.target
    call.http_status = answer.status
    call.error_code = f"upstream_{answer.status}"
    call.error_message = f"The provider answered with HTTP status {answer.status}."
    await send_reply(send, answer.status, *_write_body(call, answer, limits))


def _write_body(call: Call, answer: Answer, limits: Limits) -> tuple[list[Header], bytes]:
    """Return what the client gets of a reply that is whole."""
    body = answer.body
    if answer.reply is not None:
        assert call.envelope is not None
        body = DIALECTS[call.dialect].write_reply(
            answer.reply, model=call.envelope.model, request=read_hub_request(call)
        )
    call.output = body if captures(call, limits) and answer.content_type == JSON[1] else None
    call.output_size = len(body)
    call.note_overhead()
    return [(b"content-type", answer.content_type), *reply_headers(call, answer)], body


def captures(call: Call, limits: Limits) -> bool:
    """Return whether what is asked and answered is to be kept with the record of a call."""
    return limits.captures(call.key.project if call.key is not None else "default")


def reply_headers(call: Call, answer: Answer) -> list[Header]:
    """Return what every reply of a provider is sent with, beside its content type."""
    headers = [
        (b"x-penstock-trace-id", call.trace_id.encode()),
        *answer.target.reply_headers,
        (b"x-penstock-attempts", b"%d" % call.attempts),
        (b"x-penstock-overhead-ms", b"%.3f" % (call.overhead_ms or 0.0)),
    ]
    if call.extra_headers:
        headers += call.extra_headers
    if call.dropped and call.route is not None and call.route.route.on_loss == "warn":
        headers.append((b"x-penstock-dropped", header_text(", ".join(call.dropped)[:1000])))
    if call.warnings:
        headers += [(b"x-penstock-warning", header_text(text[:500])) for text in call.warnings]
    if call.cache_state is not None:
        headers.append((b"x-penstock-cache", call.cache_state.encode()))
    passed = [
        header for header in answer.headers if header[0] in _PASSED or header[0].startswith(_PASSED_FAMILIES)
    ]
    if answer.target.is_app:
        passed += [header for header in answer.headers if header[0] == _KNOWLEDGE]
    if passed:
        own = {name for name, _ in call.extra_headers}
        headers += [header for header in passed if header[0] not in own]
    return headers


class _Streaming:
    """One stream on its way to the client."""

    def __init__(self, call: Call, answer: Answer, send: Send, limits: Limits) -> None:
        assert call.envelope is not None
        self._call = call
        self._answer = answer
        self._send = send
        self._kept: list[bytes] = []
        self._room = limits.max_payload_bytes if captures(call, limits) else 0
        self._model = call.envelope.model
        self._at_border = True
        self._last = b""
        self._content_type = answer.content_type
        call.streamed = True
        call.output = self._kept

    async def _begin(self) -> None:
        call = self._call
        call.ttft_ms = (time.perf_counter() - call.started_at) * 1e3
        call.note_overhead()
        headers = [(b"content-type", self._content_type), (b"cache-control", b"no-cache")]
        headers += reply_headers(call, self._answer)
        await self._send({"type": "http.response.start", "status": self._answer.status, "headers": headers})

    def _keep(self, piece: bytes) -> None:
        self._call.output_size += len(piece)
        if self._room > 0:
            self._kept.append(piece[: self._room])
            self._room -= len(piece)

    async def _say_nothing(self) -> None:
        """Let a silent stream be seen to live, where a comment cannot fall into the middle of an event."""
        if self._at_border and self._content_type.startswith(_SSE):
            await self._send({"type": "http.response.body", "body": _KEEP_ALIVE, "more_body": True})

    # -- the same dialect

    async def pass_on(self) -> None:
        """Send the provider's bytes as they come; take out the usage that only the gateway asked for."""
        call, scanner = self._call, self._answer.scanner
        stripper = self._stripper()
        await self._begin()
        failure: PenstockError | None = None
        try:
            await self._pass_pieces(stripper)
        except UpstreamError as error:
            failure = error
        except asyncio.CancelledError:
            if not call.client_left:
                await self._say_goodbye()
            raise
        finally:
            if scanner is not None:
                call.usage, call.reply_model = scanner.usage(), scanner.model()
                call.is_whole = scanner.is_finished()
        rest = stripper.finish() if stripper is not None else b""
        if scanner is None:
            if failure is not None:
                self._note_break(failure.code, failure.message)
                raise failure  # bytes without a language for errors: only a broken connection says it
            call.is_whole = True
        elif (told := scanner.error()) is not None:
            # the provider has told the client itself; a second event would say less
            self._note_break("upstream_error_event", redact(told.message[:500]))
        elif not call.is_whole:
            rest += self._end_broken(failure)
        await self._send({"type": "http.response.body", "body": rest})

    def _stripper(self) -> UsageStripper | None:
        envelope = self._call.envelope
        assert envelope is not None
        is_chat = self._call.dialect == "openai" and self._answer.scanner is not None
        return UsageStripper() if is_chat and envelope.stream and not envelope.wants_usage else None

    async def _pass_pieces(self, stripper: UsageStripper | None) -> None:
        answer, send = self._answer, self._send
        connection, scanner = answer.connection, answer.scanner
        piece: bytes | None = answer.body  # the scanner has seen this one
        while piece is not None:
            if piece:
                self._last = piece
                self._keep(piece)
                out = piece if stripper is None else stripper.feed(piece)
                if out:
                    await send({"type": "http.response.body", "body": out, "more_body": True})
                    self._at_border = out.endswith(_BORDERS)
            else:
                await self._say_nothing()
            piece = await connection.next_chunk() if connection is not None else None
            if piece != b"":
                piece = answer.rest() if piece is None else answer.take(piece)
                if scanner is not None and piece:
                    scanner.feed(piece)

    def _end_broken(self, failure: PenstockError | None) -> bytes:
        broken = BrokenStream(
            f"The provider {self._answer.target.provider.name!r} ended the stream before the reply was complete.",
            hint="Send the request again.",
            reason=failure.message if failure is not None else None,
        )
        self._note_break((failure or broken).code, (failure or broken).message)
        return self._error_end(broken)

    def _note_break(self, code: str, message: str) -> None:
        """Note that the stream broke: its target began well and did not go on. Whether a client left is another matter."""
        call, lease = self._call, self._answer.lease
        call.is_whole = False
        call.error_code, call.error_message = code, message
        if lease is not None:
            lease.fail("server-error")

    def _error_end(self, error: PenstockError) -> bytes:
        end = write_error_end(client_dialect(self._call), error, self._model)
        if self._content_type.startswith(_SSE) and not self._last.endswith(_BORDERS):
            return b"\n\n" + end  # an event that was cut off must not swallow ours
        return end

    async def _say_goodbye(self) -> None:
        """The gateway stops: tell the client that this is not the end of its reply."""
        end = self._error_end(ShutDown())
        try:
            async with asyncio.timeout(_LAST_WORD_S):
                await self._send({"type": "http.response.body", "body": end})
        except (TimeoutError, OSError):
            return

    # -- another dialect

    async def translate(self) -> None:
        call, answer, send = self._call, self._answer, self._send
        client = client_dialect(call)
        self._content_type = client.stream_content_type
        writer = client.stream_writer(model=self._model, request=read_hub_request(call))
        await self._begin()
        failure: PenstockError | None = None
        ended: End | None = None
        told: Failed | None = None
        events: Sequence[Event] | None = answer.events
        try:
            while events is not None:
                for event in events:
                    if isinstance(event, Start | UsageSeen):
                        self._note(event)
                    elif isinstance(event, Failed):
                        told = event
                    elif isinstance(event, End):
                        ended = event
                        call.is_whole = event.complete
                # how it ends is said below, where also a lost connection is known
                await self._write(writer, [event for event in events if not isinstance(event, Failed | End)])
                events = await self._next_events() if ended is None and told is None else None
        except UpstreamError as error:
            failure = error
        except asyncio.CancelledError:
            if not call.client_left:
                await self._fail(writer, ShutDown())
            raise
        if told is not None:
            self._note_break("upstream_error_event", redact(told.error.message[:500]))
            await send({"type": "http.response.body", "body": writer.fail(told.error)})
        elif failure is not None or ended is None or not ended.complete:
            broken = BrokenStream(
                f"The provider {answer.target.provider.name!r} ended the stream before the reply was complete.",
                hint="Send the request again.",
                reason=failure.message if failure is not None else None,
            )
            self._note_break((failure or broken).code, (failure or broken).message)
            await self._fail(writer, broken)
        else:
            rest = writer.write([ended])
            self._keep(rest)
            await send({"type": "http.response.body", "body": rest})

    async def _write(self, writer: StreamWriter, events: list[Event]) -> None:
        piece = writer.write(events) if events else b""
        if piece:
            self._keep(piece)
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def _fail(self, writer: StreamWriter, error: PenstockError) -> None:
        try:
            async with asyncio.timeout(_LAST_WORD_S):
                await self._send({"type": "http.response.body", "body": writer.fail(to_hub_error(error))})
        except (TimeoutError, OSError):
            return

    async def _next_events(self) -> list[Event]:
        """Return what the next bytes say; the last events at the end of the connection."""
        answer = self._answer
        reader, connection = answer.reader, answer.connection
        if reader is None:
            return [End(complete=True)]
        assert connection is not None
        piece = await connection.next_chunk()
        if piece is None:
            rest = answer.rest()
            return reader.finish() if rest is None else [*reader.feed(rest), *reader.finish()]
        if not piece:
            await self._say_nothing()
            return []
        return reader.feed(answer.take(piece))

    def _note(self, event: Start | UsageSeen) -> None:
        if isinstance(event, UsageSeen):
            self._call.usage = event.usage
        else:
            self._call.reply_model = event.model
            self._call.usage = event.usage or self._call.usage
