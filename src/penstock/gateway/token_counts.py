"""Counting tokens without asking anybody: an estimate, for targets whose dialect has no such call."""

import msgspec

from penstock.gateway.calls import Call
from penstock.gateway.text_sizes import estimate_prompt_tokens


def counts_here(call: Call) -> bool:
    """Return whether `call` asks for a count that no target of its route can make."""
    if call.operation != "count_tokens":
        return False
    assert call.route is not None
    return not any(call.dialect in target.speaks for target in call.route.targets)


def estimate_reply(call: Call) -> bytes:
    """Return the reply, in the client's dialect, with the estimate that bills and limits go by as its count."""
    call.warnings.append("the count of tokens is an estimate")
    n_tokens = estimate_prompt_tokens(call.body)
    return msgspec.json.encode(
        {"input_tokens": n_tokens} if call.dialect == "anthropic" else {"totalTokens": n_tokens}
    )
