"""One attempt: sends a call to one target and reads the reply up to the commit point.

A reply is committed when it is certain to be a good one: its whole body is there, or the first content byte of its
stream. Whatever goes wrong earlier raises `AttemptFailed`, and another attempt may serve the call.
"""

import asyncio
import time
from collections.abc import Callable

from penstock.base.errors import PenstockError
from penstock.dialects.assembly import assemble, disassemble
from penstock.dialects.gemini.dialect import GEMINI_ARRAY
from penstock.dialects.registry import DIALECTS
from penstock.gateway.answers import Answer, AttemptFailed
from penstock.gateway.calls import AttemptRecord, Call
from penstock.gateway.errors import (
    BrokenStream,
    EmptyReply,
    Filtered,
    GarbledReply,
    Overlong,
    ProviderKeyMissing,
)
from penstock.gateway.http import JSON, LONG_BODY_BYTES
from penstock.gateway.outgoing import Outgoing, client_dialect, write_outgoing
from penstock.gateway.table import ReadyTarget, header_text
from penstock.gateway.vectors import translate_vectors
from penstock.gateway.verdicts import NEVER_S, fault_of, garbled_reply, judge_error, judge_status
from penstock.providers.errors import CallTimeout
from penstock.providers.http1 import Connection, Inflater
from penstock.providers.transport import Upstreams
from penstock.spec.hub import (
    End,
    Event,
    Failed,
    FinishSeen,
    HubReply,
    PartDelta,
    PartStart,
    Refusal,
    Text,
    Thinking,
)
from penstock.spec.routes import FaultKind

MAX_REPLY_BYTES = 128 * 1024 * 1024
MAX_ERROR_BYTES = 1024 * 1024
MAX_UNCOMMITTED_BYTES = 16 * 1024 * 1024
"""Most that is read of a stream before its first content byte."""
KEEP_ALIVE_S = 15.0
_EVENT_STREAMS = (b"text/event-stream", b"application/vnd.amazon.eventstream")


