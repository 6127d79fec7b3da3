"""The ASGI front of the engine process: authenticates, routes, streams. Knows OpenAI's words and nothing of HTTP
beyond ASGI. Only the installation's own key is accepted; `/health` says nothing that needs one.
"""

import asyncio
import base64
import dataclasses
import hmac
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.base.errors import (
    BugError,
    InvalidInput,
    NotFound,
    PenstockError,
    TooLarge,
    Unauthenticated,
    suggest,
)
from penstock.base.ids import new_id
from penstock.providers.engines import lexical
from penstock.providers.engines.asgi import (
    Receive,
    Scope,
    Send,
    Started,
    cancel_on_disconnect,
    send_body,
    send_error,
    stream_reply,
)
from penstock.providers.engines.cells import Cell
from penstock.providers.engines.errors import EngineFailed, UnknownModel
from penstock.providers.engines.lanes import Lane, TextPump
from penstock.providers.engines.llama import LlamaEngine, check_fit
from penstock.providers.engines.measuring import (
    LikelihoodRequest,
    TokenEmbeddingRequest,
    find_edges,
    measure_likelihood,
    read_likelihood,
    read_token_embedding,
)
from penstock.providers.engines.prompting import (
    find_call_form,
    hold_to_form,
    read_calls,
    render_prompt,
)
from penstock.providers.engines.proof import ProofRequest, read_proof, show_chat, show_vectors
from penstock.providers.engines.ranking import RerankRequest, read_rerank, rerank_body
from penstock.providers.engines.replies import ReplyWriter, Shape, embedding_body, encode_json
from penstock.providers.engines.requests import (
    EmbeddingRequest,
    GenerationRequest,
    read_chat,
    read_completion,
    read_embedding,
)
from penstock.providers.engines.types import GenerationEnd, HostedModel, ServedAdapter

_log = logging.getLogger(__name__)
_DOES = {"chat": "chat", "embedding": "embeddings", "rerank": "reranking"}
_EMBED_BATCH = 32  # texts per call into the engine, so that a long request lets others in between


