"""Embedding calls through the gateway, which gives each its span, its version and its price, as any other call.

`GatewayCalls` is the way there, `RouteCalls` one route of it as the knowledge room asks it, `GatewayEmbedder` the
plain way for texts that are neither kept nor compared with kept ones.
"""

import http.client
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
from numpy.typing import NDArray

from penstock.apps.callers import caller_headers
from penstock.base.errors import UpstreamError, UpstreamTimeout, UpstreamUnavailable
from penstock.knowledge.embedding.calls import EmbedAnswer, NoRoomNow, Refused
from penstock.knowledge.embedding.errors import ChangedEmbedder
from penstock.knowledge.types import TextKind
from penstock.main.job_spans import current_traceparent

TIMEOUT_S = 120.0
MAX_KEPT = 8
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_OF_TEXTS = frozenset({400, 413, 422})
_SIZE_CODES = frozenset({"context_length_exceeded", "string_above_max_length", "PS-1413"})
_SIZE_WORDS = re.compile(
    r"too (?:long|large|many tokens)|maximum (?:context|input|sequence)|max(?:imum)? .{0,40}tokens|"
    r"context (?:length|is|window)|token limit|exceed",
    re.IGNORECASE,
)
Price = Callable[[str, str, int], int | None]
"""Provider, model and tokens to billionths of a dollar; None where the price is not known."""


class _Row(msgspec.Struct):
    index: int
    embedding: list[float]


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    total_tokens: int | None = None


class _Answer(msgspec.Struct):
    data: list[_Row]
    usage: _Usage | None = None


