"""One attempt: sends a call to one target and reads the reply up to the commit point.

A reply is committed when it is certain to be a good one: its whole body is there, or the first content byte of its
stream. Whatever goes wrong earlier raises `AttemptFailed`, and another attempt may serve the call.
"""

import asyncio
import time
from collections.abc import Callable

from penstock.base.errors import PenstockError
from penstock.base.logs import redact
from penstock.dialects.gemini.dialect import GEMINI_ARRAY
from penstock.gateway.answers import Answer, AttemptFailed
from penstock.gateway.calls import AttemptRecord, Call
from penstock.gateway.commit import (
    MAX_REPLY_BYTES,
    begin_hub,
    begin_same,
    begin_through,
    read_all,
    refuse_filtered,
    take_body,
)
from penstock.gateway.errors import (
    GarbledReply,
    ProviderKeyMissing,
)
from penstock.gateway.http import LONG_BODY_BYTES
from penstock.gateway.outgoing import Outgoing, client_dialect, write_outgoing
from penstock.gateway.table import ReadyTarget, header_text
from penstock.gateway.verdicts import NEVER_S, fault_of, garbled_reply, judge_status, mask_signature
from penstock.providers.errors import CallTimeout
from penstock.providers.http1 import Connection, Inflater
from penstock.providers.transport import Upstreams

MAX_ERROR_BYTES = 1024 * 1024
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
        refuse: Callable[[AttemptRecord], None] = lambda _record: None,
    ) -> None:
        """`begin` is called each time before a request is written, so that what may cost money is on record.

        `refuse` is called when the provider has answered it with an error status, and it costs nothing.
        """
        self._refuse = refuse
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
            if failed.answer is not None:
                failed.answer.record = record
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
        if target.missing is not None:
            missing = ProviderKeyMissing(
                f"The key of provider {provider.name!r} is not set.", hint=target.missing.hint
            )
            raise AttemptFailed(missing, fault="server-error", retry_after_s=NEVER_S)
        if time.monotonic() >= deadline:
            raise CallTimeout(f"No target answered within {provider.timeout_s:g} s.")
        if len(call.body) > LONG_BODY_BYTES:
            request = await asyncio.to_thread(write_outgoing, call, target)
        else:
            request = write_outgoing(call, target)
        head = request.head
        if target.signer is not None:
            head = await self._sign(call, target, request, deadline)
        call.begin_wait()
        try:
            connection = await self._upstreams.send(
                target.origin,
                head + b"\r\n",
                request.body,
                connect_s=provider.connect_timeout_s,
                first_byte_s=provider.first_byte_timeout_s,
                deadline=deadline,
                on_write=self._write_noter(call, record),
            )
        finally:
            call.end_wait()
        record.status = connection.status
        try:
            return await self._read(call, target, connection, request, record)
        except BaseException as error:
            self._upstreams.release(target.origin, connection)
            if target.signer is not None and isinstance(error, AttemptFailed):
                mask_signature(error, head[len(request.head) :])
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

    async def _sign(self, call: Call, target: ReadyTarget, request: Outgoing, deadline: float) -> bytes:
        signer = target.signer
        assert signer is not None
        signing = signer.headers(
            b"POST",
            target.origin.authority.encode("ascii"),
            target.request_target(request.path),
            request.body,
            self._now_s(),
        )
        if not signer.waits:
            headers = await signing
        else:
            call.begin_wait()
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    headers = await signing
            except TimeoutError:
                raise CallTimeout(
                    f"There was no token for the provider {target.provider.name!r} before the deadline."
                ) from None
            finally:
                call.end_wait()
        return request.head + b"".join(b"%b: %b\r\n" % header for header in headers)

    async def _read(
        self,
        call: Call,
        target: ReadyTarget,
        connection: Connection,
        request: Outgoing,
        record: AttemptRecord,
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
            self._refuse(record)
            body = target.mask(await read_all(call, connection, inflater, MAX_ERROR_BYTES))
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
        try:
            if reading == "through":
                await begin_through(call, answer)
            elif content_type.startswith(_EVENT_STREAMS) or (
                reading == "same" and client_dialect(call) is GEMINI_ARRAY
            ):
                answer.is_stream = True
                if reading == "same":
                    await begin_same(call, answer)
                else:
                    await begin_hub(call, answer)
            else:
                await take_body(call, answer, request)
            route = call.route
            if route is not None and "content-filter" in route.watched_faults and reading in ("same", "hub"):
                await refuse_filtered(call, answer)
        except BaseException:
            record.usage = answer.told_usage()  # it is to be paid for, whoever answers now
            raise
        return answer


def _note_failure(record: AttemptRecord, error: PenstockError, outcome: str) -> None:
    record.outcome = "refused" if outcome == "refused" else "failed"
    record.error_code, record.message = error.code, redact(error.message)


def _inflater(target: ReadyTarget, encoding: bytes) -> Inflater | None:
    if encoding in (b"", b"identity"):
        return None
    if encoding in (b"gzip", b"deflate", b"x-gzip"):
        return Inflater(target.origin.host, MAX_REPLY_BYTES)
    shown = header_text(encoding.decode("latin-1")).decode()
    raise GarbledReply(f"The provider {target.provider.name!r} sent a reply in the encoding {shown!r}.")
