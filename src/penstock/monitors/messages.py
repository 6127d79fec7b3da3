"""What a message says, and how it looks as JSON for a webhook, for Slack and its likes, and as an e-mail. Pure.

Messages carry names, numbers and ids, never what was asked or answered.
"""

import hashlib
import hmac
from collections.abc import Mapping
from email.message import EmailMessage
from typing import Any
from urllib.parse import quote

import msgspec

from penstock.base.clock import iso_from_ns
from penstock.monitors.rules import measure_of
from penstock.monitors.types import AlertRule, AlertStatus, ChannelContent, Transition

FORMAT = 1
_MARKS = {"alert": "🔴", "warning": "🟠", "no-data": "⚪", "broken": "⚫", "ok": "🟢"}
_WORDS = {"ok": "resolved", "alert": "alert", "warning": "warning", "no-data": "no data", "broken": "broken"}


def build_payload(
    rule: AlertRule,
    status: AlertStatus,
    transition: Transition,
    *,
    kind: str,
    now_ns: int,
    console_url: str,
) -> dict[str, Any]:
    """Return the canonical message: what webhooks get, and what other forms are made of."""
    content, measure = rule.content, measure_of(rule.content)
    base = console_url.rstrip("/")
    view = "" if transition.subject == "trace" else "&view=spans"
    return {
        "format": FORMAT,
        "kind": kind,
        "rule": rule.name,
        "title": content.title or rule.name,
        "text": content.text,
        "severity": content.severity,
        "labels": dict(content.labels),
        "state": status.state,
        "before": transition.before,
        "reason": transition.reason,
        "measure": measure.name,
        "unit": measure.unit,
        "value": status.value,
        "n": status.n,
        "threshold": msgspec.to_builtins(content.alert),
        "window": {
            "since": iso_from_ns(transition.since_ns),
            "until": iso_from_ns(transition.until_ns),
            "since_ns": transition.since_ns,
            "until_ns": transition.until_ns,
        },
        "at": iso_from_ns(now_ns),
        "since": iso_from_ns(transition.at_ns),
        "search": transition.search,
        "url": f"{base}/alerts/{rule.name}",
        "traces_url": f"{base}/traces?q={quote(transition.search)}"
        f"&since_ns={transition.since_ns}&until_ns={transition.until_ns}{view}",
        "examples": [
            {
                "trace_id": example.trace_id,
                "span_id": example.span_id,
                "value": example.value,
                "url": f"{base}/traces/{example.trace_id}?span={example.span_id}",
            }
            for example in transition.examples
        ],
    }


def headline(payload: Mapping[str, Any]) -> str:
    """Return a message in one line."""
    word = _WORDS.get(payload["state"], payload["state"])
    again = "still " if payload["kind"] == "reminder" else ""
    test = "test: " if payload["kind"] == "test" else ""
    return f"{test}{again}{word}: {payload['title']}"


def write_webhook(payload: Mapping[str, Any]) -> bytes:
    """Return the body of a webhook."""
    return msgspec.json.encode(payload)


def sign(body: bytes, key: str, at_s: int) -> str:
    """Return the value of `Penstock-Signature`: HMAC-SHA256 over `TIME.BODY`, so that an old message is no new one."""
    digest = hmac.new(key.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"


def write_slack(payload: Mapping[str, Any]) -> bytes:
    """Return the body of an incoming webhook of Slack, which Mattermost and others read too."""
    mark = _MARKS.get(payload["state"], "")
    title = f"{mark} *{_escape(headline(payload))}*"
    lines = [title, _escape(payload["reason"])]
    if payload["text"]:
        lines.append(_escape(payload["text"]))
    facts = [f"severity {_escape(payload['severity'])}"]
    facts += [f"{_escape(key)} {_escape(text)}" for key, text in payload["labels"].items()]
    links = [f"<{payload['url']}|rule>", f"<{payload['traces_url']}|traces behind it>"]
    links += [f"<{one['url']}|{one['trace_id'][:8]}>" for one in payload["examples"]]
    blocks = [
        {"type": "section", "text": {"type": "mrkdwn", "text": "\n".join(lines)[:2900]}},
        {"type": "context", "elements": [{"type": "mrkdwn", "text": " · ".join([*facts, *links])[:2900]}]},
    ]
    return msgspec.json.encode({"text": f"{mark} {_escape(headline(payload))}", "blocks": blocks})


def write_email(payload: Mapping[str, Any], channel: ChannelContent) -> EmailMessage:
    """Return the mail of a message."""
    message = EmailMessage()
    message["Subject"] = " ".join(f"[{payload['severity']}] {headline(payload)}".split())[:200]
    message["From"] = channel.sender
    message["To"] = ", ".join(channel.recipients)
    message["Message-ID"] = f"<{payload['id']}@{(channel.sender or 'penstock').rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message["Penstock-Message-Id"] = payload["id"]
    lines = [payload["reason"], ""]
    if payload["text"]:
        lines += [payload["text"], ""]
    lines += [
        f"window      {payload['window']['since']} to {payload['window']['until']}",
        f"search      {payload['search'] or '(everything)'}",
        *(f"{key:<11} {text}" for key, text in payload["labels"].items()),
        "",
        f"rule        {payload['url']}",
        f"traces      {payload['traces_url']}",
        *(f"example     {one['url']}" for one in payload["examples"]),
    ]
    message.set_content("\n".join(lines) + "\n")
    return message


def _escape(text: str) -> str:
    """Return text that Slack shows as it is (its documented three characters)."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
