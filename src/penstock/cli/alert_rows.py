"""Alerts, channels and messages as rows for people."""

from collections.abc import Sequence
from typing import Any

from penstock.cli.output import print_json, print_rows, time_text
from penstock.monitors.errors import DeliveryFailed
from penstock.monitors.types import AlertView, Channel, OutboxMessage, RuleContent, Transition


def view_row(view: AlertView) -> dict[str, Any]:
    """Return a rule with how it stands."""
    status = view.status
    return {
        "alert": view.rule.name,
        "state": status.state if view.rule.content.enabled else "disabled",
        "since": time_text(status.since_ns),
        "value": None if status.value is None else f"{status.value:.6g} {view.unit}",
        "n": status.n,
        "rule": rule_text(view.rule.content),
        "notify": list(view.rule.content.notify),
        "silenced until": time_text(status.silenced_until_ns) if view.is_silenced else None,
    }


def rule_text(content: RuleContent) -> str:
    """Return what a rule asks in one line."""
    threshold = content.alert
    bound = f"> {threshold.above:.6g}" if threshold.above is not None else f"< {threshold.below:.6g}"
    of = f" of {content.subject}s" + (f" [{content.where}]" if content.where else "")
    return f"{content.measure} {bound}{of} in {content.window_s} s"


def transition_row(one: Transition) -> dict[str, Any]:
    """Return a line of history."""
    return {
        "at": time_text(one.at_ns),
        "alert": one.rule,
        "state": f"{one.before} → {one.after}",
        "why": one.reason,
        "example": one.examples[0].trace_id if one.examples else None,
        "silenced": one.silenced or None,
    }


def message_row(one: OutboxMessage) -> dict[str, Any]:
    """Return a message."""
    return {
        "created": time_text(one.created_ns),
        "id": one.id,
        "alert": one.rule or None,
        "tells": f"{one.payload.get('kind')} {one.payload.get('state')}",
        "channel": one.channel,
        "state": one.state,
        "attempts": one.attempts,
        "error": one.error,
    }


def channel_row(one: Channel) -> dict[str, Any]:
    """Return a channel; what is secret is only named."""
    content = one.content
    where = content.url or content.url_env or (f"secret {content.url_secret}" if content.url_secret else None)
    if content.kind == "email":
        where = f"{', '.join(content.recipients)} by {content.host}:{content.port}"
    return {
        "channel": one.name,
        "kind": content.kind,
        "goes to": where,
        "by": one.actor,
        "version": one.version,
    }


def print_sent(found: Sequence[OutboxMessage], *, as_json: bool) -> None:
    """Print what became of messages; raise `DeliveryFailed` when one was not taken."""
    if as_json:
        print_json(list(found))
    else:
        rows = [message_row(one) for one in found]
        print_rows(rows, ("channel", "state", "attempts", "error", "id"), as_json=False)
    failed = [one for one in found if one.state != "sent"]
    if failed:
        raise DeliveryFailed(
            f"{len(failed)} of {len(found)} messages were not taken: {failed[0].error or failed[0].state}",
            hint="They are tried again: penstock alert messages",
        )