_answers = msgspec.json.Decoder(_Answer)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the gateway said. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class GatewayCalls:
    """Keeps connections. Safe from several threads."""

    def __init__(self, find_url: Callable[[], str], internal_key: str) -> None:
        """`find_url` tells the gateway's base URL, which a restart may change."""
        self._find_url = find_url
        self._key = internal_key
        self._kept: list[tuple[str, http.client.HTTPConnection]] = []
        self._lock = threading.Lock()

    def post(self, body: bytes, *, traceparent: str | None, timeout_s: float = TIMEOUT_S) -> Reply:
        """Return the reply to an embedding call; raise `UpstreamTimeout`, `UpstreamUnavailable`.

        A request is sent twice only where the gateway had closed a kept connection and said nothing on it: what a
        fresh one fails with may come after the request was answered, and billed.
        """
        headers = {
            "authorization": f"Bearer {self._key}",
            "content-type": "application/json",
            **caller_headers(),
        }
        traceparent = traceparent or current_traceparent.get()
        if traceparent:
            headers["traceparent"] = traceparent
        url, connection = self._take(timeout_s, fresh=False)
        if connection.sock is not None:
            try:
                return self._send(url, connection, body, headers)
            except (BrokenPipeError, ConnectionResetError):  # and `RemoteDisconnected`, which is one
                url, connection = self._take(timeout_s, fresh=True)
            except (OSError, http.client.HTTPException) as error:
                raise _unreached(error, timeout_s) from error
        try:
            return self._send(url, connection, body, headers)
        except (OSError, http.client.HTTPException) as error:
            raise _unreached(error, timeout_s) from error

    def _send(
        self, url: str, connection: http.client.HTTPConnection, body: bytes, headers: Mapping[str, str]
    ) -> Reply:
        try:
            connection.request("POST", "/v1/embeddings", body=body, headers=headers)
            response = connection.getresponse()
            data = response.read()
        except BaseException:
            connection.close()
            raise
        self._keep(url, connection)
        told = {name.lower(): value for name, value in response.getheaders()}
        return Reply(status=response.status, headers=told, data=data)

    def close(self) -> None:
        """Close the connections that are kept."""
        with self._lock:
            kept, self._kept = self._kept, []
        for _, connection in kept:
            connection.close()

    def _take(self, timeout_s: float, *, fresh: bool) -> tuple[str, http.client.HTTPConnection]:
        url = self._find_url()
        with self._lock:
            while self._kept and not fresh:
                place, connection = self._kept.pop()
                if place == url:
                    connection.timeout = timeout_s
                    if connection.sock is not None:
                        connection.sock.settimeout(timeout_s)
                    return url, connection
                connection.close()
        parts = urlsplit(url)
        assert parts.hostname is not None
        return url, http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)

    def _keep(self, url: str, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if len(self._kept) < MAX_KEPT:
                self._kept.append((url, connection))
                return
        connection.close()


def _unreached(error: Exception, timeout_s: float) -> UpstreamError:
    if isinstance(error, TimeoutError):
        return UpstreamTimeout(f"The gateway did not embed within {timeout_s:.0f} s.")
    return UpstreamUnavailable(
        "The gateway cannot be reached for embeddings.",
        hint="Is it running? `penstock up` starts it.",
    )


class RouteCalls:
    """`knowledge.embedding.calls.EmbeddingCalls` over one route, in the version that was looked up before."""

    def __init__(
        self, calls: GatewayCalls, *, name: str, models: frozenset[str], version: str | None, price: Price
    ) -> None:
        """`models` may answer (empty: any); `version` is what the route says of itself, None where it says nothing."""
        self._calls = calls
        self._name = name
        self._models = models
        self._version = version
        self._price = price

    def ask(
        self, texts: Sequence[str], *, dims: int | None, traceparent: str | None, timeout_s: float
    ) -> EmbedAnswer:
        """Return one row a text, in their order."""
        body: dict[str, Any] = {"model": self._name, "input": list(texts), "encoding_format": "float"}
        if dims is not None:
            body["dimensions"] = dims
        try:
            reply = self._calls.post(
                msgspec.json.encode(body), traceparent=traceparent, timeout_s=min(timeout_s, TIMEOUT_S)
            )
        except UpstreamTimeout as error:
            raise NoRoomNow(error.message) from error
        if reply.status != http.client.OK:
            raise _failure(reply)
        self._hold_to_version(reply.headers)
        rows, n_tokens = _read_rows(reply.data, len(texts))
        return EmbedAnswer(rows=rows, n_tokens=n_tokens, cost_nano_usd=self._cost(reply.headers, n_tokens))

    def _hold_to_version(self, headers: Mapping[str, str]) -> None:
        model, version = headers.get("x-penstock-model"), headers.get("x-penstock-version")
        if self._version is not None and version is not None and version != self._version:
            raise ChangedEmbedder(
                f"{self._name!r} answered as {version!r}; this was begun with {self._version!r}.",
                hint="Nothing of its answer was kept. Run it again to embed by what is served now.",
            )
        if self._models and model is not None and model not in self._models:
            raise ChangedEmbedder(
                f"{self._name!r} was answered by {model!r}, not by {' or '.join(sorted(self._models))}.",
                hint="Vectors of two models do not compare. Give the base a route without such fallbacks.",
            )

    def _cost(self, headers: Mapping[str, str], n_tokens: int | None) -> int | None:
        provider, model = headers.get("x-penstock-provider"), headers.get("x-penstock-model")
        if n_tokens is None or provider is None or model is None:
            return None
        return self._price(provider, model, n_tokens)


class GatewayEmbedder:
    """Embeds over `/v1/embeddings` by whichever model is named at the time. Safe from several threads."""

    def __init__(
        self, *, find_model: Callable[[], tuple[str, str]], find_url: Callable[[], str], internal_key: str
    ) -> None:
        """`find_model` returns route and version of the model to use now, `find_url` the gateway's base URL."""
        self._find_model = find_model
        self._calls = GatewayCalls(find_url, internal_key)

    def embed(
        self, texts: Sequence[str], kind: TextKind, *, traceparent: str | None = None
    ) -> NDArray[np.float32]:
        """Return one row a text. Raises `UpstreamError` when the gateway or the engine cannot."""
        del kind  # without a recipe questions and documents are embedded alike
        body = {"model": self._find_model()[0], "input": list(texts), "encoding_format": "float"}
        reply = self._calls.post(msgspec.json.encode(body), traceparent=traceparent)
        if reply.status != http.client.OK:
            told = _read_error(reply)
            raise UpstreamError(f"The embedding call failed with status {reply.status}: {told.message}")
        return _read_rows(reply.data, len(texts))[0]

    def close(self) -> None:
        """Close connections."""
        self._calls.close()


@dataclass(frozen=True, kw_only=True)
class _Told:
    message: str
    code: str | None = None
    param: str | None = None


def _failure(reply: Reply) -> Exception:
    told = _read_error(reply)
    reason = f"status {reply.status}: {told.message}"
    if reply.status in _PASSING and reply.headers.get("x-should-retry") != "false":
        return NoRoomNow(reason, retry_after_s=_seconds(reply.headers.get("retry-after")))
    is_size = reply.status == http.client.REQUEST_ENTITY_TOO_LARGE or told.code in _SIZE_CODES
    is_size = is_size or bool(_SIZE_WORDS.search(told.message))
    is_of_texts = reply.status in _OF_TEXTS and (told.param is None or told.param.startswith("input"))
    return Refused(reason, is_size=is_size, is_of_texts=is_of_texts)


def _read_error(reply: Reply) -> _Told:
    try:
        value = json.loads(reply.data)
    except ValueError:
        value = None
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict):
        return _Told(message="no reason given")
    message, code, param = error.get("message"), error.get("code"), error.get("param")
    return _Told(
        message=str(message or "no reason given")[:500],
        code=code if isinstance(code, str) else None,
        param=param if isinstance(param, str) else None,
    )


def _read_rows(data: bytes, n_texts: int) -> tuple[NDArray[np.float32], int | None]:
    try:
        answer = _answers.decode(data)
        rows = sorted(answer.data, key=lambda row: row.index)
        if [row.index for row in rows] != list(range(n_texts)):
            raise UpstreamError(
                f"The gateway answered {n_texts} texts with {len(rows)} vectors, or not with one for each."
            )
        told = answer.usage
        n_tokens = (
            None
            if told is None
            else told.prompt_tokens
            if told.prompt_tokens is not None
            else told.total_tokens
        )
        return np.asarray([row.embedding for row in rows], dtype=np.float32), n_tokens
    except (ValueError, msgspec.MsgspecError) as error:
        raise UpstreamError("The gateway answered an embedding call with something else.") from error


def _seconds(value: str | None) -> float | None:
    try:
        seconds = float(value) if value is not None else None
    except ValueError:
        return None
    return seconds if seconds is None or 0 <= seconds < 86_400 else None
