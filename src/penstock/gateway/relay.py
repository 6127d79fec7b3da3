"""Sends a call to its targets and relays what comes back.

Attempts fall back to the next target until the first byte of a reply body is there; after that the reply is
committed. Same dialect on both sides, so bytes pass untouched but for `model` and the request for usage.
"""

import asyncio
import random
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from penstock.base.errors import PenstockError, UpstreamError, UpstreamUnavailable
from penstock.dialects.openai.errors import error_event, has_error_shape
from penstock.dialects.openai.replies import read_reply
from penstock.dialects.openai.splice import ask_for_usage, replace_model
from penstock.dialects.openai.sse import StreamTail, UsageStripper
from penstock.gateway.calls import Call
from penstock.gateway.errors import BrokenStream, GarbledReply, ProviderKeyMissing, ProviderRefusedKey
from penstock.gateway.http import JSON, LONG_BODY_BYTES, Header, Send, send_reply
from penstock.gateway.table import ReadyTarget, header_text
from penstock.providers.errors import CallTimeout
from penstock.providers.http1 import Connection, Inflater
from penstock.providers.transport import Upstreams
from penstock.spec.snapshot import Limits

MAX_TARGETS = 3
MAX_REPLY_BYTES = 256 * 1024 * 1024
_PASSED = frozenset({b"retry-after", b"x-request-id", b"openai-processing-ms", b"openai-version"})
_RETRIED = frozenset({429, 500, 502, 503, 504, 529})
_ERROR_EVENT = re.compile(rb'(?:^|[\r\n])data: ?\{\s*"error"\s*:\s*[{"]')
_PATHS = {"chat": "/chat/completions", "text_completion": "/completions", "embeddings": "/embeddings"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The head of a reply that is going to be relayed, with what has been read of its body."""

    target: ReadyTarget
    connection: Connection
    content_type: bytes
    is_stream: bool
    body: bytes
    """The whole body, or the first piece of a stream."""
    inflater: Inflater | None


class Relay:
    """Serves calls from their targets. One per process, on one event loop."""

    def __init__(self, upstreams: Upstreams, *, rng: random.Random | None = None) -> None:
        self._upstreams = upstreams
        self._rng = rng or random.Random()

    async def serve(self, call: Call, send: Send, limits: Limits) -> None:
        """Answer `call` through `send`. Raises `PenstockError` as long as nothing has been sent."""
        answer = await self._find_answer(call)
        call.target = answer.target
        call.http_status = answer.connection.status
        try:
            if answer.is_stream:
                await self._relay_stream(call, answer, send, limits)
            else:
                await _relay_body(call, answer, send, limits)
        finally:
            self._upstreams.release(answer.target.origin, answer.connection)

    # -- attempts

    async def _find_answer(self, call: Call) -> Answer:
        assert call.route is not None
        targets = call.route.order_targets(self._rng)[:MAX_TARGETS]
        deadline = time.monotonic() + targets[0].provider.timeout_s
        for number, target in enumerate(targets, start=1):
            call.target = target
            call.attempts += 1
            is_last = number == len(targets)
            try:
                answer = await self._attempt(call, target, deadline, is_last=is_last)
            except UpstreamError as error:
                if is_last:
                    raise
                call.failures.append((time.time_ns(), target.provider.name, error.message))
                continue
            if answer is not None:
                return answer
        raise AssertionError("the last attempt answers or raises")

    async def _attempt(
        self, call: Call, target: ReadyTarget, deadline: float, *, is_last: bool
    ) -> Answer | None:
        """Return the answer of one target; None if it is one that another target should better give."""
        if target.missing_env is not None:
            raise ProviderKeyMissing(
                f"The key of provider {target.provider.name!r} is not set.",
                hint=f"Set the environment variable {target.missing_env} for the gateway, then restart it.",
            )
        provider = target.provider
        left_s = min(provider.timeout_s, deadline - time.monotonic())
        if left_s <= 0:
            raise CallTimeout(f"No target answered within {provider.timeout_s:g} s.")
        if len(call.body) > LONG_BODY_BYTES:
            head, body = await asyncio.to_thread(_build_request, call, target)
        else:
            head, body = _build_request(call, target)
        sent_before = call.n_sent

        def note_write() -> None:
            if call.n_sent > sent_before:
                call.attempts += 1
                call.failures.append((time.time_ns(), provider.name, "the kept connection was being closed"))
            call.n_sent += 1

        sent_at = time.perf_counter()
        try:
            connection = await self._upstreams.send(
                target.origin,
                head,
                body,
                connect_s=min(provider.connect_timeout_s, left_s),
                first_byte_s=min(provider.first_byte_timeout_s, left_s),
                whole_s=left_s,
                on_write=note_write,
            )
        finally:
            call.upstream_s += time.perf_counter() - sent_at
        call.n_refused += connection.status >= 400
        try:
            if connection.status in _RETRIED and not is_last:
                reason = f"HTTP status {connection.status}"
                call.failures.append((time.time_ns(), provider.name, reason))
                self._upstreams.release(target.origin, connection)
                return None
            return await _read_answer(call, target, connection)
        except BaseException:
            self._upstreams.release(target.origin, connection)
            raise

    # -- streams

    async def _relay_stream(self, call: Call, answer: Answer, send: Send, limits: Limits) -> None:
        envelope = call.envelope
        assert envelope is not None
        call.streamed = True
        stripper = None if envelope.wants_usage or not envelope.stream else UsageStripper()
        tail = StreamTail()
        kept: list[bytes] = []
        call.output = kept
        room = limits.max_payload_bytes if limits.capture_payloads else 0
        now = time.perf_counter()
        call.ttft_ms = (now - call.started_at) * 1e3
        call.overhead_ms = max(0.0, now - call.started_at - call.upstream_s) * 1e3
        headers = [(b"content-type", answer.content_type), (b"cache-control", b"no-cache")]
        headers += _reply_headers(call, answer)
        await send({"type": "http.response.start", "status": answer.connection.status, "headers": headers})
        connection, inflater = answer.connection, answer.inflater
        piece: bytes | None = answer.body
        failure: PenstockError | None = None
        try:
            while piece is not None:
                call.output_size += len(piece)
                tail.feed(piece)
                if room > 0:
                    kept.append(piece[:room])
                    room -= len(piece)
                out = piece if stripper is None else stripper.feed(piece)
                if out:
                    await send({"type": "http.response.body", "body": out, "more_body": True})
                piece = await connection.next_chunk()
                if piece is not None and inflater is not None:
                    piece = inflater.feed(piece)
        except UpstreamError as error:
            failure = error
        finally:
            call.usage, call.reply_model = tail.find_usage()
        rest = stripper.finish() if stripper is not None else b""
        content = tail.content
        if _ERROR_EVENT.search(content) is not None:
            # the provider has told the client itself; a second event would say less
            call.error_code, call.error_message = "upstream_error_event", "The provider sent an error event."
        elif (failure is not None and not tail.is_done()) or not tail.is_finished():
            broken = BrokenStream(
                f"The provider {answer.target.provider.name!r} ended the stream before the reply was complete.",
                hint="Send the request again.",
                reason=failure.message if failure is not None else None,
            )
            _note_error(call, failure or broken)
            if not content.endswith((b"\n\n", b"\r\r", b"\r\n\r\n")):
                rest += b"\n\n"  # an event that was cut off must not swallow ours
            rest += error_event(broken)
        await send({"type": "http.response.body", "body": rest})


async def _relay_body(call: Call, answer: Answer, send: Send, limits: Limits) -> None:
    body = answer.body
    call.output = body if limits.capture_payloads else None
    call.output_size = len(body)
    call.overhead_ms = max(0.0, time.perf_counter() - call.started_at - call.upstream_s) * 1e3
    headers = [(b"content-type", answer.content_type), *_reply_headers(call, answer)]
    await send_reply(send, answer.connection.status, headers, body)


def _reply_headers(call: Call, answer: Answer) -> list[Header]:
    headers = [
        (b"x-penstock-trace-id", call.trace_id.encode()),
        *answer.target.reply_headers,
        (b"x-penstock-attempts", b"%d" % call.attempts),
        (b"x-penstock-overhead-ms", b"%.3f" % (call.overhead_ms or 0.0)),
    ]
    for header in answer.connection.headers:
        name = header[0]
        if name in _PASSED or name.startswith(b"x-ratelimit-"):
            headers.append(header)
    return headers


def _note_error(call: Call, error: PenstockError) -> None:
    call.error_code, call.error_message = error.code, error.message


def _build_request(call: Call, target: ReadyTarget) -> tuple[bytes, bytes]:
    envelope, body = call.envelope, call.body
    assert envelope is not None
    if target.model != envelope.model:
        body = replace_model(body, target.model)
    may_ask = target.provider.stream_usage and call.operation != "embeddings"
    if envelope.stream and may_ask and not envelope.wants_usage:
        body = ask_for_usage(body, envelope)
    head = target.heads[_PATHS[call.operation]]
    if not target.provider.local:
        return b"%bcontent-length: %d\r\n\r\n" % (head, len(body)), body
    lines = [head, b"traceparent: 00-%b-%b-01\r\n" % (call.trace_id.encode(), call.span_id.encode())]
    if call.session:
        lines.append(b"x-penstock-session: " + header_text(call.session) + b"\r\n")
    if call.user:
        lines.append(b"x-penstock-user: " + header_text(call.user) + b"\r\n")
    lines.append(b"content-length: %d\r\n\r\n" % len(body))
    return b"".join(lines), body


async def _read_answer(call: Call, target: ReadyTarget, connection: Connection) -> Answer:
    """Read the whole body, or the first piece of a stream; raise for replies that cannot be passed on."""
    content_type, encoding = b"", b""
    for name, value in connection.headers:
        if name == b"content-type":
            content_type = value
        elif name == b"content-encoding":
            encoding = value.lower()
    inflater = _inflater(target, encoding)
    is_stream = content_type.startswith(b"text/event-stream") and 200 <= connection.status < 300
    waited_from = time.perf_counter()
    try:
        if is_stream:
            body = await connection.next_chunk() or b""
        else:
            body = await connection.read_all(MAX_REPLY_BYTES)
    finally:
        call.upstream_s += time.perf_counter() - waited_from
    if inflater is not None:
        body = inflater.feed(body)
    if not is_stream:
        body = _check_body(call, target, connection.status, content_type, body)
        content_type = JSON[1]
    return Answer(
        target=target,
        connection=connection,
        content_type=content_type,
        is_stream=is_stream,
        body=body,
        inflater=inflater,
    )


def _inflater(target: ReadyTarget, encoding: bytes) -> Inflater | None:
    if encoding in (b"", b"identity"):
        return None
    if encoding in (b"gzip", b"deflate", b"x-gzip"):
        return Inflater(target.origin.host, MAX_REPLY_BYTES)
    raise GarbledReply(
        f"The provider {target.provider.name!r} sent a reply in the encoding {header_text(encoding.decode('latin-1')).decode()!r}."
    )


def _check_body(call: Call, target: ReadyTarget, status: int, content_type: bytes, body: bytes) -> bytes:
    """Return the body to pass on, and note usage, model and failure in the call."""
    if 200 <= status < 300:
        reply = read_reply(body)
        if reply is None:
            raise _garbled(target, status, content_type, body)
        call.usage, call.reply_model = reply.usage, reply.model
        return body
    if status == 401:
        variable = target.provider.api_key_env
        raise ProviderRefusedKey(
            f"The provider {target.provider.name!r} does not accept the key it was sent (HTTP 401).",
            hint=f"Check the environment variable {variable}." if variable else None,
            upstream_status=status,
        )
    if has_error_shape(body):
        call.error_code = f"upstream_{status}"
        call.error_message = f"The provider answered with HTTP status {status}."
        return body
    if status >= 400 and (text := _detail(body)) is not None:
        shown = f"The provider {target.provider.name!r} answered HTTP {status}: {text}"
        raise _StatusError(shown, status=status)
    raise _garbled(target, status, content_type, body)


class _StatusError(UpstreamUnavailable):
    """A refusal of the provider in a shape of its own, passed on with its status."""

    code = "PS-4606"

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message, upstream_status=status)
        self.status = status  # type: ignore[misc]  # the class says what is usual, the instance what was sent


def _detail(body: bytes) -> str | None:
    """Return the text in which servers that do not speak OpenAI's shape say what is wrong."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    for name in ("message", "detail", "error"):
        text = found.get(name)
        if text:
            return (text if isinstance(text, str) else str(text))[:500]
    return None


def _garbled(
    target: ReadyTarget, status: int, content_type: bytes, body: Sequence[int] | bytes
) -> GarbledReply:
    kind = header_text(content_type.decode("latin-1")).decode() or "no content type"
    return GarbledReply(
        f"The provider {target.provider.name!r} answered HTTP {status} with something that is not a JSON object "
        f"({kind[:80]}, {len(body)} bytes).",
        hint="Check the provider's base_url, or whether a proxy stands in between.",
        upstream_status=status,
    )