class Exchange:
    """Makes attempts. One per process, on one event loop."""

    def __init__(
        self,
        upstreams: Upstreams,
        *,
        now_s: Callable[[], float] = time.time,
        keep_alive_s: float = KEEP_ALIVE_S,
        begin: Callable[[Call, AttemptRecord], None] = lambda _call, _record: None,
    ) -> None:
        """`begin` is called each time before a request is written, so that what may cost money is on record."""
        self._begin = begin
        self._upstreams = upstreams
        self._now_s = now_s
        self._keep_alive_s = keep_alive_s

    async def attempt(self, call: Call, target: ReadyTarget, deadline: float) -> Answer:
        """Return the committed answer of `target`; raise `AttemptFailed` before `deadline` (`time.monotonic`).

        Counts the attempt in `call` and logs it there. Cancelling closes the connection to the provider.
        """
        record = AttemptRecord(target)
        call.attempt_log.append(record)
        call.attempts += 1
        call.target = target
        began = time.perf_counter()
        try:
            answer = await self._ask(call, target, deadline, record)
        except AttemptFailed as failed:
            _note_failure(record, failed.error, "refused" if (record.status or 0) >= 400 else "failed")
            record.fault = failed.fault
            raise
        except PenstockError as error:
            _note_failure(record, error, "failed")
            record.fault = fault_of(error)
            raise AttemptFailed(error, fault=record.fault, was_sent=record.sent_ns is not None) from error
        except BaseException:
            record.outcome = "abandoned"
            raise
        finally:
            record.took_s = time.perf_counter() - began
        record.outcome = "served"
        record.first_content_s = record.took_s
        answer.record = record
        return answer

    async def _ask(self, call: Call, target: ReadyTarget, deadline: float, record: AttemptRecord) -> Answer:
        provider = target.provider
        if target.missing_env is not None:
            missing = ProviderKeyMissing(
                f"The key of provider {provider.name!r} is not set.",
                hint=f"Set the environment variable {target.missing_env} for the gateway, then restart it."
                if provider.secret is None
                else f"The secret {provider.secret!r} could not be opened; the gateway's log says why.",
            )
            raise AttemptFailed(missing, fault="server-error", retry_after_s=NEVER_S)
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise CallTimeout(f"No target answered within {provider.timeout_s:g} s.")
        if len(call.body) > LONG_BODY_BYTES:
            request = await asyncio.to_thread(write_outgoing, call, target)
        else:
            request = write_outgoing(call, target)
        head = request.head
        if target.signer is not None:
            head = await self._sign(target, request)
        call.begin_wait()
        try:
            connection = await self._upstreams.send(
                target.origin,
                head + b"\r\n",
                request.body,
                connect_s=min(provider.connect_timeout_s, left_s),
                first_byte_s=min(provider.first_byte_timeout_s, left_s),
                whole_s=left_s,
                on_write=self._write_noter(call, record),
            )
        finally:
            call.end_wait()
        record.status = connection.status
        try:
            return await self._read(call, target, connection, request)
        except BaseException:
            self._upstreams.release(target.origin, connection)
            raise

    def _write_noter(self, call: Call, record: AttemptRecord) -> Callable[[], None]:
        def note_write() -> None:
            if record.sent_ns is not None:
                call.attempts += 1
                again = AttemptRecord(record.target)
                again.started_ns, again.sent_ns, again.outcome = record.started_ns, record.sent_ns, "refused"
                again.message = "the kept connection was being closed"
                call.attempt_log.insert(-1, again)
            record.sent_ns = time.time_ns()
            call.n_sent += 1
            self._begin(call, record)

        return note_write

    async def _sign(self, target: ReadyTarget, request: Outgoing) -> bytes:
        assert target.signer is not None
        headers = await target.signer.headers(
            b"POST",
            target.origin.authority.encode("ascii"),
            target.request_target(request.path),
            request.body,
            self._now_s(),
        )
        return request.head + b"".join(b"%b: %b\r\n" % header for header in headers)

    async def _read(
        self, call: Call, target: ReadyTarget, connection: Connection, request: Outgoing
    ) -> Answer:
        status = connection.status
        content_type, encoding = b"", b""
        for name, value in connection.headers:
            if name == b"content-type":
                content_type = value
            elif name == b"content-encoding":
                encoding = value.lower()
        inflater = _inflater(target, encoding)
        if not connection.is_complete:
            connection.watch_silence(target.provider.idle_timeout_s, self._keep_alive_s)
        if not 200 <= status < 300:
            body = await _read_all(call, connection, inflater, MAX_ERROR_BYTES)
            if status < 400:
                raise garbled_reply(target, status, content_type, len(body))
            call.n_refused += 1
            raise judge_status(call, target, status, connection.headers, body, now_s=self._now_s())
        answer = Answer(
            target,
            status=status,
            headers=connection.headers,
            content_type=content_type,
            connection=connection,
            upstreams=self._upstreams,
            inflater=inflater,
        )
        answer.dropped = request.dropped
        reading = request.reading
        if reading == "through":
            await _begin_through(call, answer)
        elif content_type.startswith(_EVENT_STREAMS) or (
            reading == "same" and client_dialect(call) is GEMINI_ARRAY
        ):
            answer.is_stream = True
            if reading == "same":
                await _begin_same(call, answer)
            else:
                await _begin_hub(call, answer)
        else:
            await _take_body(call, answer, request)
        if request.reading in ("same", "hub") and _wants_fault(call, "content-filter"):
            await _refuse_filtered(call, answer)
        return answer


# -- bodies