class EngineApp:
    """ASGI application over all embedded models of an installation and the lexical embedder."""

    def __init__(
        self,
        models: Iterable[HostedModel],
        *,
        internal_key: str,
        n_threads: int = 1,
        n_slots: int = 4,
        max_waiting: int = 64,
        max_body_bytes: int = 25 * 1024 * 1024,
        clock: Callable[[], float] = time.time,
        failed: Mapping[str, str] | None = None,
        deployment: str | None = None,
    ) -> None:
        """Load every model. One that cannot be loaded is logged and answers with its failure; the rest serve.

        `failed` are models that were left out before, and why. A deployment's process hosts nothing but its model.
        """
        self._left_out = dict(failed or {})
        self._deployment = deployment
        self._adapters: dict[str, tuple[str, int]] = {}
        """`NAME:ADAPTER@DIGEST` → the base's name and the adapter's number."""
        self._key = internal_key.encode()
        self._n_threads = n_threads
        self._max_body_bytes = max_body_bytes
        self._clock = clock
        self._cells: dict[str, Cell] = {}
        for hosted in models:
            name = hosted.served.name
            lane = Lane(name, n_slots=n_slots, max_waiting=max_waiting)
            engine, failure = None, None
            try:
                engine = LlamaEngine(
                    hosted.served.gguf,
                    kind=hosted.served.kind,
                    context_length=hosted.served.context_length,
                    n_slots=n_slots,
                    n_threads=n_threads,
                    adapters=[(each.gguf, each.scale) for each in hosted.served.adapters],
                )
            except PenstockError as error:
                failure = error.message
                _log.error("model did not load", extra={"model": name, "reason": failure})
            self._cells[name] = Cell(hosted, engine, lane, failure)
            for number, adapter in enumerate(hosted.served.adapters):
                self._adapters[adapter_name(name, adapter)] = (name, number)
        self._lexical = Lane(lexical.NAME, n_slots=1, max_waiting=max_waiting)

    def close(self) -> None:
        """Wait for running calls and end the threads."""
        for cell in self._cells.values():
            cell.lane.close()
        self._lexical.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] != "http":
            raise BugError(f"The engine serves HTTP only, not {scope['type']}.")
        started = Started(send)
        try:
            await self._route(scope, receive, started)
        except PenstockError as error:
            await send_error(started, error)
        except Exception as error:  # the edge of the process: the caller gets a body, the log gets the trace
            _log.exception("the engine front broke")
            await send_error(started, BugError(f"The engine front broke: {type(error).__name__}."))

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _route(self, scope: Scope, receive: Receive, send: Started) -> None:
        method, path = scope["method"], scope["path"]
        if path == "/health" and method == "GET":
            failed = [*self._left_out, *(name for name, cell in self._cells.items() if cell.failure)]
            body = {"status": "degraded" if failed else "ok", "failed": failed}
            await send_body(send, encode_json(body))
            return
        self._authenticate(scope)
        if path == "/v1/models" and method == "GET":
            await send_body(send, encode_json({"object": "list", "data": self._list_models()}))
        elif path == "/v1/chat/completions" and method == "POST":
            await self._generate(read_chat(await self._read_body(receive)), receive, send)
        elif path == "/v1/completions" and method == "POST":
            await self._generate(read_completion(await self._read_body(receive)), receive, send)
        elif path == "/v1/likelihoods" and method == "POST":
            await self._measure(read_likelihood(await self._read_body(receive)), receive, send)
        elif path == "/v1/token_embeddings" and method == "POST":
            await self._embed_tokens(read_token_embedding(await self._read_body(receive)), receive, send)
        elif path == "/v1/rerank" and method == "POST":
            await self._rerank(read_rerank(await self._read_body(receive)), receive, send)
        elif path == "/v1/embeddings" and method == "POST":
            await self._embed(read_embedding(await self._read_body(receive)), receive, send)
        elif path == "/v1/proof" and method == "POST":
            await self._show(read_proof(await self._read_body(receive)), send)
        elif path == "/v1/engine" and method == "GET":
            await send_body(send, encode_json(self._state()))
        else:
            raise NotFound(f"The engine has no {method} {path}.")

    def _authenticate(self, scope: Scope) -> None:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        kind, _, key = given.partition(b" ")
        if kind.lower() != b"bearer" or not hmac.compare_digest(key.strip(), self._key):
            raise Unauthenticated("The engine accepts the internal key of its installation only.")

    async def _read_body(self, receive: Receive) -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise InvalidInput("The client left before its body was whole.")
            body += message.get("body", b"")
            if len(body) > self._max_body_bytes:
                raise TooLarge(f"The body is over {self._max_body_bytes} bytes.")
            if not message.get("more_body"):
                return bytes(body)

    def _list_models(self) -> list[dict[str, Any]]:
        rows = [
            {
                "id": cell.hosted.served.name,
                "object": "model",
                "created": 0,
                "owned_by": "penstock",
                "kind": cell.hosted.served.kind,
                "version": cell.hosted.served.version,
                "context_length": cell.hosted.served.context_length,
                "dims": cell.hosted.served.dims,
                "description": cell.hosted.served.description,
            }
            for cell in self._cells.values()
        ]
        rows.append(
            {
                "id": lexical.NAME,
                "object": "model",
                "created": 0,
                "owned_by": "penstock",
                "kind": "embedding",
                "version": lexical.VERSION,
                "context_length": None,
                "dims": lexical.DIMS,
                "description": lexical.DESCRIPTION,
            }
        )
        return rows

    def _find(self, name: str, kind: str) -> Cell:
        cell = self._cells.get(name)
        if cell is None and name in self._left_out:
            raise EngineFailed(f"The model {name} is not served: {self._left_out[name]}")
        if cell is None and name != lexical.NAME:
            known = [*self._cells, *self._adapters, lexical.NAME]
            raise UnknownModel(
                f"No model {name!r} is hosted here; known: {', '.join(known)}.",
                hint=suggest(name, known),
                param="model",
            )
        if cell is None or cell.hosted.served.kind != kind:
            does = "embedding" if cell is None else cell.hosted.served.kind
            raise InvalidInput(f"The model {name!r} does {_DOES[does]} only.", param="model")
        return cell

    async def _generate(self, request: GenerationRequest, receive: Receive, send: Started) -> None:
        base, adapter = self._adapters.get(request.model, (request.model, None))
        cell = self._find(base, "chat")
        engine, served, renderer = cell.engine, cell.hosted.served, cell.hosted.renderer
        form = find_call_form(request, renderer)
        sampling = request.complete_sampling(served.sampling)
        pump = TextPump(asyncio.get_running_loop())
        said: list[tuple[bytes, bytes]] = []

        def work() -> GenerationEnd:
            # rendering happens here too: tokenising a long prompt must not hold up the other streams
            ids, headers = render_prompt(request, renderer)
            check_fit(len(ids), engine.context_length)
            held = hold_to_form(request, sampling, form, renderer)
            said.extend(headers)  # the loop reads them once there is a piece of text, or the end
            if pump.is_cancelled:
                return GenerationEnd(
                    finish_reason="cancelled", prompt_tokens=len(ids), completion_tokens=0, cached_tokens=0
                )
            return engine.generate(ids, held, pump.put, adapter=adapter)

        shape: Shape = "chat" if request.messages is not None else "text"
        writer = ReplyWriter(
            shape=shape,
            reply_id=new_id("chatcmpl" if shape == "chat" else "cmpl"),
            created_s=int(self._clock()),
            model=request.model,
            fingerprint=f"fp_{renderer.digest.removeprefix('sha256:')[:12]}",
            include_usage=request.include_usage,
            calls=read_calls(request, form),
        )
        began = time.monotonic()
        job = cell.lane.submit(work)
        job.add_done_callback(lambda done: _count(cell, done, time.monotonic() - began))
        async with cancel_on_disconnect(receive, pump):
            if request.stream:
                await stream_reply(pump, job, writer, send, said)
            else:
                pieces = [piece async for batch in pump.drain(job) for piece in batch]
                await send_body(send, writer.whole("".join(pieces), job.result()), extra=said)

    async def _show(self, request: ProofRequest, send: Started) -> None:
        cell = self._cells.get(request.model)
        if cell is None:
            raise UnknownModel(f"No model {request.model!r} is hosted here.", param="model")
        show = show_chat if cell.hosted.served.kind == "chat" else show_vectors
        shown = await cell.lane.submit(lambda: show(cell.engine, cell.hosted, request))
        await send_body(send, encode_json(shown))

    def _state(self) -> dict[str, Any]:
        """Return what this process hosts and has done."""
        return {
            "deployment": self._deployment,
            "failed": {
                **self._left_out,
                **{name: cell.failure for name, cell in self._cells.items() if cell.failure},
            },
            "models": [
                {
                    "name": name,
                    "version": cell.hosted.served.version,
                    "slots": cell.lane.n_slots,
                    "busy": min(cell.lane.n_inside, cell.lane.n_slots),
                    "waiting": max(0, cell.lane.n_inside - cell.lane.n_slots),
                    **dataclasses.asdict(cell.tally),
                }
                for name, cell in self._cells.items()
            ],
        }

    async def _measure(self, request: LikelihoodRequest, receive: Receive, send: Started) -> None:
        cell = self._find(request.model, "chat")
        engine, renderer = cell.engine, cell.hosted.renderer
        pump = TextPump(asyncio.get_running_loop())
        job = cell.lane.submit(
            lambda: measure_likelihood(engine, renderer, request, lambda: pump.is_cancelled)
        )
        async with cancel_on_disconnect(receive, pump):
            tokens = await job
            if pump.is_cancelled:
                return
        rows = [{"token": token, "logprob": logprob} for token, logprob in tokens]
        await send_body(send, encode_json({"model": request.model, "tokens": rows}))

    async def _rerank(self, request: RerankRequest, receive: Receive, send: Started) -> None:
        cell = self._find(request.model, "rerank")
        pump = TextPump(asyncio.get_running_loop())
        job = cell.lane.submit(
            lambda: cell.ranker().score(request.query, request.texts, lambda: pump.is_cancelled)
        )
        async with cancel_on_disconnect(receive, pump):
            ranking = await job
            if pump.is_cancelled:
                return
        await send_body(send, encode_json(rerank_body(request, ranking)))

    async def _embed_tokens(self, request: TokenEmbeddingRequest, receive: Receive, send: Started) -> None:
        cell = self._find(request.model, "embedding")
        pump = TextPump(asyncio.get_running_loop())

        def work() -> list[NDArray[np.float32]]:
            encoder = cell.token_encoder(self._n_threads)
            ids = cell.hosted.renderer.encode_texts(request.input)
            n_before, n_after = map(len, find_edges(cell.hosted.renderer))
            rows = [encoder.encode(each) for each in ids if not pump.is_cancelled]
            # the model's own start and end tokens are no part of the text
            return [each[n_before : len(each) - n_after] for each in rows]

        job = cell.lane.submit(work)
        async with cancel_on_disconnect(receive, pump):
            found = await job
            if pump.is_cancelled:
                return
        data: list[dict[str, Any]] = []
        for number, rows in enumerate(found):
            if request.encoding_format == "base64":
                text = base64.b64encode(rows.astype("<f4").tobytes()).decode()
                data.append({"index": number, "dims": rows.shape[1], "embeddings": text})
            else:
                data.append({"index": number, "embeddings": rows.tolist()})
        await send_body(send, encode_json({"model": request.model, "data": data}))

    async def _embed(self, request: EmbeddingRequest, receive: Receive, send: Started) -> None:
        if request.model == lexical.NAME:
            await self._embed_lexically(request, send)
            return
        cell = self._find(request.model, "embedding")
        engine, served = cell.engine, cell.hosted.served
        _check_dimensions(request, served.dims)
        pump = TextPump(asyncio.get_running_loop())

        def work() -> tuple[NDArray[np.float32], int, list[int]]:
            texts = request.texts
            ids = (
                list(map(list, request.ids or ()))
                if texts is None
                else cell.hosted.renderer.encode_texts(texts)
            )
            ids, truncated = _truncate(ids, engine.context_length) if request.truncate else (ids, [])
            rows = []
            for start in range(0, len(ids), _EMBED_BATCH):
                if pump.is_cancelled:
                    break
                rows.append(engine.embed(ids[start : start + _EMBED_BATCH]))
            return (
                np.concatenate(rows) if rows else np.zeros((0, 0), np.float32),
                sum(map(len, ids)),
                truncated,
            )

        job = cell.lane.submit(work)
        async with cancel_on_disconnect(receive, pump):
            rows, n_tokens, truncated = await job
            if pump.is_cancelled:
                return
        body = embedding_body(
            rows,
            model=served.name,
            n_tokens=n_tokens,
            as_base64=request.as_base64,
            truncated=truncated,
            note=None,
        )
        await send_body(send, body)

    async def _embed_lexically(self, request: EmbeddingRequest, send: Started) -> None:
        if request.texts is None:
            raise InvalidInput("The lexical embedder reads text, not token ids.", param="input")
        _check_dimensions(request, lexical.DIMS)
        texts = request.texts
        rows = await self._lexical.submit(lambda: lexical.embed_texts(texts))
        body = embedding_body(
            rows,
            model=lexical.NAME,
            n_tokens=sum(len(lexical.tokenize_words(text)) for text in texts),
            as_base64=request.as_base64,
            truncated=(),
            note=lexical.DESCRIPTION,
        )
        await send_body(send, body)


def adapter_name(base: str, adapter: ServedAdapter) -> str:
    """Return the name that an adapter answers to: with its digest, because a name is never used for another one."""
    return f"{base}:{adapter.name}@{adapter.digest.removeprefix('sha256:')[:12]}"


def _count(cell: Cell, done: "asyncio.Future[GenerationEnd]", took_s: float) -> None:
    if done.cancelled() or done.exception() is not None:
        cell.tally.failures += 1
    else:
        cell.tally.count(done.result(), took_s)


def _check_dimensions(request: EmbeddingRequest, dims: int | None) -> None:
    if request.dimensions not in (None, dims):
        raise InvalidInput(
            f"The model {request.model!r} gives {dims} dimensions and no others.", param="dimensions"
        )


def _truncate(ids: Sequence[list[int]], limit: int) -> tuple[list[list[int]], list[int]]:
    """Cut each list to `limit`, keeping its last (end) token; return the lists and the numbers of those cut."""
    cut = [number for number, item in enumerate(ids) if len(item) > limit]
    return [item if len(item) <= limit else [*item[: limit - 1], item[-1]] for item in ids], cut
