"""Sends one message: an HTTP POST, or a mail. Connects only to addresses it has looked at; follows no redirect.

A name is resolved once, its addresses are checked, and the connection goes to the checked address: a name that answers
differently the second time leads nowhere else.
"""

import http.client
import smtplib
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from penstock.monitors.deadline import Deadline
from penstock.monitors.errors import DeliveryFailed
from penstock.providers.addresses import is_forbidden, is_forbidden_name, is_public

TIMEOUT_S = 10.0
"""For a whole exchange, but the look-up of the name, which the system bounds."""
MAIL_TIMEOUT_S = 30.0
"""Mail servers take their time before they greet."""
_MAX_ANSWER = 2000
_RETRY_STATUS = frozenset({429, 503})
MAX_RETRY_AFTER_S = 3600.0


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, allow_private: bool, timeout_s: float = TIMEOUT_S
) -> None:
    """Send `body` and return once a status of 2xx came back; raise `DeliveryFailed`, after `timeout_s` at the latest.

    Plain http, this machine and private networks are refused unless `allow_private`; metadata services always are.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError as error:
        raise DeliveryFailed("The channel's address is no http or https URL.") from error
    if parts.scheme not in {"http", "https"} or not host:
        raise DeliveryFailed("The channel's address is no http or https URL.")
    if parts.scheme == "http" and not allow_private:
        raise DeliveryFailed(
            "Messages are not sent in the clear.",
            hint="Use https, or set allow_private for a server of your own network.",
        )
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        with Deadline(timeout_s) as deadline:
            connection = _Connection(
                host, port, allow_private=allow_private, deadline=deadline, tls=parts.scheme == "https"
            )
            try:
                connection.request("POST", target, body=body, headers=dict(headers))
                response = connection.getresponse()
                answer = response.read(_MAX_ANSWER)
            except (OSError, http.client.HTTPException) as error:
                if not deadline.is_over:
                    raise
                raise DeliveryFailed(f"{host} did not answer within {timeout_s:g} s.") from error
            finally:
                connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DeliveryFailed(f"{host} could not be reached: {_http_problem(error)}") from error
    if not 200 <= response.status < 300:
        said = " ".join(answer.decode("utf-8", "replace").split())[:200]
        raise DeliveryFailed(
            f"{host} answered {response.status}{': ' + said if said else ''}.",
            retry_after_s=_retry_after(response.status, response.headers.get("retry-after")),
        )


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Recipients for whom a server did not take a mail, with what it said, while it took it for others."""

    for_now: Mapping[str, str]
    """It may take it later (status 4xx)."""
    for_good: Mapping[str, str]


def send_mail(
    message: EmailMessage,
    *,
    recipients: Sequence[str],
    host: str,
    port: int,
    security: str,
    user: str | None,
    password: str | None,
    allow_private: bool,
    timeout_s: float = MAIL_TIMEOUT_S,
) -> Refused:
    """Hand a mail to a server for these recipients; return for whom it was not taken; raise `DeliveryFailed`.

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
        with Deadline(timeout_s) as deadline:
            client: smtplib.SMTP
            if security == "tls":
                client = _TlsMail(host, allow_private=allow_private, deadline=deadline, context=context)
            else:
                client = _Mail(host, allow_private=allow_private, deadline=deadline)
            try:
                client.connect(host, port)
                if security == "starttls":
                    client.starttls(context=context)
                if user is not None:
                    client.login(user, password or "")
                refused = client.send_message(message, to_addrs=list(recipients))
            except (OSError, smtplib.SMTPException) as error:
                if not deadline.is_over:
                    raise
                raise DeliveryFailed(f"{host} did not take the mail within {timeout_s:g} s.") from error
            finally:
                client.close()
    except smtplib.SMTPRecipientsRefused as error:
        return _sort_refused(error.recipients)
    except (OSError, ValueError, smtplib.SMTPException) as error:
        raise DeliveryFailed(f"{host} did not take the mail: {_mail_problem(error)}") from error
    return _sort_refused(refused)


def open_checked(host: str, port: int, *, allow_private: bool, deadline: Deadline) -> socket.socket:
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
    return _connect_first(fit, deadline)


def _may_reach(place: Sequence[Any], *, allow_private: bool) -> bool:
    address = ip_address(str(place[0]).partition("%")[0])
    return not is_forbidden(address) and (allow_private or is_public(address))


def _connect_first(found: Sequence[Any], deadline: Deadline) -> socket.socket:
    problem: OSError | None = None
    for n_tried, (family, kind, protocol, _, place) in enumerate(found):
        share_s = deadline.left_s() / (len(found) - n_tried)
        link = socket.socket(family, kind, protocol)
        try:
            link.settimeout(share_s)
            link.connect(place)
            deadline.watch(link)
        except OSError as error:
            link.close()
            problem = error
            continue
        return link
    assert problem is not None
    raise problem


class _Connection(http.client.HTTPConnection):
    """An HTTP connection to an address that was looked at."""

    def __init__(self, host: str, port: int, *, allow_private: bool, deadline: Deadline, tls: bool) -> None:
        super().__init__(host, port)
        self._allow_private = allow_private
        self._deadline = deadline
        self._tls = tls

    def connect(self) -> None:
        """Open the connection."""
        self.sock = open_checked(
            self.host, self.port, allow_private=self._allow_private, deadline=self._deadline
        )
        if self._tls:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)


class _Mail(smtplib.SMTP):
    """An SMTP client that connects to an address that was looked at."""

    def __init__(self, host: str, *, allow_private: bool, deadline: Deadline) -> None:
        self._allow_private = allow_private
        self._deadline = deadline
        super().__init__(timeout=deadline.timeout_s)
        self._host = host  # what the certificate must be for; given above, it would connect at once

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:  # noqa: ARG002  # smtplib's signature
        return open_checked(host, port, allow_private=self._allow_private, deadline=self._deadline)


class _TlsMail(smtplib.SMTP_SSL):
    """The same, with TLS from the first byte."""

    def __init__(
        self, host: str, *, allow_private: bool, deadline: Deadline, context: ssl.SSLContext
    ) -> None:
        self._allow_private = allow_private
        self._deadline = deadline
        super().__init__(timeout=deadline.timeout_s, context=context)
        self._host = host

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:  # noqa: ARG002  # as above
        plain = open_checked(host, port, allow_private=self._allow_private, deadline=self._deadline)
        return self.context.wrap_socket(plain, server_hostname=self._host)


def _retry_after(status: int, text: str | None) -> float | None:
    if status not in _RETRY_STATUS or text is None or not text.strip().isdigit():
        return None
    return min(float(text), MAX_RETRY_AFTER_S)


def _sort_refused(refused: Mapping[str, tuple[int, bytes]]) -> Refused:
    told = {
        address: (code, f"{code} {' '.join(said.decode('utf-8', 'replace').split())[:200]}")
        for address, (code, said) in refused.items()
    }
    return Refused(
        for_now={address: text for address, (code, text) in told.items() if code < 500},
        for_good={address: text for address, (code, text) in told.items() if code >= 500},
    )


def _http_problem(error: Exception) -> str:
    name = type(error).__name__
    if isinstance(error, http.client.InvalidURL) or not isinstance(
        error, OSError | http.client.HTTPException
    ):
        return f"the rest of its address cannot be used ({name})."  # their texts repeat it; it may be secret
    return f"{name}: {error}"


def _mail_problem(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        return f"{error.smtp_code} {' '.join(text.split())[:200]}"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
