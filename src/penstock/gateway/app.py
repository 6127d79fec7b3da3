"""The gateway as an ASGI application, written without a framework because every microsecond is on each call.

`create_gateway` joins the parts; `Gateway` dispatches paths and owns one task per call. The surprise: whether the client
has left is watched only from 20 ms on, because most calls are over by then and a task per call is not free.
"""

import asyncio
import logging
import random
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from penstock.base.errors import BugError, PenstockError
from penstock.dialects.openai.envelope import parse_envelope
from penstock.gateway.admission import (
    BYTES_PER_TOKEN,
    STREAM_BYTES_PER_TOKEN,
    Counters,
    Limiter,
    Reservation,
    authenticate,
    may_call,
    resolve_route,
)
from penstock.gateway.calls import Call, label, parse_traceparent
from penstock.gateway.errors import BodyTooSlow, NotReady, TooBusy, UnknownModel, UnknownPath, WrongMethod
from penstock.gateway.http import (
    JSON,
    LONG_BODY_BYTES,
    ClientGone,
    Header,
    Receive,
    Scope,
    Send,
    read_body,
    send_error,
    send_reply,
)
from penstock.gateway.recorder import CallRecorder, SpanSink
from penstock.gateway.relay import Relay
from penstock.gateway.snapshots import SnapshotWatch
from penstock.gateway.table import ReadyRoute, Table
from penstock.providers.prices import PriceBook
from penstock.providers.transport import Upstreams
from penstock.spec.snapshot import Limits

_log = logging.getLogger("penstock.gateway")
_CALLS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}
_SUPPORTED = "POST /v1/chat/completions, POST /v1/completions, POST /v1/embeddings, GET /v1/models, GET /v1/models/{id}"
_WATCH_AFTER_S = 0.02


class ModelObject(msgspec.Struct, frozen=True, kw_only=True):
    """One model as `/v1/models` lists it."""

    id: str
    object: str = "model"
    created: int
    owned_by: str


