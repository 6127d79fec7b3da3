"""Identifiers: sortable ids for our own things, random ids for traces and spans."""

import os
import random
import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u

# Ids of traces and spans only have to differ, not to be secret: asking the kernel for each costs more than all the rest.
_random = random.Random(secrets.randbits(256))  # seeded by the kernel, anew after a fork
_bits = _random.getrandbits
os.register_at_fork(after_in_child=lambda: _random.seed(secrets.randbits(256)))


def new_id(prefix: str, *, now_ms: int | None = None) -> str:
    """Return `prefix_` and 26 characters that sort by creation time (48 bits of ms, 80 random bits)."""
    stamp = int(time.time() * 1000) if now_ms is None else now_ms
    number = (stamp << 80) | secrets.randbits(80)
    chars = [_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5)]
    return f"{prefix}_{''.join(chars)}"


def new_trace_id() -> str:
    """Return 32 hex characters, never all zero (W3C Trace Context §3.2.2.3)."""
    return f"{_bits(128) or 1:032x}"


def new_span_id() -> str:
    """Return 16 hex characters, never all zero (W3C Trace Context §3.2.2.4)."""
    return f"{_bits(64) or 1:016x}"