async def _take_body(call: Call, answer: Answer, request: Outgoing) -> None:
    """Read a whole JSON reply into `answer`, and its usage into `call`."""
    target, connection, envelope = answer.target, answer.connection, call.envelope
    assert connection is not None
    assert envelope is not None
    body = await _read_all(call, connection, answer.inflater, MAX_REPLY_BYTES)
    content_type, answer.content_type = answer.content_type, JSON[1]
    if request.reading == "vectors":
        _take_vectors(call, answer, body)
        return
    dialect = DIALECTS[call.dialect if request.reading == "same" else target.provider.dialect]
    is_chat = call.operation == "chat"
    try:
        usage, model = dialect.read_usage(body)
        if b'"error"' in body[:512] or usage is None:
            told = dialect.read_error(answer.status, body)
            if told is not None:
                raise judge_error(target, told)
        reply: HubReply | None = None
        wants_hub = request.reading == "hub" or (is_chat and envelope.stream)
        if wants_hub or (is_chat and usage is None):
            reply = dialect.read_reply(body)
    except ValueError:
        raise garbled_reply(target, answer.status, content_type, len(body)) from None
    if reply is not None and not any(choice.parts or choice.finish != "unknown" for choice in reply.choices):
        raise EmptyReply(
            f"The provider {target.provider.name!r} answered without a choice.", hint="Send it again."
        )
    answer.usage, answer.reply_model = usage, model
    answer.body = body
    if wants_hub:
        assert reply is not None
        answer.reply = reply
        if envelope.stream:
            answer.is_stream = True
            answer.events = list(disassemble(reply))


def _take_vectors(call: Call, answer: Answer, body: bytes) -> None:
    target = answer.target
    try:
        answer.body, answer.usage, answer.reply_model = translate_vectors(call, target, body)
    except ValueError:
        told = DIALECTS[target.provider.dialect].read_error(answer.status, body)
        if told is not None:
            raise judge_error(target, told) from None
        raise garbled_reply(target, answer.status, JSON[1], len(body)) from None


async def _read_all(call: Call, connection: Connection, inflater: Inflater | None, limit: int) -> bytes:
    if connection.is_complete:
        body = await connection.read_all(limit)
    else:
        call.begin_wait()
        try:
            body = await connection.read_all(limit)
        finally:
            call.end_wait()
    return body if inflater is None else inflater.feed(body)


# -- streams


async def _next_piece(call: Call, answer: Answer) -> bytes | None:
    connection = answer.connection
    assert connection is not None
    call.begin_wait()
    try:
        piece = await connection.next_chunk()
    finally:
        call.end_wait()
    if piece and answer.inflater is not None:
        return answer.inflater.feed(piece)
    return piece


async def _begin_through(call: Call, answer: Answer) -> None:
    """Take a reply that is passed without being understood: JSON whole, anything else as it comes."""
    connection = answer.connection
    assert connection is not None
    if answer.content_type.startswith((b"application/json", b"text/html")) or not call.endpoint.may_be_binary:
        content_type = answer.content_type
        answer.body = await _read_all(call, connection, answer.inflater, MAX_REPLY_BYTES)
        answer.content_type = JSON[1]
        try:
            answer.usage, answer.reply_model = DIALECTS["openai"].read_usage(answer.body)
        except ValueError:
            raise garbled_reply(answer.target, answer.status, content_type, len(answer.body)) from None
        told = DIALECTS["openai"].read_error(answer.status, answer.body) if answer.usage is None else None
        if told is not None:
            raise judge_error(answer.target, told)
        return
    answer.is_stream = True
    while (piece := await _next_piece(call, answer)) is not None:
        if piece:
            answer.body = piece
            return
    raise EmptyReply(f"The provider {answer.target.provider.name!r} answered with an empty body.")


async def _begin_same(call: Call, answer: Answer) -> None:
    """Read a stream of the client's own dialect up to its first content byte."""
    scanner = answer.scanner = DIALECTS[call.dialect].scanner()
    body = b""
    while not (scanner.has_content or scanner.is_finished()):
        told = scanner.error()
        if told is not None:
            raise judge_error(answer.target, told)
        piece = await _next_piece(call, answer)
        if piece is None:
            raise _ended_early(answer.target)
        scanner.feed(piece)
        body = body + piece if body else piece
        if len(body) > MAX_UNCOMMITTED_BYTES:
            raise _overlong(answer.target)
    if not scanner.has_content and (told := scanner.error()) is not None:
        raise judge_error(answer.target, told)
    answer.body = body


