"""Forms of alerts and channels: texts as people leave them, and the way to what is kept."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args

from penstock.base.errors import InvalidInput
from penstock.monitors.rules import read_channel, read_rule
from penstock.monitors.types import (
    ChannelContent,
    ChannelKind,
    NoData,
    RuleContent,
    Severity,
    Threshold,
)

SIDES = (("above", "goes above"), ("below", "goes below"))
SEVERITIES = tuple((name, name) for name in get_args(Severity))
NO_DATA: tuple[tuple[NoData, str], ...] = (
    ("keep", "leaves the state as it is"),
    ("ok", "counts as good"),
    ("tell", "is told of"),
)
KINDS: tuple[tuple[ChannelKind, str], ...] = (
    ("webhook", "webhook: JSON, signed"),
    ("slack", "Slack-shaped webhook"),
    ("email", "e-mail"),
)
SECURITIES = (("starttls", "STARTTLS"), ("tls", "TLS"), ("none", "none"))
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


@dataclass(frozen=True, kw_only=True)
class RuleDraft:
    """A rule as texts."""

    name: str = ""
    title: str = ""
    measure: str = "error_share"
    subject: str = "call"
    where: str = ""
    window: str = "10m"
    side: str = "above"
    alert: str = ""
    alert_recover: str = ""
    warning: str = ""
    warning_recover: str = ""
    min_n: str = "1"
    for_evaluations: str = "1"
    every: str = ""
    no_data: str = "keep"
    severity: str = "warning"
    remind: str = ""
    labels: str = ""
    text: str = ""
    enabled: str = "yes"
    notify: tuple[str, ...] = ()
    version: int = 0


@dataclass(frozen=True, kw_only=True)
class ChannelDraft:
    """A channel as texts."""

    name: str = ""
    kind: str = "webhook"
    url: str = ""
    url_env: str = ""
    url_secret: str = ""
    signing_env: str = ""
    signing_secret: str = ""
    host: str = ""
    port: str = "587"
    security: str = "starttls"
    user: str = ""
    password_env: str = ""
    password_secret: str = ""
    sender: str = ""
    recipients: str = ""
    allow_private: str = "no"
    version: int = 0


def draft_of_rule(name: str, content: RuleContent, version: int) -> RuleDraft:
    """Return a rule as texts."""
    return RuleDraft(
        name=name,
        title=content.title,
        measure=content.measure,
        subject=content.subject,
        where=content.where,
        window=write_length(content.window_s),
        side="above" if content.alert.above is not None else "below",
        alert=_bound(content.alert),
        alert_recover=_plain(content.alert.recover),
        warning="" if content.warning is None else _bound(content.warning),
        warning_recover="" if content.warning is None else _plain(content.warning.recover),
        min_n=str(content.min_n),
        for_evaluations=str(content.for_evaluations),
        every="" if content.every_s is None else write_length(content.every_s),
        no_data=content.no_data,
        severity=content.severity,
        remind="" if content.remind_s is None else write_length(content.remind_s),
        labels=", ".join(f"{key}={value}" for key, value in content.labels.items()),
        text=content.text,
        enabled="yes" if content.enabled else "no",
        notify=content.notify,
        version=version,
    )


def read_rule_draft(form: Mapping[str, str]) -> RuleDraft:
    """Return what a form holds; `notify:NAME` are its check boxes."""
    texts = _texts(RuleDraft, form)
    notify = tuple(name.removeprefix("notify:") for name in form if name.startswith("notify:"))
    return RuleDraft(**texts, notify=notify, version=_version(form))


def to_rule(draft: RuleDraft) -> RuleContent:
    """Return what the draft says; raise `InvalidInput` that names what cannot be read."""
    content: dict[str, Any] = {
        "measure": draft.measure,
        "window_s": read_length(draft.window, "window"),
        "alert": _threshold(draft.side, draft.alert, draft.alert_recover, "alert"),
        "title": draft.title,
        "text": draft.text,
        "subject": draft.subject,
        "where": draft.where,
        "min_n": _whole(draft.min_n or "1", "fewest"),
        "for_evaluations": _whole(draft.for_evaluations or "1", "times in a row"),
        "no_data": draft.no_data,
        "severity": draft.severity,
        "labels": _labels(draft.labels),
        "notify": list(draft.notify),
        "enabled": draft.enabled == "yes",
    }
    if draft.warning:
        content["warning"] = _threshold(draft.side, draft.warning, draft.warning_recover, "warning")
    if draft.every:
        content["every_s"] = read_length(draft.every, "looked at every")
    if draft.remind:
        content["remind_s"] = read_length(draft.remind, "reminder")
    return read_rule(content)


def draft_of_channel(name: str, content: ChannelContent, version: int) -> ChannelDraft:
    """Return a channel as texts."""
    texts = {
        each.name: str(value)
        for each in fields(ChannelDraft)
        if isinstance(value := getattr(content, each.name, None), str | int) and not isinstance(value, bool)
    }
    kept = {key: value for key, value in texts.items() if key not in {"name", "version"}}
    return ChannelDraft(
        **{
            **kept,
            "recipients": ", ".join(content.recipients),
            "allow_private": "yes" if content.allow_private else "no",
        },
        name=name,
        version=version,
    )


def read_channel_draft(form: Mapping[str, str]) -> ChannelDraft:
    """Return what a form holds."""
    return ChannelDraft(**_texts(ChannelDraft, form), version=_version(form))


def to_channel(draft: ChannelDraft) -> ChannelContent:
    """Return what the draft says, without what its kind has no use for; raise `InvalidInput` for what cannot be read."""
    names = (
        ("host", "security", "user", "password_env", "password_secret", "sender")
        if draft.kind == "email"
        else (
            "url",
            "url_env",
            "url_secret",
            *(("signing_env", "signing_secret") if draft.kind == "webhook" else ()),
        )
    )
    content: dict[str, Any] = {name: getattr(draft, name) for name in names if getattr(draft, name)}
    if draft.kind == "email":
        content["port"] = _whole(draft.port or "587", "port")
        content["recipients"] = [each.strip() for each in draft.recipients.split(",") if each.strip()]
    return read_channel({"kind": draft.kind, "allow_private": draft.allow_private == "yes", **content})


def read_length(text: str, name: str) -> int:
    """Return 90s, 10m, 2h, 7d, 1w in seconds; raise `InvalidInput` for anything else."""
    number, unit = text.strip()[:-1], text.strip()[-1:]
    if not (number.isascii() and number.isdigit() and len(number) < 9) or unit not in _UNITS_S:
        raise InvalidInput(
            f"{name.capitalize()}: {text[:40]!r} is no length of time.",
            hint="Write it like 90s, 10m, 2h, 7d.",
        )
    return int(number) * _UNITS_S[unit]


def write_length(seconds: int) -> str:
    """Return a length of time as `read_length` takes it."""
    for unit, size in reversed(_UNITS_S.items()):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _texts(kind: type, form: Mapping[str, str]) -> dict[str, Any]:
    names = [each.name for each in fields(kind) if each.name not in {"notify", "version"}]
    return {name: form[name].strip() for name in names if name in form}


def _version(form: Mapping[str, str]) -> int:
    text = form.get("version", "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _threshold(side: str, bound: str, recover: str, name: str) -> dict[str, float]:
    found = {side if side in {"above", "below"} else "above": _number(bound, name)}
    if recover:
        found["recover"] = _number(recover, f"{name}, back at")
    return found


def _number(text: str, name: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise InvalidInput(f"{name.capitalize()} must be a number, not {text[:40]!r}.") from None


def _whole(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidInput(f"{name.capitalize()} must be a whole number, not {text[:40]!r}.")
    return int(text)


def _labels(text: str) -> dict[str, str]:
    found = {}
    for part in text.split(","):
        if part.strip():
            key, sign, value = part.partition("=")
            if not sign or not key.strip():
                raise InvalidInput(f"Labels are written NAME=VALUE, not {part.strip()[:40]!r}.")
            found[key.strip()] = value.strip()
    return found


def _bound(threshold: Threshold) -> str:
    return _plain(threshold.above if threshold.above is not None else threshold.below)


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
