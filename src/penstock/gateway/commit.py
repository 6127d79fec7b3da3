"""Reads a reply of status 200 up to its commit point, in each of the ways that a reply can be read.

A whole body is committed when it has been understood, a stream at its first content byte. Whatever else it turns out
to be (an error with status 200, a web page, silence, nothing) raises, and another attempt may serve the call.
"""

import re

from penstock.dialects.assembly import assemble, disassemble
from penstock.dialects.registry import DIALECTS
from penstock.gateway.answers import Answer, AttemptFailed
from penstock.gateway.calls import Call
from penstock.gateway.errors import (
    BrokenStream,
    EmptyReply,
    Filtered,
    Overlong,
)
from penstock.gateway.http import JSON
from penstock.gateway.outgoing import Outgoing
from penstock.gateway.table import ReadyTarget
from penstock.gateway.vectors import translate_vectors
from penstock.gateway.verdicts import garbled_reply, judge_error
from penstock.providers.http1 import Connection, Inflater
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

MAX_REPLY_BYTES = 128 * 1024 * 1024
_SHORT_BYTES = 4096
_CHOICES = b'"choices"'
_NOTHING = re.compile(rb"\s*:\s*\[\s*\]")
MAX_UNCOMMITTED_BYTES = 16 * 1024 * 1024
"""Most that is read of a stream before its first content byte."""


async def take_body(call: Call, answer: Answer, request: Outgoing) -> None:
    """Read a whole JSON reply into `answer`, and its usage into `call`."""
    target, connection, envelope = answer.target, answer.connection, call.envelope
    assert connection is not None
    assert envelope is not None
    body = target.mask(await read_all(call, connection, answer.inflater, MAX_REPLY_BYTES))
    content_type, answer.content_type = answer.content_type, JSON[1]
    if request.reading == "vectors":
        _take_vectors(call, answer, body)
        return
    dialect = DIALECTS[call.dialect if request.reading == "same" else target.provider.dialect]
    is_chat = call.operation == "chat"
    try:
        if not body.isascii():
            body.decode("utf-8")  # a client would fail at it, and could not ask anybody else
        answer.usage, answer.reply_model = dialect.read_usage(body)
        usage = answer.usage
        if body.find(b'"error"', 0, 512) >= 0 or usage is None:
            told = dialect.read_error(answer.status, body)
            if told is not None:
                raise judge_error(target, told)
        reply: HubReply | None = None
        wants_hub = request.reading == "hub" or (is_chat and envelope.stream)
        if wants_hub or (is_chat and (usage is None or _looks_empty(body))):
            reply = dialect.read_reply(body)
    except ValueError:
        raise garbled_reply(target, answer.status, content_type, len(body)) from None
    if reply is not None and not any(choice.parts or choice.finish != "unknown" for choice in reply.choices):
        raise _empty(target)
    answer.body = body
    if wants_hub:
        assert reply is not None
        answer.reply = reply
        if envelope.stream:
            answer.is_stream = True
            answer.events = list(disassemble(reply))


def _looks_empty(body: bytes) -> bool:
    if len(body) >= _SHORT_BYTES:
        return False
    at = body.find(_CHOICES)
    while at >= 0:
        at += len(_CHOICES)
        if _NOTHING.match(body, at) is not None:
            return True
        at = body.find(_CHOICES, at)
    return False


def _empty(target: ReadyTarget) -> EmptyReply:
    return EmptyReply(
        f"The provider {target.provider.name!r} answered without a choice.", hint="Send it again."
    )


def _take_vectors(call: Call, answer: Answer, body: bytes) -> None:
    target = answer.target
    try:
        answer.body, answer.usage, answer.reply_model = translate_vectors(call, target, body)
    except ValueError:
        told = DIALECTS[target.provider.dialect].read_error(answer.status, body)
        if told is not None:
            raise judge_error(target, told) from None
        raise garbled_reply(target, answer.status, JSON[1], len(body)) from None


async def read_all(call: Call, connection: Connection, inflater: Inflater | None, limit: int) -> bytes:
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
    if piece is None:
        return answer.rest()
    return answer.take(piece) if piece else piece


async def begin_through(call: Call, answer: Answer) -> None:
    """Take a reply that is passed without being understood: JSON whole, anything else as it comes."""
    connection = answer.connection
    assert connection is not None
    if answer.content_type.startswith((b"application/json", b"text/html")) or not call.endpoint.may_be_binary:
        content_type = answer.content_type
        answer.body = answer.target.mask(await read_all(call, connection, answer.inflater, MAX_REPLY_BYTES))
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


async def begin_same(call: Call, answer: Answer) -> None:
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
    if not scanner.has_content:
        told = scanner.error()
        if told is not None:
            raise judge_error(answer.target, told)
        if call.operation == "chat":
            _need_words(answer.target, DIALECTS[call.dialect].stream_reader().feed(body))
    answer.body = body


async def begin_hub(call: Call, answer: Answer) -> None:
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
    _need_words(target, events)
    if wants_all:
        answer.is_stream = False
        answer.reply = assemble(events, source=target.provider.dialect)
        answer.content_type = JSON[1]
        answer.usage, answer.reply_model = answer.reply.usage, answer.reply.model


def _need_words(target: ReadyTarget, events: list[Event]) -> None:
    """Raise `EmptyReply` for a stream that ends and neither says anything nor why not."""
    if any(is_content(event) and not isinstance(event, End) for event in events):
        return
    for event in events:
        if isinstance(event, Failed):
            raise judge_error(target, event.error)
    raise _empty(target)


async def refuse_filtered(call: Call, answer: Answer) -> None:
    """Raise `AttemptFailed` for a reply that a filter stopped before its first word, since others may give one."""
    dialect = DIALECTS[call.dialect]
    if answer.reply is not None:
        events = list(disassemble(answer.reply))
    elif answer.scanner is not None:
        events = [] if answer.scanner.has_content else dialect.stream_reader().feed(answer.body)
    elif answer.reader is not None:
        events = answer.events
    elif call.operation != "chat":
        return
    else:
        try:
            events = list(disassemble(dialect.read_reply(answer.body)))
        except ValueError:
            raise garbled_reply(answer.target, answer.status, answer.content_type, len(answer.body)) from None
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


def _ended_early(target: ReadyTarget) -> BrokenStream:
    return BrokenStream(
        f"The provider {target.provider.name!r} ended the stream before the reply was complete.",
        hint="Send the request again.",
    )


def _overlong(target: ReadyTarget) -> Overlong:
    return Overlong(
        f"The provider {target.provider.name!r} sent over {MAX_UNCOMMITTED_BYTES} bytes without any content."
    )
