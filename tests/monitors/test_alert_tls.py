"""Messages over TLS: certificates are checked against the name, and STARTTLS comes before anything else is said."""

import datetime as dt
import socketserver
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from penstock.monitors.errors import DeliveryFailed
from penstock.monitors.messages import write_email
from penstock.monitors.transports import post, send_mail
from penstock.monitors.types import ChannelContent

PAYLOAD = {
    "id": "msg_1", "kind": "test", "state": "ok", "title": "t", "severity": "info", "reason": "r", "text": "", "labels": {},
    "window": {"since": "", "until": ""}, "search": "", "url": "", "traces_url": "", "examples": [],
}  # fmt: skip
CHANNEL = ChannelContent(
    kind="email", host="localhost", sender="a@example.com", recipients=("b@example.com",)
)


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A certificate for `localhost` alone, which this process trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    day = dt.timedelta(days=1)
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return path


def server_context(certificate: Path) -> ssl.SSLContext:
    """Return the server's side."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def web_port(certificate: Path) -> Iterator[int]:
    """An HTTPS server."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Quiet(HTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that does not trust us hangs up."""

    server = Quiet(("127.0.0.1", 0), Handler)
    server.socket = server_context(certificate).wrap_socket(server.socket, server_side=True)
    yield from _serving(server)


@pytest.fixture(params=["starttls", "tls"])
def mail_server(request: pytest.FixtureRequest, certificate: Path) -> Iterator[tuple[str, int]]:
    """A mail server that wants TLS, by STARTTLS or from the first byte, and a login before it takes anything."""
    context, security = server_context(certificate), request.param

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            link, is_secret, knows = self.connection, security == "tls", False
            reader = self.rfile
            if is_secret:
                link = self.secure = context.wrap_socket(link, server_side=True)
                reader = link.makefile("rb")
            link.sendall(b"220 here\r\n")
            while line := reader.readline():
                word = line.split()[0].upper()
                if word == b"EHLO":
                    link.sendall(
                        b"250-here\r\n250 AUTH PLAIN\r\n" if is_secret else b"250-here\r\n250 STARTTLS\r\n"
                    )
                elif word == b"STARTTLS":
                    link.sendall(b"220 go\r\n")
                    link = self.secure = context.wrap_socket(link, server_side=True)
                    reader, is_secret = link.makefile("rb"), True
                elif not is_secret:
                    link.sendall(b"530 STARTTLS first\r\n")
                elif word == b"AUTH":
                    knows = line.split()[2] == b"AHUAcGFzcw=="  # \0u\0pass
                    link.sendall(b"235 welcome\r\n" if knows else b"535 no\r\n")
                elif word == b"DATA":
                    link.sendall(b"354 go on\r\n")
                    while reader.readline() != b".\r\n":
                        pass
                    link.sendall(b"250 taken\r\n")
                else:
                    link.sendall(b"250 fine\r\n" if knows else b"530 login first\r\n")

        def finish(self) -> None:
            super().finish()
            if secure := getattr(self, "secure", None):
                secure.close()

    class Quiet(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that does not trust us hangs up."""

    for port in _serving(Quiet(("127.0.0.1", 0), Handler)):
        yield security, port


def _serving(server: socketserver.TCPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def mail(server: tuple[str, int], *, host: str = "localhost", password: str = "pass") -> None:
    """Send a mail as the server wants it."""
    send_mail(
        write_email(PAYLOAD, CHANNEL),
        recipients=CHANNEL.recipients,
        host=host,
        port=server[1],
        security=server[0],
        user="u",
        password=password,
        allow_private=True,
    )


def test_a_webhook_is_reached_over_https_by_its_name_alone(web_port: int) -> None:
    post(f"https://localhost:{web_port}/x", b"{}", {}, allow_private=True)
    with pytest.raises(DeliveryFailed, match="CERTIFICATE_VERIFY_FAILED"):
        post(f"https://{ip_address('127.0.0.1')}:{web_port}/x", b"{}", {}, allow_private=True)


def test_a_server_nobody_vouches_for_is_not_trusted(web_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(DeliveryFailed, match="CERTIFICATE_VERIFY_FAILED"):
        post(f"https://localhost:{web_port}/x", b"{}", {}, allow_private=True)


def test_mail_goes_over_tls_with_a_login(mail_server: tuple[str, int]) -> None:
    mail(mail_server)


def test_a_wrong_password_is_told_without_it(mail_server: tuple[str, int]) -> None:
    with pytest.raises(DeliveryFailed, match="535") as caught:
        mail(mail_server, password="wrong-secret")
    assert "wrong-secret" not in str(caught.value)


def test_a_mail_server_under_another_name_gets_nothing(mail_server: tuple[str, int]) -> None:
    with pytest.raises(DeliveryFailed, match="CERTIFICATE_VERIFY_FAILED"):
        mail(mail_server, host="127.0.0.1")
