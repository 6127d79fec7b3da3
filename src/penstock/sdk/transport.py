"""One kept connection to the collector: posts a body, tells how it was answered. Standard library only.

A client of the program's own choice would be traced by the very instrumentation that this delivers.
"""

import email.utils
import gzip
import http.client
import time
from typing import Literal, NamedTuple, Protocol
from urllib.parse import urlsplit

import msgspec

from penstock import __version__
from penstock.sdk.settings import SdkSettings

GZIP_FROM_BYTES = 2048
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_ABOUT_BODY = frozenset({400, 422})
_FAILED = frozenset({500, 502, 504})
"""Statuses of a server that may have failed over one body; the others of `_AGAIN` ask to wait."""

Verdict = Literal["accepted", "refused", "too_large", "away"]


class Answer(NamedTuple):
    """How a request ended."""

    verdict: Verdict
    n_rejected: int = 0
    """Records that were left out of an accepted request."""
    reason: str | None = None
    retry_after_s: float | None = None
    is_of_body: bool = False
    """Whether a refusal is about something in this body, so that a part of it may be taken."""
    is_there: bool = False
    """Whether a server that did not take this body was there and may take others: it failed, or broke off."""


class Transport(Protocol):
    """What the sender needs of a connection."""

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        """Send a JSON body; never raises."""

    def close(self) -> None:
        """Give the connection up."""


class _Partial(msgspec.Struct):
    rejectedSpans: int = 0  # noqa: N815  # the wire's name
    errorMessage: str | None = None  # noqa: N815


class _Reply(msgspec.Struct):
    partialSuccess: _Partial | None = None  # noqa: N815


class HttpTransport:
    """Posts over one HTTP/1.1 connection; for one thread."""

    def __init__(self, settings: SdkSettings) -> None:
        parts = urlsplit(settings.url)
        assert parts.hostname is not None
        self._host, self._port = parts.hostname, parts.port
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._base = parts.path.rstrip("/")
        self._timeout_s = settings.timeout_s
        self._is_far = self._host not in _LOOPBACK
        self._headers = {
            "content-type": "application/json",
            "authorization": f"Bearer {settings.key}",
            "user-agent": f"penstock-sdk/{__version__}",
        }
        self._connection: http.client.HTTPConnection | None = None

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        """Send a JSON body; never raises."""
        sent = {**self._headers, **headers}
        if self._is_far and len(body) >= GZIP_FROM_BYTES:
            body = gzip.compress(body, compresslevel=1)
            sent["content-encoding"] = "gzip"
        was_kept = self._connection is not None
        try:
            try:
                return self._exchange(path, body, sent)
            except (http.client.RemoteDisconnected, ConnectionError):
                if not was_kept:
                    raise
                self.close()  # the server had closed the kept connection: that says nothing about this request
                return self._exchange(path, body, sent)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            reason = f"{self._host} did not answer: {str(error) or type(error).__name__}"
            broke_off = isinstance(error, ConnectionResetError | BrokenPipeError | http.client.HTTPException)
            return Answer("away", reason=reason, is_there=broke_off)

    def close(self) -> None:
        """Give the connection up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(self, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        if self._connection is None:
            self._connection = self._kind(self._host, self._port, timeout=self._timeout_s)
        self._connection.request("POST", self._base + path, body=body, headers=headers)
        response = self._connection.getresponse()
        text = response.read()
        return judge(response.status, text, response.headers.get("retry-after"))


def judge(status: int, text: bytes, retry_after: str | None = None) -> Answer:
    """Return what an HTTP answer means for the batch that was sent."""
    if 200 <= status < 300:
        return _read_partial(text)
    reason = f"HTTP {status}: {_message_of(text)}"
    if status in _AGAIN:
        is_there = status in _FAILED
        return Answer("away", reason=reason, retry_after_s=_seconds(retry_after), is_there=is_there)
    if status == 413:
        return Answer("too_large", reason=reason)
    return Answer("refused", reason=reason, is_of_body=status in _ABOUT_BODY)


def _read_partial(text: bytes) -> Answer:
    try:
        partial = msgspec.json.decode(text, type=_Reply, strict=False).partialSuccess
    except msgspec.MsgspecError:
        return Answer("accepted")
    if partial is None or partial.rejectedSpans <= 0:
        return Answer("accepted")
    return Answer("accepted", n_rejected=partial.rejectedSpans, reason=partial.errorMessage)


def _message_of(text: bytes) -> str:
    try:
        told = msgspec.json.decode(text)
        return str(told["error"]["message"])[:300]
    except (msgspec.MsgspecError, KeyError, TypeError):
        return text[:200].decode("utf-8", "replace").strip() or "no text"


def _seconds(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header (RFC 9110 §10.2.3), or None."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    at = email.utils.parsedate_to_datetime(value) if value.strip().endswith("GMT") else None
    return None if at is None else max(0.0, at.timestamp() - time.time())
