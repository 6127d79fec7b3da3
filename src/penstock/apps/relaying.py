"""Sends a chat request back through the gateway and gives its reply as it is: status, body, or events as they come."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from penstock.apps.callers import caller_headers
from penstock.apps.errors import StepFailed, StepTimeout
from penstock.spec.callers import REFUSAL_HEADER

MAX_ERROR_BYTES = 256 * 1024
TIMEOUT_S = 3600.0
"""The gateway bounds each call itself, by the provider's own limits."""
_BORDER = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_MAX_EVENT_BYTES = 16 * 1024 * 1024


class Relayed:
    """A reply of the gateway whose head has come."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        self.content_type = response.headers.get("content-type", "application/json")
        self.retry_after = response.headers.get("retry-after")
        self.refusal = response.headers.get(REFUSAL_HEADER)
        """Set where a limit of the caller has refused the call."""
        self._response = response

    @property
    def is_stream(self) -> bool:
        """Whether the body is a stream of events."""
        return self.content_type.startswith("text/event-stream")

    async def read(self) -> bytes:
        """Return the whole body."""
        try:
            return await self._response.read()
        except aiohttp.ClientError as error:
            raise StepFailed(f"The gateway broke off its reply: {_reason(error)}.", step="answer") from error

    async def events(self) -> AsyncIterator[bytes]:
        """Yield the events of a stream, whole and without what ends them."""
        pending = b""
        try:
            async for piece in self._response.content.iter_any():
                *events, pending = _BORDER.split(pending + piece)
                if len(pending) > _MAX_EVENT_BYTES:
                    raise StepFailed("The gateway sent an endless event.", step="answer")
                for event in events:
                    if event.strip():
                        yield event
        except aiohttp.ClientError as error:
            raise StepFailed(f"The gateway broke off its reply: {_reason(error)}.", step="answer") from error
        if pending.strip():
            yield pending


class Relay:
    """One HTTP session to the gateway. Use from one event loop; `close` at the end."""

    def __init__(self, gateway_url: str, internal_key: str) -> None:
        """`gateway_url` ends in `/v1`."""
        self._url = f"{gateway_url.rstrip('/')}/chat/completions"
        self._headers = {"authorization": f"Bearer {internal_key}", "content-type": "application/json"}
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def send(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> AsyncIterator[Relayed]:
        """Send a request and give its reply; leaving closes what is unread. Raises `StepFailed`, `StepTimeout`."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), auto_decompress=True, trust_env=False
            )
        try:
            response = await self._session.post(
                self._url,
                data=msgspec.json.encode(body),
                headers={**self._headers, **caller_headers(), **headers},
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
                allow_redirects=False,
            )
        except TimeoutError as error:
            raise StepTimeout("The gateway did not answer in time.", step="answer") from error
        except aiohttp.ClientError as error:
            raise StepFailed(f"The gateway could not be reached: {_reason(error)}.", step="answer") from error
        try:
            yield Relayed(response)
        finally:
            response.close() if not response.content.at_eof() else response.release()

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
