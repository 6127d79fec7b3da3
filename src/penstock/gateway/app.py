"""The gateway as an ASGI application, written without a framework because every microsecond is on each call.

`create_gateway` joins the parts; `Gateway` dispatches paths and owns one task per call. A call is authenticated, read,
admitted, answered by a target, settled and recorded, in this order; each step is another file's.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path

import msgspec

from penstock.base.errors import BugError, PenstockError
from penstock.base.logs import redact
from penstock.deploy.followed import Followed
from penstock.gateway import apps_relay
from penstock.gateway.admission import authenticate
from penstock.gateway.answers import AttemptFailed
from penstock.gateway.arrivals import find_secret, note_headers, peek_call
from penstock.gateway.asking import Asking, estimate_price
from penstock.gateway.attempts import Attempts
from penstock.gateway.bills import bill_call
from penstock.gateway.cache import ResponseCache
from penstock.gateway.callers import identify, refusal_headers
from penstock.gateway.calls import Call, parse_traceparent
from penstock.gateway.clients import Departure, DepartureWatch, Uploads
from penstock.gateway.endpoints import CALLS, SUPPORTED, Endpoint, find_endpoint, split_query
from penstock.gateway.error_replies import send_error
from penstock.gateway.errors import BodyTooSlow, NotReady, TooBusy, UnknownPath, WrongMethod
from penstock.gateway.exchange import Exchange
from penstock.gateway.files import Files, serves_path
from penstock.gateway.followers import Followers
from penstock.gateway.health import HealthBoard
from penstock.gateway.http import (
    JSON,
    LONG_BODY_BYTES,
    ClientGone,
    Header,
    Outbox,
    Receive,
    Scope,
    Send,
    read_body,
    send_reply,
    take_body,
)
from penstock.gateway.internal_calls import InternalCalls
from penstock.gateway.journal import Journal
from penstock.gateway.limiting.accounts import add_lost, gather_facts, sum_up
from penstock.gateway.limits import Counters, Hold, Limiter, LimitFacts
from penstock.gateway.metrics import Metrics
from penstock.gateway.metrics_page import serve_metrics
from penstock.gateway.models import describe_models, models_dialect
from penstock.gateway.prompt_calls import find_route
from penstock.gateway.recorder import CallRecorder, SpanSink
from penstock.gateway.relay import captures, relay_answer, relay_failure
from penstock.gateway.snapshots import SnapshotWatch
from penstock.gateway.table import Table, header_text
from penstock.gateway.text_sizes import estimate_prompt_tokens
from penstock.gateway.token_counts import counts_here, estimate_reply
from penstock.providers.auth.token_http import make_token_fetch
from penstock.providers.prices import PriceBook
from penstock.providers.transport import Upstreams
from penstock.spec.snapshot import Limits, Snapshot
from penstock.store.files import FileStore
from penstock.store.response_cache import ResponseStore

_log = logging.getLogger("penstock.gateway")


class Gateway:
    """The ASGI callable. Runs its background work between the lifespan's start and end."""

    def __init__(
        self,
        *,
        watch: SnapshotWatch,
        recorder: CallRecorder,
        limiter: Limiter | None,
        upstreams: Upstreams,
        prices: PriceBook,
        health: HealthBoard | None = None,
        metrics: Metrics | None = None,
        metrics_open: bool = False,
        cache: ResponseCache | None = None,
        files: Files | None = None,
        rng: random.Random | None = None,
        body_timeout_s: float = 60.0,
    ) -> None:
        self.n_active = 0
        """Calls being served now, from the moment on when their body is awaited."""
        self._uploads = Uploads(body_timeout_s)
        self._departures = DepartureWatch()
        self._watch = watch
        self._recorder = recorder
        self._limiter = limiter
        self._upstreams = upstreams
        self._cache = cache
        self._files = files
        self._apps_relay = apps_relay.AppsRelay(upstreams, limiter)
        self._prices = prices
        health = health or HealthBoard()
        self._metrics = metrics or Metrics(health=health)
        self._metrics.n_active = lambda: self.n_active
        if limiter is not None:
            self._metrics.limits = lambda: (bool(limiter.problems), limiter.n_outages)
        self._metrics_open = metrics_open
        self._attempts = Attempts(
            Asking(
                Exchange(upstreams, begin=recorder.begin, refuse=recorder.refuse),
                health,
                rng=rng,
                price=partial(estimate_price, prices),
            )
        )
        self._background: list[asyncio.Task[None]] = []
        if cache is not None:
            cache.use_calls(InternalCalls(self._answer, self._record, self._charge, lambda: watch.table))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection scope."""
        if scope["type"] == "http":
            if scope["method"] == "POST":
                path = scope["path"]
                endpoint = CALLS.get(path) or find_endpoint(path)
                if endpoint is not None:
                    await self._serve_call(endpoint, scope, receive, send)
                    return
            if apps_relay.serves_path(scope["path"]):
                await self._apps_relay.answer(scope, self._watch.table, receive, send)
            elif self._files is not None and serves_path(scope["path"]):
                secret = find_secret(dict(scope["headers"]), None)
                await self._files.answer(scope, self._watch.table, secret, receive, send)
            else:
                await self._serve_other(scope, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    async def start(self) -> None:
        """Read the snapshot and begin to follow it."""
        self._recorder.start()
        self._watch.refresh()
        if self._cache is not None:
            self._cache.start()
        if self._limiter is not None:
            await self._limiter.settled()  # the first calls shall already be counted where all are
        self._background = [
            asyncio.create_task(self._watch.run(), name="snapshot-watch"),
            asyncio.create_task(self._metrics.pulse(), name="pulse"),
        ]

    async def stop(self) -> None:
        """End background work, write what is queued, close all connections."""
        self._uploads.close()
        self._departures.close()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._upstreams.close()
        if self._limiter is not None:
            await self._limiter.close()
        if self._cache is not None:
            await self._cache.close()
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

    async def _serve_call(self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        traceparent = headers.get(b"traceparent")
        call = Call(endpoint, parse_traceparent(traceparent) if traceparent is not None else None)
        outbox = Outbox(send, scope)
        table = self._watch.table
        try:
            if table is None:
                raise NotReady
            query_key = None
            if scope["query_string"]:
                query_key, call.query = split_query(scope["query_string"])
            identify(call, table, headers, find_secret(headers, query_key))
        except PenstockError as error:
            # Strangers leave no spans, so there is no trace that the reply could name.
            await send_error(outbox, error, [_overhead_header(call)], endpoint.dialect)
            return
        note_headers(call, headers)
        self.n_active += 1
        table.n_calls += 1
        try:
            self._refuse_many(table.limits)
            body = take_body(scope, table.limits.max_body_bytes)
            if body is None:
                await self._read_body(call, table.limits, receive, headers.get(b"content-length"))
            else:
                call.body = body
            await self._admit_and_relay(call, table, receive, outbox)
        except ClientGone:
            return
        except PenstockError as error:
            await _answer_error(call, error, outbox)
            self._record(call, table.limits)
        finally:
            self.n_active -= 1
            table.n_calls -= 1

    def _refuse_many(self, limits: Limits) -> None:
        if self.n_active > limits.max_concurrent_calls:
            raise TooBusy(
                f"{self.n_active - 1} calls are being served already.",
                hint="Try again soon, or let the operator raise max_concurrent_calls.",
                openai_code="overloaded",
            )

    async def _read_body(self, call: Call, limits: Limits, receive: Receive, declared: bytes | None) -> None:
        """Read the body into `call`, whose time begins then: waiting for the client is not ours."""
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
            call, capture=captures(call, limits), max_payload_bytes=limits.max_payload_bytes
        )
        self._metrics.observe(call)

    async def _admit_and_relay(self, call: Call, table: Table, receive: Receive, outbox: Outbox) -> None:
        departure = Departure(receive, call, self._departures)
        try:
            assert call.key is not None
            if len(call.body) > LONG_BODY_BYTES:
                await asyncio.to_thread(peek_call, call, table.limits.max_json_depth)
            else:
                peek_call(call, table.limits.max_json_depth)
            envelope = call.envelope
            assert envelope is not None
            call.route, call.holdings = find_route(table, call, envelope.model), table.holdings
            self._attempts.check_version(call)
            departure.keeps_going = not call.route.route.cancel_upstream
            if self._limiter is not None and self._limiter.has_rule_for(call.key):
                await self._reserve(call, self._limiter)
            if counts_here(call):
                counted = estimate_reply(call)
                await send_reply(outbox, 200, [JSON, *_trace_headers(call)], counted)
                call.http_status = 200
            elif self._cache is not None and call.route.route.cache.mode != "off":
                await self._cache.serve(call, outbox, partial(self._answer, call, limits=table.limits))
            else:
                await self._answer(call, outbox, table.limits)
        except PenstockError as error:
            await _answer_error(call, error, outbox)
        except asyncio.CancelledError:
            _note_cancelled(call)
            if not call.client_left:
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
            if call.client_left and call.error_code is None:
                _note_cancelled(call)
            departure.close()
            if call.flight is None:
                self._finish(call, table.limits)
            else:  # others may still wait for what this call began
                call.flight.call_when_over(partial(self._finish, call, table.limits))

    def _finish(self, call: Call, limits: Limits) -> None:
        if call.hold is not None and self._limiter is not None:
            self._settle(call, call.hold, self._limiter)
        self._record(call, limits)

    def _facts(self, call: Call, limiter: Limiter, user: str | None) -> LimitFacts:
        key, route, envelope = call.key, call.route, call.envelope
        assert key is not None
        assert route is not None
        assert envelope is not None
        return gather_facts(
            key=key,
            route=route,
            envelope=envelope,
            operation=call.operation,
            prompt_tokens=estimate_prompt_tokens(call.body),
            user=user,
            prices=self._prices if limiter.counts_money else None,
            caller=call.caller,
        )

    async def _reserve(self, call: Call, limiter: Limiter) -> None:
        hold = call.hold = await limiter.admit(self._facts(call, limiter, call.user))
        if hold is not None:
            call.extra_headers += hold.headers
            call.extra_headers += [(b"x-penstock-limit-warning", header_text(text)) for text in hold.warnings]

    def _settle(self, call: Call, hold: Hold, limiter: Limiter) -> None:
        tokens, usd = self._sum_up(hold.facts, call, limiter)
        limiter.settle(
            hold,
            tokens=tokens,
            usd=usd,
            counts_request=call.n_sent > 0 or call.usage is not None or call.cache_state == "shared",
            model=call.target.model if call.target is not None else None,
        )

    def _charge(self, call: Call, user: str | None) -> None:
        """Count a call that the gateway made for the sake of another one."""
        limiter = self._limiter
        if limiter is not None and call.key is not None and limiter.has_rule_for(call.key):
            facts = self._facts(call, limiter, user)
            if call.target is not None:
                facts = msgspec.structs.replace(facts, model=call.target.model)
            tokens, usd = self._sum_up(facts, call, limiter)
            limiter.charge(facts, tokens=tokens, usd=usd)

    def _sum_up(self, facts: LimitFacts, call: Call, limiter: Limiter) -> tuple[int, Decimal | None]:
        tokens, usd = sum_up(facts, call, call.target, self._prices if limiter.counts_money else None)
        if len(call.attempt_log) > 1:
            tokens, usd = add_lost(tokens, usd, bill_call(call, self._prices)[1])
        return tokens, usd

    async def _answer(self, call: Call, outbox: Send, limits: Limits) -> None:
        try:
            answer = await self._attempts.find_answer(call)
        except AttemptFailed as failed:
            await relay_failure(call, failed, outbox, limits)
        else:
            await relay_answer(call, answer, outbox, limits)

    # -- everything else

    async def _serve_other(self, scope: Scope, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        headers: dict[bytes, bytes] = dict(scope["headers"])
        table = self._watch.table
        dialect = models_dialect(path, headers)
        try:
            if path == "/healthz":
                _need_get(method)
                await send_reply(send, 200, [JSON], b'{"status":"ok"}')
            elif path == "/readyz":
                _need_get(method)
                if table is None:
                    raise NotReady
                problems = self._limiter.problems if self._limiter is not None else []
                told = {"warnings": problems} if problems else {}
                ready = {"status": "ready", "snapshot": table.digest, **told}
                await send_reply(send, 200, [JSON], msgspec.json.encode(ready))
            elif path == "/metrics":
                _need_get(method)
                secret = find_secret(headers, split_query(scope["query_string"])[0])
                await serve_metrics(self._metrics, table, headers, secret, send, is_open=self._metrics_open)
            elif dialect is not None:
                _need_get(method)
                if table is None:
                    raise NotReady
                key = authenticate(table, find_secret(headers, split_query(scope["query_string"])[0]))
                described = describe_models(table, key, path, dialect)
                call = Call(CALLS["/v1/chat/completions"], None)
                await send_reply(send, 200, [JSON, *_trace_headers(call)], msgspec.json.encode(described))
            elif find_endpoint(path) is not None:
                raise WrongMethod(
                    f"{path[:200]} does not answer {method[:20]}.", hint="Use POST.", allow="POST"
                )
            else:
                raise UnknownPath(
                    f"There is no {path[:200]!r} here.", hint=f"This gateway serves {SUPPORTED}."
                )
        except PenstockError as error:
            await send_error(send, error, dialect=dialect or "openai")
        except Exception:  # the edge of a request that is no call
            _log.exception("request failed", extra={"path": path[:200]})
            await send_error(send, BugError("The gateway failed."), dialect=dialect or "openai")


async def _answer_error(call: Call, error: PenstockError, outbox: Outbox) -> None:
    call.error_code, call.error_message = error.code, redact(error.message)
    if outbox.has_begun:
        return
    call.http_status = error.status
    headers = [*_trace_headers(call), *refusal_headers(call, error)]
    await send_error(outbox, error, headers, call.dialect)


def _note_cancelled(call: Call) -> None:
    is_gone = call.client_left
    call.error_code = "client_gone" if is_gone else "shutdown"
    call.error_message = "The client left." if is_gone else "The gateway was stopped."
    call.http_status = 499 if is_gone else call.http_status


def _trace_headers(call: Call) -> list[Header]:
    return [
        (b"x-penstock-trace-id", call.trace_id.encode()),
        *_route_headers(call),
        (b"x-penstock-attempts", b"%d" % call.attempts),
        *call.extra_headers,
        *((b"x-penstock-warning", header_text(text)) for text in call.warnings),
        _overhead_header(call),
    ]


def _route_headers(call: Call) -> Sequence[Header]:
    if call.target is not None:
        return call.target.reply_headers
    return ((b"x-penstock-route", header_text(call.route.route.name)),) if call.route is not None else ()


def _overhead_header(call: Call) -> Header:
    return b"x-penstock-overhead-ms", b"%.3f" % call.note_overhead()


def _need_get(method: str) -> None:
    if method not in ("GET", "HEAD"):
        raise WrongMethod(f"This address does not answer {method[:20]}.", hint="Use GET.", allow="GET")


def create_gateway(
    *,
    snapshot_path: Path,
    sink: SpanSink,
    counters: Counters | None,
    internal_key: str | None,
    environ: Mapping[str, str],
    prices: PriceBook | None = None,
    upstreams: Upstreams | None = None,
    journal: Journal | None = None,
    open_secrets: Callable[[Snapshot], Mapping[str, str]] = lambda _: {},
    health: HealthBoard | None = None,
    metrics: Metrics | None = None,
    metrics_open: bool = False,
    open_replies: Callable[[], ResponseStore] | None = None,
    files: FileStore | None = None,
    note_followed: Callable[[Followed], None] = lambda _: None,
    poll_interval_s: float = 0.5,
) -> Gateway:
    """Return a gateway over the snapshot file, with spans to `sink`.

    `environ` is where providers' keys are looked up; `internal_key` is both accepted from callers and sent to
    local providers. Without `counters` no per-minute limits are enforced, and without `journal` a call whose worker is
    killed is not billed. Without `health` and `metrics` this gateway knows only of itself; with `metrics_open` anybody
    may read `/metrics`. Without `files` there are no `/v1/files` and `/v1/batches`. `note_followed` hears by which
    snapshots calls are served, whenever that changes.
    """
    prices = prices or PriceBook()
    recorder = CallRecorder(sink, prices, journal)
    limiter = Limiter(counters) if counters is not None else None
    cache = ResponseCache(open_replies) if open_replies is not None else None
    upstreams = upstreams or Upstreams()
    watch = SnapshotWatch(
        snapshot_path,
        environ=environ,
        internal_key=internal_key,
        fetch=make_token_fetch(upstreams),
        open_secrets=open_secrets,
        interval_s=poll_interval_s,
        note_followed=note_followed,
        on_table=Followers(recorder, limiter, cache).take,
    )
    return Gateway(
        watch=watch,
        recorder=recorder,
        limiter=limiter,
        upstreams=upstreams,
        prices=prices,
        cache=cache,
        files=Files(files) if files is not None else None,
        health=health,
        metrics=metrics,
        metrics_open=metrics_open,
    )
