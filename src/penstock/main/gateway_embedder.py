"""The embedder of knowledge bases: whichever embedding model this home has, asked through the gateway.

Going through the gateway gives each embedding call its span, its version and its price, as any other call.
"""

import http.client
import json
import threading
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from penstock.apps.callers import caller_headers
from penstock.base.errors import UpstreamError, UpstreamTimeout, UpstreamUnavailable
from penstock.knowledge.chunk.counting import estimate_tokens
from penstock.knowledge.types import EmbedUsage, TextKind

TIMEOUT_S = 120.0


class GatewayEmbedder:
    """Embeds over `/v1/embeddings`. Safe from several threads; each keeps its own connection."""

    def __init__(
        self, *, find_model: Callable[[], tuple[str, str]], find_url: Callable[[], str], internal_key: str
    ) -> None:
        """`find_model` returns route and version of the model to use now, `find_url` the gateway's base URL."""
        self._find_model = find_model
        self._find_url = find_url
        self._key = internal_key
        self._local = threading.local()

    @property
    def id(self) -> str:
        """Model and version, such as `minilm model:minilm@1 sha256:…`: it changes when vectors change."""
        return " ".join(self._find_model())

    @property
    def max_tokens(self) -> int | None:
        """Not known yet."""
        return None

    @property
    def usage(self) -> EmbedUsage:
        """Not counted yet."""
        return EmbedUsage(n_tokens=None, cost_nano_usd=None)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return estimates."""
        return estimate_tokens(texts)

    def embed(
        self, texts: Sequence[str], kind: TextKind, *, traceparent: str | None = None
    ) -> NDArray[np.float32]:
        """Return one row a text. Raises `UpstreamError` when the gateway or the engine cannot."""
        del kind  # these models embed questions and documents alike
        body = {"model": self._find_model()[0], "input": list(texts), "encoding_format": "float"}
        reply = self._post(json.dumps(body).encode(), traceparent)
        try:
            rows = sorted(reply["data"], key=lambda item: int(item["index"]))
            return np.asarray([row["embedding"] for row in rows], dtype=np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise UpstreamError("The gateway answered an embedding call with something else.") from error

    def close(self) -> None:
        """Close this thread's connection."""
        self._forget()

    def _post(self, body: bytes, traceparent: str | None) -> dict[str, Any]:
        headers = {
            "authorization": f"Bearer {self._key}",
            "content-type": "application/json",
            **caller_headers(),
        }
        if traceparent:
            headers["traceparent"] = traceparent
        for attempt in (1, 2):  # a kept connection may have been closed meanwhile; a second one is fresh
            connection = self._connection()
            try:
                connection.request("POST", "/v1/embeddings", body=body, headers=headers)
                response = connection.getresponse()
                data = response.read()
            except TimeoutError as error:
                self._forget()
                raise UpstreamTimeout(f"The gateway did not embed within {TIMEOUT_S:.0f} s.") from error
            except (OSError, http.client.HTTPException) as error:
                self._forget()
                if attempt == 2:
                    raise UpstreamUnavailable(
                        "The gateway cannot be reached for embeddings.",
                        hint="Is it running? `penstock up` starts it.",
                    ) from error
                continue
            return _read_reply(response.status, data)
        raise AssertionError("unreachable")

    def _connection(self) -> http.client.HTTPConnection:
        url = self._find_url()
        if getattr(self._local, "url", None) != url:
            self._forget()
            parts = urlsplit(url)
            assert parts.hostname is not None
            self._local.connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)
            self._local.url = url
        connection: http.client.HTTPConnection = self._local.connection
        return connection

    def _forget(self) -> None:
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
        self._local.connection = None
        self._local.url = None


def _read_reply(status: int, data: bytes) -> dict[str, Any]:
    try:
        reply = json.loads(data)
    except ValueError as error:
        raise UpstreamError(f"The gateway answered status {status} without JSON.") from error
    if status != http.client.OK or not isinstance(reply, dict):
        told = reply.get("error") if isinstance(reply, dict) else None
        message = told.get("message") if isinstance(told, dict) else None
        raise UpstreamError(f"The embedding call failed with status {status}: {message or 'no reason given'}")
    return reply
