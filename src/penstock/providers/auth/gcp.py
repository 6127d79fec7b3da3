"""Google Cloud: a service account's key file is turned into access tokens that are kept until they run out.

A token is fetched by one call while others wait for it (or go on with the old one while that is good). Signing needs
the `cryptography` package, which is loaded with the first token only.
"""

# ruff: noqa: ARG002 - the port's arguments, which this kind does not need

import asyncio
import base64
from collections.abc import Callable
from urllib.parse import urlencode

import msgspec

from penstock.base.errors import UpstreamError
from penstock.providers.auth.errors import CredentialsUnusable, PackageMissing, TokenRefused
from penstock.providers.auth.port import Header, TokenFetch

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LIFE_S = 3600
_EARLY_S = 300.0
"""Tokens are fetched anew this long before they run out, so that a failure of the token service is not felt."""
_LAST_S = 30.0
"""A token with less life than this is not used any more."""


class ServiceAccount(msgspec.Struct, frozen=True):
    """What is read of a service account's key file."""

    client_email: str
    private_key: str
    token_uri: str = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
    private_key_id: str | None = None

    def __repr__(self) -> str:
        return f"ServiceAccount(client_email={self.client_email!r})"


class _Token(msgspec.Struct, frozen=True):
    access_token: str
    expires_in: float = 3600.0


def read_service_account(text: str | bytes) -> ServiceAccount:
    """Return the account in a key file; raise `CredentialsUnusable` if it is none."""
    try:
        account = msgspec.json.decode(text, type=ServiceAccount)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise CredentialsUnusable(
            "The Google credentials are not the key file of a service account.",
            hint="Create a JSON key for the account and let GOOGLE_APPLICATION_CREDENTIALS name its file.",
        ) from None
    if not account.token_uri.startswith(("https://", "http://127.0.0.1:")):
        raise CredentialsUnusable("The `token_uri` of the Google credentials is not an https address.")
    return account


def sign_rs256(private_key_pem: str, data: bytes) -> bytes:
    """Return the RS256 signature of `data`; raise `PackageMissing` or `CredentialsUnusable`."""
    try:
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError:
        raise PackageMissing(
            "Google service accounts need the package `cryptography`.",
            hint="Install it, or put a token into GCP_ACCESS_TOKEN.",
        ) from None
    try:
        key = load_pem_private_key(private_key_pem.encode(), password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise CredentialsUnusable("The `private_key` of the Google credentials is not an RSA key.")
    return key.sign(data, PKCS1v15(), SHA256())


def make_assertion(
    account: ServiceAccount, now_s: float, *, sign: Callable[[str, bytes], bytes] = sign_rs256
) -> bytes:
    """Return the signed JWT (RFC 7523) that asks for a token of one hour."""
    head: dict[str, str] = {"alg": "RS256", "typ": "JWT"}
    if account.private_key_id:
        head["kid"] = account.private_key_id
    issued_s = int(now_s)
    claims = {
        "iss": account.client_email,
        "scope": SCOPE,
        "aud": account.token_uri,
        "iat": issued_s,
        "exp": issued_s + _LIFE_S,
    }
    data = b".".join(_base64url(msgspec.json.encode(part)) for part in (head, claims))
    return data + b"." + _base64url(sign(account.private_key, data))


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


class GcpSigner:
    """Sends a service account's access token. Use from one event loop only."""

    waits = True

    def __init__(
        self,
        account: ServiceAccount,
        fetch: TokenFetch,
        *,
        sign: Callable[[str, bytes], bytes] = sign_rs256,
    ) -> None:
        self._account = account
        self._fetch = fetch
        self._sign = sign
        self._token = b""
        self._expires_s = 0.0
        self._lock = asyncio.Lock()

    def static_headers(self) -> bytes | None:
        """Return None: tokens run out."""
        return None

    async def headers(
        self, method: bytes, host: bytes, path_query: bytes, body: bytes, now_s: float
    ) -> list[Header]:
        """Return the authorization header; raise `TokenRefused` if there is no token to be had."""
        left_s = self._expires_s - now_s
        if left_s < _EARLY_S and not (left_s > _LAST_S and self._lock.locked()):
            await self._renew(now_s)
        return [(b"authorization", b"Bearer " + self._token)]

    async def _renew(self, now_s: float) -> None:
        async with self._lock:
            left_s = self._expires_s - now_s
            if left_s >= _EARLY_S:
                return  # another call has fetched it meanwhile
            try:
                token = await self._ask(now_s)
            except UpstreamError:
                if left_s > _LAST_S:
                    return
                raise
            self._token = token.access_token.encode("ascii")
            self._expires_s = now_s + token.expires_in

    async def _ask(self, now_s: float) -> _Token:
        assertion = make_assertion(self._account, now_s, sign=self._sign)
        form = urlencode({"grant_type": _GRANT, "assertion": assertion.decode("ascii")}).encode()
        status, body = await self._fetch(self._account.token_uri, form)
        try:
            token = msgspec.json.decode(body, type=_Token) if status == 200 else None
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            token = None
        usable = token is not None and token.access_token.isascii() and token.access_token.isprintable()
        if token is None or not usable or not token.access_token:
            raise TokenRefused(
                f"Google gave no access token for {self._account.client_email} (HTTP {status}).",
                hint="Is the key still valid, and is this machine's clock right?",
            )
        return token
