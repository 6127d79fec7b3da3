"""The gateway as evaluations ask it: over HTTP with the installation's own key, one client an event loop."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import msgspec

from penstock.base.errors import UpstreamError, UpstreamTimeout, UpstreamUnavailable
from penstock.evals.ports import GatewayReply

EMBED_TIMEOUT_S = 120.0
NEWS_S = 5.0
"""How long after the first call an unknown model may be one that the gateway has not heard of yet: it takes up versions
and routes that were just made within a second."""
NEWS_POLL_S = 0.25
_TEXT = 2000


def _code_of(reply: GatewayReply) -> Any:
    error = reply.body.get("error") if isinstance(reply.body, dict) else None
    return error.get("code") if isinstance(error, dict) else None


class HttpGateway:
    """`evals.ports.Gateway`. Use from one event loop."""

    def __init__(self, url: str, key: str) -> None:
        """`url` is the gateway's, without `/v1`."""
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        self._session: aiohttp.ClientSession | None = None
        self._began: float | None = None

    async def chat(
        self, body: Mapping[str, Any], *, headers: Mapping[str, str], timeout_s: float
    ) -> GatewayReply:
        """Return the reply; raise `UpstreamTimeout`, `UpstreamUnavailable`."""
        if self._began is None:
            self._began = time.monotonic()
        while True:
            reply = await self._post("/v1/chat/completions", body, headers, timeout_s)
            is_news = time.monotonic() < self._began + NEWS_S
            if not (is_news and reply.status == 404 and _code_of(reply) == "model_not_found"):
                return reply
            await asyncio.sleep(NEWS_POLL_S)

    async def embed(
        self, model: str, texts: Sequence[str], *, headers: Mapping[str, str]
    ) -> list[list[float]]:
        """Return one vector a text, in order; raise `UpstreamError`."""
        body = {"model": model, "input": list(texts), "encoding_format": "float"}
        reply = await self._post("/v1/embeddings", body, headers, EMBED_TIMEOUT_S)
        try:
            if reply.status != 200:
                told = reply.body.get("error") if isinstance(reply.body, dict) else None
                message = told.get("message") if isinstance(told, dict) else reply.text
                raise UpstreamError(f"{model!r} did not embed: status {reply.status}: {message}")
            rows = sorted(reply.body["data"], key=lambda row: int(row["index"]))
            return [[float(number) for number in row["embedding"]] for row in rows]
        except (KeyError, TypeError, ValueError) as error:
            raise UpstreamError(f"{model!r} answered an embedding call with something else.") from error

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _post(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str], timeout_s: float
    ) -> GatewayReply:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), trust_env=False)
        began = time.monotonic()
        try:
            async with self._session.post(
                f"{self._url}{path}",
                data=msgspec.json.encode(body),
                headers={**self._headers, **headers},
                timeout=aiohttp.ClientTimeout(total=timeout_s),
                allow_redirects=False,
            ) as response:
                data = await response.read()
                status = response.status
                told = {name.lower(): value for name, value in response.headers.items()}
        except TimeoutError as error:
            raise UpstreamTimeout(f"The gateway did not answer within {timeout_s:g} s.") from error
        except aiohttp.ClientError as error:
            reason = str(error) or type(error).__name__
            raise UpstreamUnavailable(
                f"The gateway cannot be reached: {reason}.", hint="`penstock up` starts it."
            ) from error
        latency_ms = (time.monotonic() - began) * 1000
        try:
            value, text = msgspec.json.decode(data), ""
        except msgspec.DecodeError:
            value, text = None, data[:_TEXT].decode("utf-8", "replace")
        return GatewayReply(status=status, headers=told, body=value, text=text, latency_ms=latency_ms)
