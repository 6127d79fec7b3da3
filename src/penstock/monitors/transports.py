"""Sends one message: an HTTP POST, or a mail. Connects only to addresses it has looked at; follows no redirect.

A name is resolved once, its addresses are checked, and the connection goes to the checked address: a name that answers
differently the second time leads nowhere else.
"""

import http.client
import smtplib
import socket
import ssl
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from penstock.monitors.errors import DeliveryFailed
from penstock.providers.addresses import is_forbidden, is_forbidden_name, is_public

TIMEOUT_S = 10.0
_MAX_ANSWER = 2000
_RETRY_STATUS = frozenset({429, 503})
MAX_RETRY_AFTER_S = 3600.0


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, allow_private: bool, timeout_s: float = TIMEOUT_S
) -> None:
    """Send `body` and return once a status of 2xx came back; raise `DeliveryFailed`.

    Plain http, this machine and private networks are refused unless `allow_private`; metadata services always are.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in {"http", "https"} or not host:
        raise DeliveryFailed("The channel's address is no http or https URL.")
    if parts.scheme == "http" and not allow_private:
        raise DeliveryFailed(
            "Messages are not sent in the clear.",
            hint="Use https, or set allow_private for a server of your own network.",
        )
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        connection = _Connection(
            host, port, allow_private=allow_private, timeout_s=timeout_s, tls=parts.scheme == "https"
        )
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection.request("POST", target, body=body, headers=dict(headers))
            response = connection.getresponse()
            answer = response.read(_MAX_ANSWER)
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise DeliveryFailed(f"{host} could not be reached: {type(error).__name__}: {error}") from error
    if not 200 <= response.status < 300:
        said = " ".join(answer.decode("utf-8", "replace").split())[:200]
        raise DeliveryFailed(
            f"{host} answered {response.status}{': ' + said if said else ''}.",
            retry_after_s=_retry_after(response.status, response.headers.get("retry-after")),
        )


def send_mail(
    message: EmailMessage,
    *,
    host: str,
    port: int,
    security: str,
    user: str | None,
    password: str | None,
    allow_private: bool,
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Hand a mail to a server; return once it was taken for every recipient, raise `DeliveryFailed` otherwise.

    With `starttls` a server that offers no TLS is refused: credentials and contents never go in the clear unless
    `security` is `none`, which only private networks may have.
    """
    if security == "none" and not allow_private:
        raise DeliveryFailed(
            "Mail is not sent in the clear.",
            hint="Use starttls or tls, or allow_private for a relay of your own network.",
        )
    context = ssl.create_default_context()
    try:
        client: smtplib.SMTP
        if security == "tls":
            client = _TlsMail(host, allow_private=allow_private, timeout_s=timeout_s, context=context)
        else:
            client = _Mail(host, allow_private=allow_private, timeout_s=timeout_s)
        client.connect(host, port)
        try:
            if security == "starttls":
                client.starttls(context=context)
            if user is not None:
                client.login(user, password or "")
            refused = client.send_message(message)
        finally:
            client.close()
    except (OSError, ValueError, smtplib.SMTPException) as error:
        raise DeliveryFailed(f"{host} did not take the mail: {_mail_problem(error)}") from error
    if refused:
        raise DeliveryFailed(f"{host} refused {len(refused)} of the recipients.")


def open_checked(host: str, port: int, *, allow_private: bool, timeout_s: float) -> socket.socket:
    """Return a connection to a host whose addresses were looked at; raise `DeliveryFailed` where none may be used."""
    if is_forbidden_name(host):
        raise DeliveryFailed(f"{host} is an address that nothing is sent to.")
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    fit = [entry for entry in found if _may_reach(entry[4], allow_private=allow_private)]
    if not fit:
        raise DeliveryFailed(
            f"{host} lies on this machine or in a private network.",
            hint="Set allow_private in the channel if it is meant to.",
        )
    return _connect_first(fit, timeout_s)


def _may_reach(place: Sequence[Any], *, allow_private: bool) -> bool:
    address = ip_address(str(place[0]).partition("%")[0])
    return not is_forbidden(address) and (allow_private or is_public(address))


def _connect_first(found: Sequence[Any], timeout_s: float) -> socket.socket:
    problem: OSError | None = None
    for family, kind, protocol, _, place in found:
        link = socket.socket(family, kind, protocol)
        try:
            link.settimeout(timeout_s)
            link.connect(place)
        except OSError as error:
            link.close()
            problem = error
            continue
        return link
    assert problem is not None
    raise problem


class _Connection(http.client.HTTPConnection):
    """An HTTP connection to an address that was looked at."""

    def __init__(self, host: str, port: int, *, allow_private: bool, timeout_s: float, tls: bool) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self._allow_private = allow_private
        self._timeout_s = timeout_s
        self._tls = tls

    def connect(self) -> None:
        """Open the connection."""
        self.sock = open_checked(
            self.host, self.port, allow_private=self._allow_private, timeout_s=self._timeout_s
        )
        if self._tls:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)


class _Mail(smtplib.SMTP):
    """An SMTP client that connects to an address that was looked at."""

    def __init__(self, host: str, *, allow_private: bool, timeout_s: float) -> None:
        self._allow_private = allow_private
        super().__init__(timeout=timeout_s)
        self._host = host  # what the certificate must be for; given above, it would connect at once

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return open_checked(host, port, allow_private=self._allow_private, timeout_s=timeout)


class _TlsMail(smtplib.SMTP_SSL):
    """The same, with TLS from the first byte."""

    def __init__(self, host: str, *, allow_private: bool, timeout_s: float, context: ssl.SSLContext) -> None:
        self._allow_private = allow_private
        super().__init__(timeout=timeout_s, context=context)
        self._host = host

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        plain = open_checked(host, port, allow_private=self._allow_private, timeout_s=timeout)
        return self.context.wrap_socket(plain, server_hostname=self._host)


def _retry_after(status: int, text: str | None) -> float | None:
    if status not in _RETRY_STATUS or text is None or not text.strip().isdigit():
        return None
    return min(float(text), MAX_RETRY_AFTER_S)


def _mail_problem(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        return f"{error.smtp_code} {' '.join(text.split())[:200]}"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
