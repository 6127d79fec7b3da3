"""What the gateway asks of every kind of authentication: the headers of one request.

A signer is made once for each provider and kept. Most answer with the same bytes for ever (`static_headers`); only
those that sign the request or fetch a token are asked each time.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

Header = tuple[bytes, bytes]

TokenFetch = Callable[[str, bytes], Awaitable[tuple[int, bytes]]]
"""Posts a form to a URL; returns status and body. Raises `UpstreamError` when nothing answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MissingKey:
    """The provider cannot be called: what should hold its key is empty or cannot be a key."""

    variable: str
    """The environment variable to set, or the name of the secret."""


class Signer(Protocol):
    """Proves to one provider who calls. Never logs or returns a key anywhere but in the headers."""

    @property
    def waits(self) -> bool:
        """Whether `headers` may wait for somebody, such as a token service."""
        ...

    def static_headers(self) -> bytes | None:
        """Return the header lines, each with its CRLF (b"" if none are needed); None if every request needs its own.

        Where bytes are returned, `headers` need not be called.
        """
        ...

    async def headers(
        self, method: bytes, host: bytes, path_query: bytes, body: bytes, now_s: float
    ) -> list[Header]:
        """Return the headers to add to this request, exactly as it will be sent.

        `path_query` is the request target as it stands in the request line, `host` the value of the `Host` header,
        `now_s` the wall clock. Raises `UpstreamError` if a token cannot be had.
        """
        ...