class Gateway:
    """The ASGI callable. Runs its background work between the lifespan's start and end."""

    def __init__(
        self,
        *,
        watch: SnapshotWatch,
        recorder: CallRecorder,
        limiter: Limiter | None,
        upstreams: Upstreams,
        rng: random.Random | None = None,
        body_timeout_s: float = 60.0,
    ) -> None:
        self.n_active = 0
        """Calls being served now, from the moment on when their body is awaited."""
        self._uploads = _Uploads(body_timeout_s)
        self._watch = watch
        self._recorder = recorder
        self._limiter = limiter
        self._upstreams = upstreams
        self._relay = Relay(upstreams, rng=rng)
        self._watching: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection scope."""
        if scope["type"] == "http":
            operation = _CALLS.get(scope["path"])
            if operation is not None and scope["method"] == "POST":
                await self._serve_call(operation, scope, receive, send)
            else:
                await self._serve_other(scope, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    async def start(self) -> None:
        """Read the snapshot and begin to follow it."""
        self._recorder.start()
        self._watch.refresh()
        self._watching = asyncio.create_task(self._watch.run(), name="snapshot-watch")

    async def stop(self) -> None:
        """End background work, write what is queued, close all connections."""
        self._uploads.close()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._upstreams.close()
        await asyncio.get_running_loop().run_in_executor(None, self._recorder.close)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.start()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    # -- calls to models

    async def _serve_call(self, operation: str, scope: Scope, receive: Receive, send: Send) -> None:
        authorization = traceparent = session = user = length = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
            elif name == b"content-length":
                length = value
            elif name == b"traceparent":
                traceparent = value
            elif name == b"x-penstock-session":
                session = value
            elif name == b"x-penstock-user":
                user = value
        call = Call(operation, parse_traceparent(traceparent) if traceparent is not None else None)
        table = self._watch.table
        try:
            if table is None:
                raise NotReady
            call.key = authenticate(table, authorization)
        except PenstockError as error:
            # Strangers leave no spans, so there is no trace that the reply could name.
            await send_error(send, error, [_overhead_header(call)])
            return
        if session is not None:
            call.session = label(session)
        if user is not None:
            call.user = label(user)
        self.n_active += 1
        try:
            await self._take_body(call, table.limits, receive, length)
            await self._admit_and_relay(call, table, receive, send)
        except ClientGone:
            return
        except PenstockError as error:
            await _answer_error(call, error, _Outbox(send))
            self._record(call, table.limits)
        finally:
            self.n_active -= 1

    async def _take_body(self, call: Call, limits: Limits, receive: Receive, declared: bytes | None) -> None:
        """Read the body into `call`, whose time begins then: waiting for the client is not ours."""
        if self.n_active > limits.max_concurrent_calls:
            raise TooBusy(
                f"{self.n_active - 1} calls are being served already.",
                hint="Try again soon, or let the operator raise max_concurrent_calls.",
                openai_code="overloaded",
            )
        task = asyncio.current_task()
        assert task is not None
        self._uploads.begin(task)
        try:
            call.body = await read_body(receive, declared=declared, limit=limits.max_body_bytes)
        except asyncio.CancelledError:
            if not self._uploads.is_over(task):
                raise
            task.uncancel()
            raise BodyTooSlow(self._uploads.limit_s) from None
        finally:
            self._uploads.end(task)
            call.start_ns, call.started_at = time.time_ns(), time.perf_counter()

    def _record(self, call: Call, limits: Limits) -> None:
        self._recorder.record(
            call, capture=limits.capture_payloads, max_payload_bytes=limits.max_payload_bytes
        )

    async def _admit_and_relay(self, call: Call, table: Table, receive: Receive, send: Send) -> None:
        reservation: Reservation | None = None
        departure = _Departure(receive)
        outbox = _Outbox(send)
        try:
            assert call.key is not None
            max_depth = table.limits.max_json_depth
            if len(call.body) > LONG_BODY_BYTES:
                envelope = await asyncio.to_thread(parse_envelope, call.body, max_depth=max_depth)
            else:
                envelope = parse_envelope(call.body, max_depth=max_depth)
            call.envelope = envelope
            kind = "embedding" if call.operation == "embeddings" else "chat"
            call.route = resolve_route(table, call.key, envelope.model, kind)
            if self._limiter is not None:
                reservation = self._limiter.admit(call.key, envelope, len(call.body))
            await self._relay.serve(call, outbox, table.limits)
        except PenstockError as error:
            await _answer_error(call, error, outbox)
        except asyncio.CancelledError:
            call.error_code = "client_gone" if departure.is_gone else "shutdown"
            call.error_message = "The client left." if departure.is_gone else "The gateway was stopped."
            call.http_status = 499 if departure.is_gone else call.http_status
            if not departure.is_gone:
                raise
        except (
            Exception
        ):  # the edge of a call: the client gets an error in its own language, we get the trace
            _log.exception("call failed", extra={"trace_id": call.trace_id})
            bug = BugError(
                "The gateway failed.", hint="Please report it with the trace id.", trace=call.trace_id
            )
            await _answer_error(call, bug, outbox)
        finally:
            departure.close()
            if reservation is not None and self._limiter is not None:
                self._limiter.settle(reservation, _used_tokens(call, reservation))
            self._record(call, table.limits)

    # -- everything else

    async def _serve_other(self, scope: Scope, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        table = self._watch.table
        try:
            if path == "/healthz":
                _need_get(method)
                await send_reply(send, 200, [JSON], b'{"status":"ok"}')
            elif path == "/readyz":
                _need_get(method)
                if table is None:
                    raise NotReady
                ready = {"status": "ready", "snapshot": table.digest}
                await send_reply(send, 200, [JSON], msgspec.json.encode(ready))
            elif path == "/v1/models" or path.startswith("/v1/models/"):
                _need_get(method)
                if table is None:
                    raise NotReady
                await _serve_models(table, scope, send)
            elif path in _CALLS:
                raise WrongMethod(f"{path} does not answer {method[:20]}.", hint="Use POST.", allow="POST")
            else:
                raise UnknownPath(
                    f"There is no {path[:200]!r} here.", hint=f"This gateway serves {_SUPPORTED}."
                )
        except PenstockError as error:
            await send_error(send, error)


class _Departure:
    """Cancels the call's task when the client leaves."""

    __slots__ = ("_receive", "_task", "_timer", "_watcher", "is_gone")

    def __init__(self, receive: Receive) -> None:
        self.is_gone = False
        self._receive = receive
        self._watcher: asyncio.Task[None] | None = None
        self._task = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(_WATCH_AFTER_S, self._begin)

    def close(self) -> None:
        self._timer.cancel()
        self._task = None
        if self._watcher is not None:
            self._watcher.cancel()

    def _begin(self) -> None:
        self._watcher = asyncio.create_task(self._watch(), name="client-watch")

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._task is not None:
            self.is_gone = True
            self._task.cancel()


