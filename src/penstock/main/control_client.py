"""Asks the running control process over REST, with the owner's key of the home. Its errors come back as errors."""

import http.client
import json
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

from penstock.base.errors import (
    BugError,
    CallerError,
    ConflictError,
    PenstockError,
    PolicyError,
    UpstreamError,
    UpstreamUnavailable,
)
from penstock.main.home_files import read_admin_key
from penstock.main.instance import require_instance
from penstock.spec.home import Home

TIMEOUT_S = 60.0
STREAM_TIMEOUT_S = 600.0
"""An export as Parquet sends nothing until it is whole."""
STREAM_BYTES = 256 * 1024
_BY_FAULT: dict[str, type[PenstockError]] = {
    "1": CallerError,
    "2": PolicyError,
    "3": ConflictError,
    "4": UpstreamError,
    "9": BugError,
}


class ControlClient:
    """REST calls to the control process of the instance that runs on `home`; raises `NotRunning` without one."""

    def __init__(self, home: Home) -> None:
        self._url = urlsplit(require_instance(home).addresses.console_url)
        self._key = read_admin_key(home)

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON answer to `GET path?query`; unset values are left out, lists are given item by item."""
        wanted = urlencode({name: value for name, value in query.items() if value is not None}, doseq=True)
        return self._call("GET", f"{path}?{wanted}" if wanted else path)

    def post(self, path: str, value: Any, *, timeout_s: float = TIMEOUT_S) -> Any:
        """Return the JSON answer to `POST path` with a JSON value."""
        return self._call("POST", path, json.dumps(value).encode(), timeout_s=timeout_s)

    def send_file(self, path: str, body: Iterable[bytes], size_bytes: int, **query: Any) -> Any:
        """Return the JSON answer to `POST path?query` with the bytes of a file as body, sent as they are read."""
        wanted = urlencode({name: value for name, value in query.items() if value is not None}, doseq=True)
        return self._call("POST", f"{path}?{wanted}", body, size_bytes=size_bytes, timeout_s=STREAM_TIMEOUT_S)

    def delete(self, path: str) -> Any:
        """Return the JSON answer to `DELETE path`."""
        return self._call("DELETE", path)

    def stream(self, path: str, **query: Any) -> Iterator[bytes]:
        """Yield the body of the answer to `GET path?query` as it comes; errors are raised before the first piece."""
        wanted = urlencode({name: value for name, value in query.items() if value is not None}, doseq=True)
        yield from self._stream("GET", f"{path}?{wanted}", None)

    def stream_post(self, path: str, value: Any) -> Iterator[bytes]:
        """Yield the body of the answer to `POST path` with a JSON value, in the same way."""
        yield from self._stream("POST", path, json.dumps(value).encode())

    def _stream(self, method: str, path: str, body: bytes | None) -> Iterator[bytes]:
        assert self._url.hostname is not None
        connection = http.client.HTTPConnection(self._url.hostname, self._url.port, timeout=STREAM_TIMEOUT_S)
        headers = {"authorization": f"Bearer {self._key}"}
        if body is not None:
            headers["content-type"] = "application/json"
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            if response.status >= http.client.BAD_REQUEST:
                raise _error_of(json.loads(response.read()), response.status)
            while piece := response.read(STREAM_BYTES):
                yield piece
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UpstreamUnavailable(
                "The control process broke off.", hint="Its log says why; `penstock doctor` says more."
            ) from error
        finally:
            connection.close()

    def _call(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        *,
        size_bytes: int | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Any:
        assert self._url.hostname is not None
        connection = http.client.HTTPConnection(self._url.hostname, self._url.port, timeout=timeout_s)
        try:
            headers = {"authorization": f"Bearer {self._key}"}
            if size_bytes is not None:
                headers |= {"content-type": "application/octet-stream", "content-length": str(size_bytes)}
            elif body is not None:
                headers["content-type"] = "application/json"
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise UpstreamUnavailable(
                "The control process does not answer.", hint="`penstock doctor` says more."
            ) from error
        finally:
            connection.close()
        try:
            value = json.loads(answer)
        except ValueError as error:
            raise UpstreamError(
                f"The control process answered status {response.status} without JSON."
            ) from error
        if response.status >= http.client.BAD_REQUEST:
            raise _error_of(value, response.status)
        return value


def _error_of(value: Any, status: int) -> PenstockError:
    told = value.get("error", {}) if isinstance(value, dict) else {}
    code = str(told.get("code", "PS-4000"))
    kind = _BY_FAULT.get(code[3:4], UpstreamError)
    remote: type[PenstockError] = type(kind.__name__, (kind,), {"code": code, "status": status})
    given = told.get("fields")
    fields = given if isinstance(given, dict) else {}
    return remote(
        str(told.get("message", "The control process refused.")),
        hint=told.get("hint"),
        **{name: value for name, value in fields.items() if name not in {"message", "hint", "self"}},
    )
