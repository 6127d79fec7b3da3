"""Empties the outbox: each message is tried until its channel took it or ten attempts failed, in order per rule and channel.

An attempt is counted before it is made, so that a process that dies while sending tries again, later; a receiver may
therefore get a message twice, and knows it by its id.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
from sqlalchemy import Engine

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import PenstockError
from penstock.monitors import queries
from penstock.monitors.errors import ChannelInvalid, DeliveryFailed
from penstock.monitors.messages import sign, write_email, write_slack, write_webhook
from penstock.monitors.transports import post, send_mail
from penstock.monitors.types import ChannelContent

INTERVAL_S = 1.0
MAX_ATTEMPTS = 10
LEASE_S = 60
KEPT_S = 90 * 86_400
MAX_HISTORY = 5000
"""Lines of history that are kept of each rule."""
_BACKOFF_S = (5, 15, 60, 300, 900, 1800, 3600)
_S = 1_000_000_000
_ROUND = 20
_log = logging.getLogger("penstock.alerts")


_LEFT = "recipients_left"
"""Of a stored payload: to whom a mail has still to go, once some have it."""


class _Problem(NamedTuple):
    told: str
    retry_after_s: float | None = None
    """How long the server wants to be left alone."""
    left: tuple[str, ...] | None = None


class SecretReader(Protocol):
    """Reads what channels name: variables of the process, and sealed secrets."""

    def __call__(self, *, env: str | None, secret: str | None, url: str | None) -> str:
        """Return the text; `url` is where it will be sent, which a sealed secret must be for. Raises `SecretMissing`."""
        ...


class Sender:
    """Hands a payload to a channel, in the channel's form."""

    def __init__(self, read_secret: SecretReader, *, clock: Callable[[], int] = wall_clock) -> None:
        self._read_secret = read_secret
        self._clock = clock

    def send(
        self, channel: ChannelContent, payload: dict[str, Any], *, left: Sequence[str] | None = None
    ) -> str | None:
        """Return once the channel's server took the message; raise `DeliveryFailed`, `SecretMissing`, `ChannelInvalid`.

        A mail goes to those recipients alone that are `left`; what is returned says who will never take it.
        """
        if channel.kind == "email":
            return self._mail(channel, payload, left)
        url = channel.url
        if url is None:
            url = self._read_secret(env=channel.url_env, secret=channel.url_secret, url=None)
        if channel.kind == "slack":
            body, headers = write_slack(payload), {}
        else:
            body = write_webhook(payload)
            headers = {"Penstock-Message-Id": str(payload["id"])}
            if channel.signing_env is not None or channel.signing_secret is not None:
                key = self._read_secret(env=channel.signing_env, secret=channel.signing_secret, url=url)
                headers["Penstock-Signature"] = sign(body, key, self._clock() // _S)
        headers |= {"Content-Type": "application/json", "User-Agent": "penstock"}
        post(url, body, headers, allow_private=channel.allow_private)
        return None

    def _mail(
        self, channel: ChannelContent, payload: dict[str, Any], left: Sequence[str] | None
    ) -> str | None:
        if channel.host is None:
            raise ChannelInvalid("The channel names no mail server.")
        password = None
        if channel.password_env is not None or channel.password_secret is not None:
            url = f"https://{channel.host}"
            password = self._read_secret(env=channel.password_env, secret=channel.password_secret, url=url)
        # who was taken out of the channel meanwhile is left out, too
        recipients = [each for each in channel.recipients if left is None or each in left]
        if not recipients:
            return None
        refused = send_mail(
            write_email(payload, channel),
            recipients=recipients,
            host=channel.host,
            port=channel.port,
            security=channel.security,
            user=channel.user,
            password=password,
            allow_private=channel.allow_private,
        )
        n_refused = len(refused.for_now) + len(refused.for_good)
        if refused.for_now or (n_refused == len(recipients) and left is None):
            # one whom the server does not know costs nobody else a second mail
            again = None if n_refused == len(channel.recipients) else tuple(refused.for_now)
            told = _who({**refused.for_now, **refused.for_good})
            raise DeliveryFailed(f"{channel.host} did not take the mail for {told}.", left=again)
        return (
            f"{channel.host} does not take mail for {_who(refused.for_good)}." if refused.for_good else None
        )


def _who(refused: Mapping[str, str]) -> str:
    return ", ".join(f"{address} ({text})" for address, text in sorted(refused.items()))[:1000]


class Delivery:
    """Sends what lies in the outbox. Several processes may run one each over the same tables."""

    def __init__(self, engine: Engine, sender: Sender, *, clock: Callable[[], int] = wall_clock) -> None:
        self._engine = engine
        self._sender = sender
        self._clock = clock
        self._swept_ns = 0

    def run(self, stop: threading.Event, *, interval_s: float = INTERVAL_S) -> None:
        """Send what is due until `stop` is set."""
        while not stop.wait(interval_s):
            try:
                while self.run_once(stop) and not stop.is_set():
                    pass
                self._sweep()
            except Exception:  # the edge of the thread: it must outlive a database that is away
                _log.exception("messages of alerts could not be sent, will try again")

    def run_once(self, stop: threading.Event | None = None) -> int:
        """Try the messages that are due, until `stop` is set; return how many were sent."""
        with self._engine.connect() as connection:
            due = queries.list_due(connection, self._clock(), _ROUND)
        return sum(self._try(row) for row in due if stop is None or not stop.is_set())

    def _try(self, row: Any) -> bool:
        now = self._clock()
        with self._engine.begin() as connection:
            if not queries.claim_message(connection, row.id, row.attempts, now + LEASE_S * _S):
                return False
            channel = queries.get_named(connection, queries.CHANNELS, row.channel)
            if channel is None:
                queries.update_message(
                    connection,
                    row.id,
                    {"state": "dropped", "finished_ns": now, "error": "There is no such channel."},
                )
                return False
        note, problem = self._send(channel, row)
        values: dict[str, Any]
        now = self._clock()
        if problem is None:
            values = {"state": "sent", "finished_ns": now, "error": note}
            if note is not None:
                _log.warning(
                    "a message did not reach everybody", extra={"channel": row.channel, "reason": note}
                )
        elif row.attempts + 1 >= MAX_ATTEMPTS:
            values = {"state": "dead", "finished_ns": now, "error": problem.told}
            _log.error(
                "a message was given up",
                extra={"channel": row.channel, "rule": row.rule, "reason": problem.told},
            )
        else:
            wait_s = max(_BACKOFF_S[min(row.attempts, len(_BACKOFF_S) - 1)], problem.retry_after_s or 0)
            values = {"due_ns": now + int(wait_s * _S), "error": problem.told}
            if problem.left is not None:
                values["payload"] = {**row.payload, _LEFT: list(problem.left)}
        with self._engine.begin() as connection:
            queries.update_message(connection, row.id, values)
        return problem is None

    def _send(self, channel: Any, row: Any) -> tuple[str | None, _Problem | None]:
        """Return what is to be noted of a message that was sent, and what went wrong with one that was not."""
        payload = dict(row.payload)
        left = payload.pop(_LEFT, None)
        try:
            note = self._sender.send(msgspec.convert(channel.content, ChannelContent), payload, left=left)
        except PenstockError as error:
            told = f"{error.message} {error.hint}" if error.hint else error.message
            if isinstance(error, DeliveryFailed):
                return None, _Problem(told, error.retry_after_s, error.left)
            return None, _Problem(told)
        except Exception as error:
            _log.exception("a message could not be written")
            return None, _Problem(f"{type(error).__name__}: {error}"[:500])
        return note, None

    def _sweep(self) -> None:
        """Once an hour, forget messages that were finished long ago, and history beyond its bound."""
        now = self._clock()
        if now - self._swept_ns > 3600 * _S:
            self._swept_ns = now
            with self._engine.begin() as connection:
                queries.forget_messages(connection, now - KEPT_S * _S)
                queries.prune_transitions(connection, keep=MAX_HISTORY)