async def _begin_hub(call: Call, answer: Answer) -> None:
    """Read a stream of another dialect up to its first content; or to its end where the client wants one body."""
    target = answer.target
    reader = answer.reader = DIALECTS[target.provider.dialect].stream_reader()
    assert call.envelope is not None
    wants_all = not call.envelope.stream
    events = answer.events
    n_bytes = 0
    is_committed = False
    while wants_all or not is_committed:
        piece = await _next_piece(call, answer)
        new = reader.finish() if piece is None else reader.feed(piece)
        for event in new:
            if isinstance(event, Failed) and (wants_all or not is_committed):
                raise judge_error(target, event.error)
            if isinstance(event, End) and not event.complete and (wants_all or not is_committed):
                raise _ended_early(target)
            is_committed = is_committed or is_content(event)
        events += new
        if piece is None:
            break
        n_bytes += len(piece)
        if n_bytes > (MAX_REPLY_BYTES if wants_all else MAX_UNCOMMITTED_BYTES):
            raise _overlong(target)
    if wants_all:
        answer.is_stream = False
        answer.reply = assemble(events, source=target.provider.dialect)
        answer.content_type = JSON[1]
        answer.usage, answer.reply_model = answer.reply.usage, answer.reply.model


def _wants_fault(call: Call, fault: FaultKind) -> bool:
    return call.route is not None and fault in call.route.watched_faults


async def _refuse_filtered(call: Call, answer: Answer) -> None:
    """Raise `AttemptFailed` for a reply that a filter stopped before its first word, since others may give one."""
    dialect = DIALECTS[call.dialect]
    if answer.reply is not None:
        events = list(disassemble(answer.reply))
    elif answer.scanner is not None:
        events = [] if answer.scanner.has_content else dialect.stream_reader().feed(answer.body)
    elif answer.reader is not None:
        events = answer.events
    else:
        events = list(disassemble(dialect.read_reply(answer.body))) if call.operation == "chat" else []
    finishes = [event.finish for event in events if isinstance(event, FinishSeen)]
    said = [event for event in events if not isinstance(event, FinishSeen | End) and is_content(event)]
    if said or not finishes or any(finish != "content_filter" for finish in finishes):
        return
    if answer.is_stream:
        await _read_rest(call, answer)
    answer.connection = None
    filtered = Filtered(
        f"The content filter of the provider {answer.target.provider.name!r} stopped the reply.",
        hint="Rephrase the request.",
    )
    raise AttemptFailed(filtered, fault="content-filter", answer=answer, was_sent=True)


async def _read_rest(call: Call, answer: Answer) -> None:
    """Read a stream that has ended but for its last events, so that it can be kept without its connection."""
    while (piece := await _next_piece(call, answer)) is not None and len(answer.body) < MAX_UNCOMMITTED_BYTES:
        if answer.reader is not None:
            answer.events += answer.reader.feed(piece)
        elif answer.scanner is not None:
            answer.body += piece
            answer.scanner.feed(piece)
    if answer.reader is not None:
        answer.events += answer.reader.finish()
        answer.reader = None


def is_content(event: Event) -> bool:
    """Return whether a client that sees `event` has begun to get its answer."""
    if isinstance(event, PartDelta):
        return bool(event.text or event.signature or event.extra or event.sealed)
    if isinstance(event, PartStart):
        part = event.part
        return bool(part.text) if isinstance(part, Text | Thinking | Refusal) else True
    return isinstance(event, FinishSeen | End)


# -- failures


def _note_failure(record: AttemptRecord, error: PenstockError, outcome: str) -> None:
    record.outcome = "refused" if outcome == "refused" else "failed"
    record.error_code, record.message = error.code, error.message


def _inflater(target: ReadyTarget, encoding: bytes) -> Inflater | None:
    if encoding in (b"", b"identity"):
        return None
    if encoding in (b"gzip", b"deflate", b"x-gzip"):
        return Inflater(target.origin.host, MAX_REPLY_BYTES)
    shown = header_text(encoding.decode("latin-1")).decode()
    raise GarbledReply(f"The provider {target.provider.name!r} sent a reply in the encoding {shown!r}.")


def _ended_early(target: ReadyTarget) -> BrokenStream:
    return BrokenStream(
        f"The provider {target.provider.name!r} ended the stream before the reply was complete.",
        hint="Send the request again.",
    )


def _overlong(target: ReadyTarget) -> Overlong:
    return Overlong(
        f"The provider {target.provider.name!r} sent over {MAX_UNCOMMITTED_BYTES} bytes without any content."
    )
