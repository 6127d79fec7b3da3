"""Calls to an engine or another server that speaks OpenAI's words, with JSON both ways."""

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from penstock.base.errors import UpstreamError, UpstreamUnavailable


@dataclass(frozen=True, kw_only=True)
class EngineReply:
    """What a server said."""

    status: int
    body: Any
    """Its JSON; None where it is none."""

    @property
    def message(self) -> str:
        """What it says went wrong."""
        told = self.body.get("error") if isinstance(self.body, dict) else None
        return str(told.get("message") if isinstance(told, dict) else told or f"status {self.status}")


class EngineCalls:
    """One server."""

    def __init__(self, url: str, key: str | None, *, timeout_s: float = 60.0) -> None:
        """`url` ends in `/v1`."""
        self.url = url.rstrip("/")
        self._key = key
        self._timeout_s = timeout_s

    def get(self, path: str) -> EngineReply:
        """Return the reply to `GET URL/path`; raise `UpstreamUnavailable`."""
        return self._call("GET", path, None)

    def post(self, path: str, body: Mapping[str, Any]) -> EngineReply:
        """Return the reply to `POST URL/path`; raise `UpstreamUnavailable`."""
        return self._call("POST", path, body)

    def demand(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the JSON object of a reply with status 200; raise `UpstreamError` otherwise."""
        reply = self._call(method, path, body)
        if reply.status != http.client.OK or not isinstance(reply.body, dict):
            raise UpstreamError(f"{self.url}{path} failed: {reply.message}")
        return reply.body

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None) -> EngineReply:
        try:
            parts = urlsplit(self.url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise UpstreamUnavailable(f"{self.url!r} is no address: {error}.") from error
        if host is None:
            raise UpstreamUnavailable(f"{self.url!r} is no address: it names no host.")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(host, port, timeout=self._timeout_s)
        headers = {"content-type": "application/json"}
        if self._key:
            headers["authorization"] = f"Bearer {self._key}"
        data = None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, f"{parts.path}{path}", body=data, headers=headers)
            response = connection.getresponse()
            status, answer = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise UpstreamUnavailable(f"{self.url} cannot be reached: {reason}.") from error
        finally:
            connection.close()
        try:
            return EngineReply(status=status, body=json.loads(answer))
        except ValueError:
            return EngineReply(status=status, body=None)
