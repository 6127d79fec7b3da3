"""One request at a time, bounded in bytes and time, made to exactly the address that was checked.

A connection is used once. Redirects are not followed here: whoever asks decides whether the next address is allowed.
"""

import contextlib
import gzip
import http.client
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from penstock.knowledge.sources.errors import ItemUnavailable
from penstock.knowledge.sources.web.guard import AddressGuard

PIECE_BYTES = 64 * 1024
REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a server answered."""

    url: str
    status: int
    headers: Mapping[str, str]
    """With names in lower case."""
    body: bytes
    is_cut: bool = False
    """The body is larger than what was asked for at most."""

    @property
    def media_type(self) -> str | None:
        """The type without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower() or None

    @property
    def charset(self) -> str | None:
        """The character set that the header names."""
        for part in self.headers.get("content-type", "").split(";")[1:]:
            name, _, value = part.partition("=")
            if name.strip().lower() == "charset":
                return value.strip().strip("\"'").lower() or None
        return None

    @property
    def goes_to(self) -> str | None:
        """Where a redirect leads."""
        place = self.headers.get("location")
        if self.status not in REDIRECTS or not place:
            return None
        try:
            return urljoin(self.url, place)
        except ValueError:  # such as http://[x
            return place

    @property
    def is_moved_for_good(self) -> bool:
        """Whether a redirect says that the page is not to be looked for here again."""
        return self.status in {301, 308}


class Fetcher:
    """Asks servers for pages."""

    def __init__(
        self,
        guard: AddressGuard,
        *,
        user_agent: str,
        timeout_s: float,
        max_bytes: int,
        headers_for: Callable[[str], Mapping[str, str]] = lambda _url: {},
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`headers_for` gives further headers for an address, such as credentials for its host only."""
        self._guard = guard
        self._user_agent = user_agent
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._headers_for = headers_for
        self._now = now

    def get(
        self, url: str, headers: Mapping[str, str] | None = None, *, max_bytes: int | None = None
    ) -> Reply:
        """Return the answer to a GET. Raises `ForbiddenAddress`, and `ItemUnavailable` when there is none in time."""
        parts = urlsplit(url)
        limit = max_bytes or self._max_bytes
        deadline = self._now() + self._timeout_s
        connection = self._connect(parts.scheme, parts.hostname or "", parts.port)
        watch = threading.Timer(self._timeout_s, connection.cut)
        watch.daemon = True
        watch.start()
        try:
            target = parts.path or "/"
            connection.request(
                "GET",
                f"{target}?{parts.query}" if parts.query else target,
                headers=self._headers(url, headers),
            )
            with connection.getresponse() as response:
                told = {name.lower(): value for name, value in response.getheaders()}
                body, is_cut = self._read(response, limit, deadline)
            if told.get("content-encoding", "").lower() in {"gzip", "x-gzip"} and not is_cut:
                body, is_cut = unpack(body, limit)  # some send it though it was not asked for
            if connection.was_cut and not is_cut:
                raise TimeoutError("it takes too long")
        except (OSError, http.client.HTTPException, ValueError) as error:
            late = TimeoutError("it takes too long") if connection.was_cut else error
            raise ItemUnavailable(f"{url} does not answer: {_told(late)}.") from error
        finally:
            watch.cancel()
            connection.close()
        return Reply(url=url, status=response.status, headers=told, body=body, is_cut=is_cut)

    def _headers(self, url: str, more: Mapping[str, str] | None) -> dict[str, str]:
        return {
            "user-agent": self._user_agent,
            "accept": "text/html,application/xhtml+xml,text/*;q=0.9,*/*;q=0.8",
            "accept-encoding": "identity",
            "connection": "close",
            **self._headers_for(url),
            **(more or {}),
        }

    def _connect(self, scheme: str, host: str, port: int | None) -> "_Connection | _SecureConnection":
        number = port or (443 if scheme == "https" else 80)
        address = self._guard.choose_address(host, number)
        if scheme == "https":
            return _SecureConnection(host, number, address, self._timeout_s)
        return _Connection(host, number, address, self._timeout_s)

    def _read(self, response: http.client.HTTPResponse, limit: int, deadline: float) -> tuple[bytes, bool]:
        pieces: list[bytes] = []
        n_bytes = 0
        while piece := response.read1(PIECE_BYTES):
            pieces.append(piece)
            n_bytes += len(piece)
            if n_bytes > limit:
                return b"".join(pieces)[:limit], True
            if self._now() > deadline:
                raise TimeoutError("it takes too long")
        if response.length:  # the server stopped before it sent what it announced
            raise http.client.IncompleteRead(b"", response.length)
        return b"".join(pieces), False


def unpack(data: bytes, limit: int) -> tuple[bytes, bool]:
    """Return what gzip packed, at most `limit` bytes, and whether there was more. Raises `ValueError`."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        found = unpacker.decompress(data, limit)
    except zlib.error as error:
        raise ValueError(f"no gzip: {error}") from error
    return found, bool(unpacker.unconsumed_tail)


def pack(data: bytes) -> bytes:
    """Return data as gzip."""
    return gzip.compress(data, mtime=0)


class _Cut:
    """A connection that another thread can end, whatever it waits for: its headers, too, must come in time."""

    was_cut = False
    _called: socket.socket | None = None
    """Known for longer than `sock`, which goes as soon as the headers are there."""

    def cut(self) -> None:
        """End it."""
        self.was_cut = True
        if self._called is not None:
            with contextlib.suppress(OSError):
                # Not the method of a TLS socket, which would take its state from under the waiting thread.
                socket.socket.shutdown(self._called, socket.SHUT_RDWR)


class _Connection(_Cut, http.client.HTTPConnection):
    """Connects to a chosen address and still names the host it asks."""

    def __init__(self, host: str, port: int, address: str, timeout_s: float) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self._address = address

    def connect(self) -> None:
        self.sock = self._called = socket.create_connection((self._address, self.port), self.timeout)


class _SecureConnection(_Cut, http.client.HTTPSConnection):
    """The same over TLS; the certificate must be the host's."""

    def __init__(self, host: str, port: int, address: str, timeout_s: float) -> None:
        self._tls = ssl.create_default_context()
        super().__init__(host, port, timeout=timeout_s, context=self._tls)
        self._address = address

    def connect(self) -> None:
        plain = socket.create_connection((self._address, self.port), self.timeout)
        self.sock = self._called = wrapped = self._tls.wrap_socket(
            plain, server_hostname=self.host, do_handshake_on_connect=False
        )
        wrapped.do_handshake()


def _told(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return str(error) or "it takes too long"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f"{type(error).__name__} {error}".strip()
