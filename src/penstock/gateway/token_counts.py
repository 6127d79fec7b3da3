"""Counting tokens without asking anybody: an estimate, for targets whose dialect has no such call."""

import msgspec

from penstock.gateway.calls import Call

_BYTES_PER_TOKEN = 4


def counts_here(call: Call) -> bool:
    """Return whether `call` asks for a count that no target of its route can make."""
    if call.operation != "count_tokens":
        return False
    assert call.route is not None
    return not any(call.dialect in target.speaks for target in call.route.targets)


def estimate_reply(call: Call) -> bytes:
    """Return the reply, in the client's dialect, with a quarter of the request's bytes as its count."""
    call.warnings.append("the count of tokens is an estimate")
    n_tokens = max(1, len(call.body) // _BYTES_PER_TOKEN)
    return msgspec.json.encode(
        {"input_tokens": n_tokens} if call.dialect == "anthropic" else {"totalTokens": n_tokens}
    )
