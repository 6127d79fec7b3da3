"""Google access tokens: fetched once for all who wait, kept while good, renewed in time, never shown."""

import asyncio
import base64
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest

from penstock.base.errors import UpstreamUnavailable
from penstock.providers.auth.errors import CredentialsUnusable, TokenRefused
from penstock.providers.auth.gcp import (
    GcpSigner,
    ServiceAccount,
    make_assertion,
    read_service_account,
    sign_rs256,
)
from penstock.providers.auth.token_http import make_token_fetch
from penstock.providers.transport import Upstreams

ACCOUNT = ServiceAccount(client_email="gw@project.iam", private_key="PEM", private_key_id="kid1")


class TokenService:
    """Answers token requests with t1, t2 …"""

    def __init__(self, *, expires_in: int = 3600) -> None:
        self.n_asked = 0
        self.expires_in = expires_in
        self.status = 200
        self.is_down = False

    async def __call__(self, url: str, form: bytes) -> tuple[int, bytes]:
        self.n_asked += 1
        await asyncio.sleep(0)
        if self.is_down:
            raise UpstreamUnavailable("down")
        body = {"access_token": f"t{self.n_asked}", "expires_in": self.expires_in, "token_type": "Bearer"}
        return self.status, msgspec.json.encode(body)


def make(service: TokenService) -> GcpSigner:
    return GcpSigner(ACCOUNT, service, sign=lambda pem, data: b"signed")


async def token(signer: GcpSigner, now_s: float) -> bytes:
    ((name, value),) = await signer.headers(b"POST", b"h", b"/", b"{}", now_s)
    assert name == b"authorization"
    return value


async def test_many_calls_at_once_fetch_one_token_and_keep_it() -> None:
    service = TokenService()
    signer = make(service)
    assert signer.static_headers() is None
    got = await asyncio.gather(*(token(signer, 1000.0) for _ in range(20)))
    assert set(got) == {b"Bearer t1"}
    assert await token(signer, 1000.0 + 3299) == b"Bearer t1"
    assert service.n_asked == 1


async def test_a_token_is_renewed_before_it_runs_out_and_others_go_on_with_the_old_one() -> None:
    service = TokenService()
    signer = make(service)
    await token(signer, 0.0)
    first, second = await asyncio.gather(token(signer, 3400.0), token(signer, 3400.0))
    assert (first, second) == (b"Bearer t2", b"Bearer t1")
    assert service.n_asked == 2


async def test_a_failing_token_service_is_not_felt_while_the_token_is_good() -> None:
    service = TokenService()
    signer = make(service)
    await token(signer, 0.0)
    service.is_down = True
    assert await token(signer, 3400.0) == b"Bearer t1"
    with pytest.raises(UpstreamUnavailable):
        await token(signer, 3590.0)
    service.is_down = False
    assert await token(signer, 3591.0) == b"Bearer t4"


async def test_a_refusal_names_the_account_only() -> None:
    service = TokenService()
    service.status = 401
    with pytest.raises(TokenRefused) as caught:
        await token(make(service), 0.0)
    assert "gw@project.iam" in str(caught.value)
    assert "t1" not in str(caught.value)
    assert "PEM" not in repr(ACCOUNT)


def test_the_assertion_is_a_signed_jwt_for_one_hour() -> None:
    rsa = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.rsa")
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    text = msgspec.json.encode({"client_email": "a@b", "private_key": pem, "private_key_id": "k"})
    assertion = make_assertion(read_service_account(text), 1000.5)
    head, claims, signature = (base64.urlsafe_b64decode(part + b"==") for part in assertion.split(b"."))
    assert msgspec.json.decode(head) == {"alg": "RS256", "typ": "JWT", "kid": "k"}
    assert msgspec.json.decode(claims) == {
        "iss": "a@b",
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "aud": "https://oauth2.googleapis.com/token",
        "iat": 1000,
        "exp": 4600,
    }
    key.public_key().verify(signature, assertion.rpartition(b".")[0], PKCS1v15(), SHA256())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b'{"client_email": 1}',
        b'{"client_email":"a","private_key":"k","token_uri":"http://e.org"}',
    ],
)
def test_other_files_are_no_service_account(text: bytes) -> None:
    with pytest.raises(CredentialsUnusable):
        read_service_account(text)


def test_a_damaged_private_key_is_said_without_being_shown() -> None:
    pytest.importorskip("cryptography")
    with pytest.raises(CredentialsUnusable) as caught:
        sign_rs256("-----BEGIN PRIVATE KEY-----\nhush\n-----END PRIVATE KEY-----", b"x")
    assert "hush" not in str(caught.value)


async def test_the_form_goes_over_the_wire_and_the_answer_comes_back() -> None:
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        seen.append(head + await reader.readexactly(length))
        body = b'{"access_token":"wire","expires_in":60}'
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port: Any = server.sockets[0].getsockname()[1]
    account = msgspec.structs.replace(ACCOUNT, token_uri=f"http://127.0.0.1:{port}/token")
    upstreams = Upstreams()
    try:
        signer = GcpSigner(account, make_token_fetch(upstreams), sign=lambda pem, data: b"signed")
        assert await token(signer, 0.0) == b"Bearer wire"
    finally:
        await upstreams.close()
        server.close()
        await server.wait_closed()
    assert seen[0].startswith(b"POST /token HTTP/1.1\r\n")
    form = parse_qs(seen[0].partition(b"\r\n\r\n")[2].decode())
    assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    assert len(form["assertion"][0].split(".")) == 3
