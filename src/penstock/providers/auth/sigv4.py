"""AWS Signature Version 4, by headers. Pure: the time comes in, nothing is fetched.

Written after "Signature Version 4 signing process" of the AWS General Reference. Its one surprise: every service but
S3 signs a path that is percent-encoded once more than the one in the request line.
"""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import quote

from penstock.providers.auth.port import Header

_ALGORITHM = "AWS4-HMAC-SHA256"
_EMPTY_SHA256 = sha256(b"").hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class AwsKeys:
    """An access key pair, with the session token of temporary ones."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None

    def __repr__(self) -> str:
        return f"AwsKeys(access_key_id={self.access_key_id!r})"


def sign(
    *,
    keys: AwsKeys,
    region: str,
    service: str,
    method: str,
    path_query: str,
    headers: Iterable[tuple[str, str]],
    body: bytes,
    amz_date: str,
) -> str:
    """Return the value of the `Authorization` header. All of `headers` are signed; `amz_date` is among them."""
    path, _, query = path_query.partition("?")
    canonical: dict[str, list[str]] = {}
    for name, value in headers:
        canonical.setdefault(name.lower(), []).append(" ".join(value.split()))
    names = sorted(canonical)
    request = "\n".join(
        (
            method,
            quote(path or "/", safe="/-_.~"),
            _canonical_query(query),
            *(f"{name}:{','.join(canonical[name])}" for name in names),
            "",
            ";".join(names),
            sha256(body).hexdigest() if body else _EMPTY_SHA256,
        )
    )
    scope = f"{amz_date[:8]}/{region}/{service}/aws4_request"
    text = "\n".join((_ALGORITHM, amz_date, scope, sha256(request.encode()).hexdigest()))
    key = signing_key(keys.secret_access_key, amz_date[:8], region, service)
    signature = hmac.new(key, text.encode(), sha256).hexdigest()
    return (
        f"{_ALGORITHM} Credential={keys.access_key_id}/{scope}, SignedHeaders={';'.join(names)}, "
        f"Signature={signature}"
    )


def signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    """Return the key derived for one day (`YYYYMMDD`), region and service."""
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), sha256).digest()
    return key


def _canonical_query(query: str) -> str:
    # What is in the request line is encoded already: only the order is left to settle.
    pairs = [part.partition("=") for part in query.split("&") if part]
    return "&".join(f"{name}={value}" for name, _, value in sorted(pairs))


class SigV4Signer:
    """Signs each request with AWS keys."""

    waits = False

    def __init__(self, keys: AwsKeys, *, region: str, service: str) -> None:
        self._keys = keys
        self._region = region
        self._service = service

    def static_headers(self) -> bytes | None:
        """Return None: a signature holds for one request."""
        return None

    async def headers(
        self, method: bytes, host: bytes, path_query: bytes, body: bytes, now_s: float
    ) -> list[Header]:
        """Return date, session token and authorization. A body is signed as `application/json`."""
        amz_date = datetime.fromtimestamp(now_s, tz=UTC).strftime("%Y%m%dT%H%M%SZ")
        added = [("x-amz-date", amz_date)]
        if self._keys.session_token:
            added.append(("x-amz-security-token", self._keys.session_token))
        signed = [("host", host.decode("ascii")), *added]
        if body:
            signed.append(("content-type", "application/json"))
        value = sign(
            keys=self._keys,
            region=self._region,
            service=self._service,
            method=method.decode("ascii"),
            path_query=path_query.decode("ascii"),
            headers=signed,
            body=body,
            amz_date=amz_date,
        )
        return [(name.encode(), text.encode()) for name, text in (*added, ("authorization", value))]
