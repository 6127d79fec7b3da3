"""Requests in the hub's words, as a client of another dialect than the tested one sent them."""

from typing import Any

from penstock.spec.hub import HubRequest, Message, Text


def asked(**members: Any) -> HubRequest:
    """A request that says hi, but for `members`."""
    usual = {"source": "openai", "model": "m", "messages": [Message(role="user", parts=[Text(text="hi")])]}
    return HubRequest(**{**usual, **members})


def foreign(*messages: Message, **members: Any) -> HubRequest:
    """A request with these messages, else one that says hi."""
    if messages:
        members["messages"] = list(messages)
    return asked(model="asked", **members)
