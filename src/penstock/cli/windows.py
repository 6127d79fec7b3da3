"""Lengths of time and windows as people write them: 90s, 2h, 7d; a day or a moment in UTC."""

import re
import time
from datetime import UTC, datetime

from penstock.base.errors import InvalidInput

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_LENGTH = re.compile(r"(\d{1,9})([smhdw])")
_S = 1_000_000_000
WINDOW_HELP = "Not older than (2h, 7d), or from this day or moment on (2026-03-01, 2026-03-01T08:00), UTC."


def read_length_s(text: str) -> int:
    """Return `2h` as seconds; raise `InvalidInput`."""
    found = _LENGTH.fullmatch(text.strip())
    if found is None or int(found[1]) == 0:
        raise InvalidInput(f"{text[:40]!r} is no length of time.", hint="Write 90s, 30m, 2h, 7d or 4w.")
    return int(found[1]) * _UNITS_S[found[2]]


def read_moment_ns(text: str, *, now_ns: int) -> int:
    """Return `2h` (ago) or a date as nanoseconds since the epoch; raise `InvalidInput`."""
    if _LENGTH.fullmatch(text.strip()):
        return now_ns - read_length_s(text) * _S
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise InvalidInput(
            f"{text[:40]!r} is no moment.", hint="Write 2h, 7d, 2026-03-01 or 2026-03-01T08:00."
        ) from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * _S


def read_window(since: str | None, until: str | None, *, length_s: int) -> tuple[int, int]:
    """Return the window that options say: the last `length_s` unless told; raise `InvalidInput` for an empty one."""
    now_ns = time.time_ns()
    until_ns = now_ns if until is None else read_moment_ns(until, now_ns=now_ns)
    since_ns = until_ns - length_s * _S if since is None else read_moment_ns(since, now_ns=now_ns)
    if not 0 <= since_ns < until_ns:
        raise InvalidInput("The window is empty: --since must be before --until.")
    return since_ns, until_ns
