"""The playground's line to the gateway: one streamed chat call, with the key that browsers never see."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from penstock.base.errors import UpstreamUnavailable

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=3, sock_read=300)


@dataclass(frozen=True, kw_only=True)
class OpenCall:
    """A reply whose head has come. `chunks` are its bytes as they arrive."""

    status: int
    content_type: str
    headers: dict[str, str]
    """The `x-penstock-…` headers."""
    chunks: AsyncIterator[bytes]


class GatewayClient:
    """Calls `/v1/chat/completions` of the gateway under `base_url`."""

    def __init__(self, base_url: str, key: str) -> None:
        self._url = f"{base_url.rstrip('/')}/v1/chat/completions"
        self._key = key

    @asynccontextmanager
    async def stream_chat(self, body: bytes, *, user: str) -> AsyncIterator[OpenCall]:
        """Send `body` and yield the open reply; leaving the block ends the call. Raises `UpstreamUnavailable`."""
        headers = {
            "authorization": f"Bearer {self._key}",
            "content-type": "application/json",
            "x-penstock-user": user,
            "x-penstock-session": "playground",
        }
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT) as session,
                session.post(self._url, data=body, headers=headers) as reply,
            ):
                yield OpenCall(
                    status=reply.status,
                    content_type=reply.headers.get("content-type", "application/octet-stream"),
                    headers={
                        name.lower(): value
                        for name, value in reply.headers.items()
                        if name.lower().startswith("x-penstock-")
                    },
                    chunks=reply.content.iter_any(),
                )
        except aiohttp.ClientConnectionError as error:
            raise UpstreamUnavailable(
                "The gateway could not be reached.", hint="`penstock up` starts it.", url=self._url
            ) from error
