"""Channels: where messages go. Kept, checked, tested; their outbox seen and tried again."""

import re
from collections.abc import Callable, Sequence
from email.utils import parseaddr
from typing import Any
from urllib.parse import urlsplit

import msgspec
from sqlalchemy import Engine

from penstock.base.clock import now_ns as wall_clock
from penstock.base.ids import new_id
from penstock.monitors import queries
from penstock.monitors.errors import ChannelInUse, ChannelInvalid, UnknownChannel, UnknownMessage
from penstock.monitors.evaluator import read_rule_row
from penstock.monitors.messages import FORMAT
from penstock.monitors.rules import NamedStore, check_name
from penstock.monitors.types import Channel, ChannelContent, MessageState, OutboxMessage

VARIABLE_STEM = "PENSTOCK_ALERT_"
"""Variables a channel may name begin so: others hold what is not meant to be sent to whatever host a channel names."""
_VARIABLE = re.compile(VARIABLE_STEM + r"[A-Z0-9_]{1,80}")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.:-]{0,252}[A-Za-z0-9])?")
_OF_MAIL = ("host", "user", "password_env", "password_secret", "sender", "recipients")
_OF_HTTP = ("url", "url_env", "url_secret", "signing_env", "signing_secret")


class ChannelService:
    """Channels over the control tables. May be called from any thread."""

    def __init__(self, engine: Engine, *, clock: Callable[[], int] = wall_clock) -> None:
        self._engine = engine
        self._clock = clock
        self._store = NamedStore(engine, queries.CHANNELS, "channel", clock=clock)

    def list(self) -> list[Channel]:
        """Return all channels by name; what is secret is only named in them."""
        with self._engine.connect() as connection:
            return [_channel(row) for row in queries.list_named(connection, queries.CHANNELS)]

    def get(self, name: str) -> Channel:
        """Return one channel; raise `UnknownChannel`."""
        with self._engine.connect() as connection:
            row = queries.get_named(connection, queries.CHANNELS, name)
        if row is None:
            raise UnknownChannel(name, [one.name for one in self.list()])
        return _channel(row)

    def put(
        self, name: str, content: ChannelContent, *, actor: str, expected_version: int | None = None
    ) -> Channel:
        """Create or replace a channel and try anew what waits for it; raises `ChannelInvalid`, `AlertChanged`."""
        check_name(name)
        check_channel(content)
        with self._engine.begin() as connection:
            self._store.put(connection, name, content, actor=actor, expected_version=expected_version)
            queries.wake_messages(connection, name, self._clock())
        return self.get(name)

    def delete(self, name: str) -> None:
        """Forget a channel and drop what waits for it; raise `UnknownChannel`, or `ChannelInUse` while rules name it."""
        self.get(name)
        with self._engine.begin() as connection:
            rules = [read_rule_row(row) for row in queries.list_named(connection, queries.RULES)]
            users = [rule.name for rule in rules if name in rule.content.notify]
            if users:
                raise ChannelInUse(name, users)
            queries.remove_named(connection, queries.CHANNELS, name)
            queries.drop_messages(connection, now_ns=self._clock(), channel=name)

    def test(self, name: str, *, actor: str) -> OutboxMessage:
        """Put a test message for one channel into the outbox and return it; raise `UnknownChannel`.

        It takes the place of an earlier one that still waits.
        """
        self.get(name)
        now = self._clock()
        identity = new_id("msg", now_ms=now // 1_000_000)
        with self._engine.begin() as connection:
            queries.drop_messages(connection, now_ns=now, rule="", channel=name)
            queries.add_message(
                connection,
                {
                    "id": identity,
                    "transition": "",
                    "rule": "",
                    "channel": name,
                    "state": "pending",
                    "payload": {**_test_payload(actor), "id": identity},
                    "attempts": 0,
                    "due_ns": now,
                    "created_ns": now,
                },
            )
        return self.message(identity)

    def messages(self, *, state: MessageState | None = None, limit: int = 100) -> Sequence[OutboxMessage]:
        """Return messages, newest first."""
        with self._engine.connect() as connection:
            return [_message(row) for row in queries.list_messages(connection, state=state, limit=limit)]

    def message(self, identity: str) -> OutboxMessage:
        """Return one message; raise `UnknownMessage`."""
        with self._engine.connect() as connection:
            row = queries.get_message(connection, identity)
        if row is None:
            raise UnknownMessage(f"There is no message {identity[:80]!r}.")
        return _message(row)

    def retry(self, identity: str) -> OutboxMessage:
        """Try a message that was given up from the beginning; raise `UnknownMessage`."""
        if self.message(identity).state in {"dead", "pending"}:
            with self._engine.begin() as connection:
                queries.update_message(
                    connection,
                    identity,
                    {"state": "pending", "attempts": 0, "due_ns": self._clock(), "finished_ns": None},
                )
        return self.message(identity)

    def count_messages(self) -> dict[str, int]:
        """Return how many messages there are in each state."""
        with self._engine.connect() as connection:
            return queries.count_messages(connection)


def check_channel(content: ChannelContent) -> None:
    """Raise `ChannelInvalid` for a channel that could never send, or that says more than its kind may."""
    foreign: tuple[str, ...] = _OF_HTTP if content.kind == "email" else _OF_MAIL
    if content.kind == "slack":
        foreign = (*_OF_MAIL, "signing_env", "signing_secret")
    for name in foreign:
        if getattr(content, name):
            raise ChannelInvalid(f"A channel of kind {content.kind} has no {name}.")
    for name in ("url_env", "signing_env", "password_env"):
        variable = getattr(content, name)
        if variable is not None and not _VARIABLE.fullmatch(variable):
            raise ChannelInvalid(
                f"{name} must name a variable that begins with {VARIABLE_STEM}.",
                hint="So that no channel can have other variables of the machine sent to a host of its choice.",
            )
    for env, secret in (("signing_env", "signing_secret"), ("password_env", "password_secret")):
        if getattr(content, env) is not None and getattr(content, secret) is not None:
            raise ChannelInvalid(f"Set one of {env} and {secret}.")
    if content.kind == "email":
        _check_mail(content)
    else:
        _check_http(content)


def _check_http(content: ChannelContent) -> None:
    given = [name for name in ("url", "url_env", "url_secret") if getattr(content, name) is not None]
    if len(given) != 1:
        raise ChannelInvalid("Set exactly one of url, url_env and url_secret.")
    if content.url is None:
        return
    try:
        parts = urlsplit(content.url)
        host = parts.hostname
    except ValueError as error:
        raise ChannelInvalid("url is no address.") from error
    if (
        parts.scheme not in {"https", "http"}
        or not host
        or not content.url.isprintable()
        or " " in content.url
    ):
        raise ChannelInvalid("url must be an http or https address.")
    if parts.scheme == "http" and not content.allow_private:
        raise ChannelInvalid(
            "url must be https, unless allow_private is set for a server of your own network."
        )
    if parts.username or parts.password:
        raise ChannelInvalid(
            "url must not hold credentials.", hint="Name the whole URL in url_env or url_secret."
        )


def _check_mail(content: ChannelContent) -> None:
    if not content.host or not _HOST.fullmatch(content.host):
        raise ChannelInvalid("host must name a mail server.")
    if not 1 <= content.port <= 65_535:
        raise ChannelInvalid("port must be between 1 and 65535.")
    if content.security == "none" and not content.allow_private:
        raise ChannelInvalid("Without TLS mail goes only where allow_private is set.")
    if not content.recipients or len(content.recipients) > 50:
        raise ChannelInvalid("recipients must be 1 to 50 addresses.")
    for address in (content.sender or "", *content.recipients):
        if not address.isprintable() or "," in address or "@" not in parseaddr(address)[1]:
            raise ChannelInvalid(
                f"{address[:80]!r} is no mail address.", hint="sender and recipients are needed."
            )


def _test_payload(actor: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "kind": "test",
        "rule": "",
        "title": "a message of Penstock",
        "text": "",
        "severity": "info",
        "labels": {},
        "state": "ok",
        "before": "ok",
        "reason": f"{actor} asked for a test. Nothing is wrong.",
        "measure": "",
        "unit": "",
        "value": None,
        "n": 0,
        "threshold": {},
        "window": {"since": "", "until": "", "since_ns": 0, "until_ns": 0},
        "search": "",
        "url": "",
        "traces_url": "",
        "examples": [],
    }


def _channel(row: Any) -> Channel:
    return Channel(
        name=row.name,
        content=msgspec.convert(row.content, ChannelContent),
        version=row.version,
        actor=row.actor,
        updated_ns=row.updated_ns,
    )


def _message(row: Any) -> OutboxMessage:
    return OutboxMessage(
        id=row.id,
        transition=row.transition,
        rule=row.rule,
        channel=row.channel,
        state=row.state,
        payload=row.payload,
        attempts=row.attempts,
        due_ns=row.due_ns,
        created_ns=row.created_ns,
        finished_ns=row.finished_ns,
        error=row.error,
    )
