"""Alert rules, the states they are in, what changed them, and the messages that tell of it."""

from typing import Any, Literal

import msgspec

from penstock.spec.measures import Example, Subject

AlertState = Literal["unknown", "ok", "warning", "alert", "no-data", "broken"]
"""`unknown` until a rule was first evaluated; `broken` while its question cannot be answered."""
BAD_STATES: tuple[AlertState, ...] = ("warning", "alert", "no-data", "broken")
Severity = Literal["info", "warning", "critical"]
NoData = Literal["keep", "ok", "tell"]
"""What a window with too few spans does: leaves the state as it is, counts as good, or is a state that is told of."""
ChannelKind = Literal["webhook", "slack", "email"]
MessageState = Literal["pending", "sent", "dead", "dropped"]
"""`dead`: given up after all attempts; `dropped`: its rule or channel is gone."""


class Threshold(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A bound with a gap: entered beyond `above` (or `below`), left at `recover` or on its good side."""

    above: float | None = None
    below: float | None = None
    """Exactly one of the two is set."""
    recover: float | None = None
    """On the good side of the bound; None for the bound itself."""

    def is_beyond(self, value: float) -> bool:
        """Return whether a value enters."""
        if self.above is not None:
            return value > self.above
        return self.below is not None and value < self.below

    def has_recovered(self, value: float) -> bool:
        """Return whether a value leaves."""
        if self.above is not None:
            return value <= (self.above if self.recover is None else self.recover)
        assert self.below is not None
        return value >= (self.below if self.recover is None else self.recover)


class RuleContent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What people write of a rule."""

    measure: str
    window_s: int
    alert: Threshold
    warning: Threshold | None = None
    title: str = ""
    text: str = ""
    """What to do when it fires: stands in the message."""
    subject: Subject = "call"
    where: str = ""
    """A search."""
    min_n: int = 1
    """Fewer spans behind the value are no data."""
    for_evaluations: int = 1
    """How many evaluations in a row must agree before a state is entered or left."""
    every_s: int | None = None
    """How often it is evaluated; None: a tenth of the window, between 10 seconds and 10 minutes."""
    no_data: NoData = "keep"
    severity: Severity = "warning"
    labels: dict[str, str] = {}
    notify: tuple[str, ...] = ()
    """Names of channels."""
    remind_s: int | None = None
    """Tells again while it stays bad, this often."""
    enabled: bool = True


class AlertRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule as it is kept."""

    name: str
    content: RuleContent
    version: int
    actor: str
    updated_ns: int


class AlertStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a rule stands."""

    rule: str
    state: AlertState = "unknown"
    since_ns: int | None = None
    """When it entered the state."""
    evaluated_ns: int | None = None
    due_ns: int = 0
    value: float | None = None
    n: int = 0
    recent: tuple[AlertState, ...] = ()
    """What the last evaluations spoke for, the newest last; as many as the rule wants to agree."""
    problem: str | None = None
    """Why the question cannot be answered."""
    failures: int = 0
    """How many evaluations in a row could not be answered."""
    silenced_until_ns: int | None = None
    silenced_by: str | None = None
    told: AlertState | None = None
    """The state that channels were told last."""
    told_ns: int | None = None
    transition: str | None = None
    """The id of the last transition."""


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """A rule went from one state to another: kept for good, with what it rested on."""

    id: str
    rule: str
    before: AlertState
    after: AlertState
    at_ns: int
    value: float | None
    n: int
    since_ns: int
    until_ns: int
    """The window that was measured."""
    search: str
    """Finds the spans of the window again, as long as they are kept."""
    subject: Subject
    reason: str
    examples: list[Example] = []
    """Spans the value rested on, the worst first."""
    silenced: bool = False
    is_test: bool = False


class ChannelContent(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """Where messages go. What is secret is named, never written here: `…_env` is a variable of the control process,
    `…_secret` a sealed secret."""

    kind: ChannelKind
    url: str | None = None
    url_env: str | None = None
    url_secret: str | None = None
    """Of webhook and slack: exactly one of the three."""
    signing_env: str | None = None
    signing_secret: str | None = None
    """Key of the signature of a webhook's body."""
    host: str | None = None
    """Of e-mail: the mail server."""
    port: int = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = None
    password_env: str | None = None
    password_secret: str | None = None
    sender: str | None = None
    recipients: tuple[str, ...] = ()
    allow_private: bool = False
    """Whether addresses of this machine and of private networks are allowed."""


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """A channel as it is kept."""

    name: str
    content: ChannelContent
    version: int
    actor: str
    updated_ns: int


class OutboxMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message to one channel, kept until it was delivered or given up."""

    id: str
    """Sent along, so that a receiver knows one that comes twice."""
    transition: str
    rule: str
    channel: str
    state: MessageState
    payload: dict[str, Any]
    attempts: int
    due_ns: int
    created_ns: int
    finished_ns: int | None = None
    error: str | None = None
    """Why the last attempt failed."""


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule would say now, and would have said lately."""

    state: AlertState
    value: float | None
    n: int
    unit: str
    since_ns: int
    until_ns: int
    series: list[tuple[int, float | None]]
    """End of each of the last windows, one after the other, and the value in it."""
    problem: str | None = None


class AlertView(msgspec.Struct, frozen=True, kw_only=True):
    """A rule with its status, as lists and pages show it."""

    rule: AlertRule
    status: AlertStatus
    unit: str
    every_s: int
    is_silenced: bool
    last: Transition | None = None
