"""For whom this process is at work: told by the gateway with a call, sent back with each call that is made for it.

What it says is the gateway's own affair; nothing here reads it.
"""

from contextvars import ContextVar

from penstock.spec.callers import CALLER_HEADER

caller: ContextVar[str | None] = ContextVar("caller", default=None)
"""Of the call being served. Threads see it only where they are given the context."""


def caller_headers() -> dict[str, str]:
    """Return what a call to the gateway must carry, so that it counts for the caller; nothing outside a call."""
    told = caller.get()
    return {} if told is None else {CALLER_HEADER: told}