class _Uploads:
    """Cancels the tasks whose body does not arrive in time. One timer serves all: one for each call is not free."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._end_at: dict[asyncio.Task[None], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, task: asyncio.Task[None]) -> None:
        loop = asyncio.get_running_loop()
        self._end_at[task] = loop.time() + self.limit_s
        if self._timer is None:
            self._timer = loop.call_later(self.limit_s, self._sweep)

    def is_over(self, task: asyncio.Task[None]) -> bool:
        return task not in self._end_at

    def end(self, task: asyncio.Task[None]) -> None:
        self._end_at.pop(task, None)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        now = loop.time()
        for task in [task for task, end_at in self._end_at.items() if end_at <= now]:
            del self._end_at[task]
            task.cancel()
        if self._end_at:
            self._timer = loop.call_at(next(iter(self._end_at.values())), self._sweep)


class _Outbox:
    """Passes messages on and remembers whether the reply has begun."""

    __slots__ = ("_send", "has_begun")

    def __init__(self, send: Send) -> None:
        self.has_begun = False
        self._send = send

    async def __call__(self, message: dict[str, object]) -> None:
        self.has_begun = True
        await self._send(message)


async def _answer_error(call: Call, error: PenstockError, outbox: _Outbox) -> None:
    call.error_code, call.error_message = error.code, error.message
    if outbox.has_begun:
        return
    call.http_status = error.status
    headers = [
        (b"x-penstock-trace-id", call.trace_id.encode()),
        (b"x-penstock-attempts", b"%d" % call.attempts),
        _overhead_header(call),
    ]
    await send_error(outbox, error, headers)


def _overhead_header(call: Call) -> Header:
    """Note how long the gateway itself has worked on `call` so far, and return it as a header."""
    call.overhead_ms = max(0.0, time.perf_counter() - call.started_at - call.upstream_s) * 1e3
    return b"x-penstock-overhead-ms", b"%.3f" % call.overhead_ms


def _used_tokens(call: Call, reservation: Reservation) -> int:
    if call.usage is None and call.n_sent == call.n_refused:
        return 0  # never sent, or refused each time
    if call.operation == "embeddings":
        written = 0
    else:
        written = call.output_size // (STREAM_BYTES_PER_TOKEN if call.streamed else BYTES_PER_TOKEN)
    return reservation.used_tokens(call.usage, written=written)


def _need_get(method: str) -> None:
    if method not in ("GET", "HEAD"):
        raise WrongMethod(f"This address does not answer {method[:20]}.", hint="Use GET.", allow="GET")


async def _serve_models(table: Table, scope: Scope, send: Send) -> None:
    authorization = next((value for name, value in scope["headers"] if name == b"authorization"), None)
    row = authenticate(table, authorization)
    path: str = scope["path"]
    visible = [ready for name, ready in table.routes.items() if may_call(row, name)]
    if path == "/v1/models":
        listed = {"object": "list", "data": [_model_object(table, ready) for ready in visible]}
        await send_reply(send, 200, [JSON], msgspec.json.encode(listed))
        return
    name = path.removeprefix("/v1/models/")
    for ready in visible:
        if ready.route.name == name:
            await send_reply(send, 200, [JSON], msgspec.json.encode(_model_object(table, ready)))
            return
    raise UnknownModel(name, [ready.route.name for ready in visible])


def _model_object(table: Table, ready: ReadyRoute) -> ModelObject:
    return ModelObject(id=ready.route.name, created=table.created_s, owned_by=ready.route.owned_by)


def create_gateway(
    *,
    snapshot_path: Path,
    sink: SpanSink,
    counters: Counters | None,
    internal_key: str | None,
    environ: Mapping[str, str],
    prices: PriceBook | None = None,
    upstreams: Upstreams | None = None,
    poll_interval_s: float = 0.5,
) -> Gateway:
    """Return a gateway over the snapshot file, with spans to `sink`.

    `environ` is where providers' keys are looked up; `internal_key` is both accepted from callers and sent to
    local providers. Without `counters` no per-minute limits are enforced.
    """
    recorder = CallRecorder(sink, prices or PriceBook())
    watch = SnapshotWatch(
        snapshot_path,
        environ=environ,
        internal_key=internal_key,
        interval_s=poll_interval_s,
        on_table=lambda table: recorder.preload_prices(table.priced_models()),
    )
    return Gateway(
        watch=watch,
        recorder=recorder,
        limiter=Limiter(counters) if counters is not None else None,
        upstreams=upstreams or Upstreams(),
    )
