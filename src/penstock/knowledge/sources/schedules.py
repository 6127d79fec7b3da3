"""When a source is read again: after so much time, or by a line of cron in a time zone. Pure.

Where clocks change, cron lines behave as Debian's cron does: a daily time that is skipped runs right after the gap,
one that comes twice runs once.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from cronsim import CronSim, CronSimError

from penstock.knowledge.sources.errors import InvalidSchedule

MIN_EVERY_S = 10
MAX_EVERY_S = 366 * 86_400
JITTER_SHARE = 0.05
MAX_JITTER_S = 300
FIRST_BACKOFF_S = 60
MAX_BACKOFF_S = 6 * 3600
_NS = 1_000_000_000
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(\d{1,7})\s*([smhdw])")
_N_FIELDS = 5


class Schedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Either `every` or `cron`."""

    every: str | None = None
    """Such as `15m`, `1h`, `1d`."""
    cron: str | None = None
    """Five fields, such as `30 3 * * 1-5`."""
    timezone: str = "UTC"
    """Of the cron line, such as `Europe/Berlin`."""
    jitter: str | None = None
    """At most so much later, by chance, so that many sources do not start at once; without it, a twentieth of
    `every` and at most five minutes, and none for cron lines."""

    def check(self) -> None:
        """Raise `InvalidSchedule` when it cannot be followed."""
        if (self.every is None) == (self.cron is None):
            raise InvalidSchedule(
                "A schedule has either `every` or `cron`.", hint="Such as every = '1h' or cron = '0 3 * * *'."
            )
        if self.jitter is not None:
            parse_duration_s(self.jitter, "jitter")
        next_due(self, 0, lambda: 0.0)

    def __str__(self) -> str:
        if self.every is not None:
            return f"every {self.every}"
        return f"{self.cron} {self.timezone}"


def parse_schedule(text: str) -> Schedule:
    """Return what `1h`, `every 1h`, `0 3 * * *` or `0 3 * * * Europe/Berlin` says; raise `InvalidSchedule`."""
    words = text.removeprefix("every").split()
    if len(words) in {_N_FIELDS, _N_FIELDS + 1} and not text.startswith("every"):
        zone = words[_N_FIELDS] if len(words) > _N_FIELDS else "UTC"
        schedule = Schedule(cron=" ".join(words[:_N_FIELDS]), timezone=zone)
    else:
        schedule = Schedule(every="".join(words))
    schedule.check()
    return schedule


def read_schedule(value: object) -> Schedule:
    """Return a schedule from text or from JSON values; raise `InvalidSchedule`."""
    if isinstance(value, str):
        return parse_schedule(value)
    try:
        schedule = msgspec.convert(value, Schedule)
    except msgspec.ValidationError as error:
        raise InvalidSchedule(f"The schedule: {error}.") from error
    schedule.check()
    return schedule


def next_due(schedule: Schedule, after_ns: int, chance: Callable[[], float]) -> int:
    """Return the next moment after `after_ns`. `chance` gives numbers from 0 to 1. Missed moments are not made up."""
    if schedule.every is not None:
        every_s = parse_duration_s(schedule.every, "every")
        if not MIN_EVERY_S <= every_s <= MAX_EVERY_S:
            raise InvalidSchedule(f"`every` is {schedule.every!r}; from 10s to 366d is possible.")
        jitter_s = min(every_s * JITTER_SHARE, MAX_JITTER_S)
        due_ns = after_ns + every_s * _NS
    else:
        due_ns, jitter_s = _next_of_cron(schedule, after_ns), 0.0
    if schedule.jitter is not None:
        jitter_s = parse_duration_s(schedule.jitter, "jitter")
    return due_ns + int(jitter_s * chance() * _NS)


def backoff_ns(n_failures: int) -> int:
    """Return how long to wait after so many failures in a row: a minute, doubled each time, at most six hours."""
    doubled = min(max(n_failures - 1, 0), 20)
    return min(FIRST_BACKOFF_S << doubled, MAX_BACKOFF_S) * _NS


def parse_duration_s(text: str, name: str) -> int:
    """Return the seconds of `90s`, `15m`, `1h`, `1d`, `2w`; raise `InvalidSchedule`."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise InvalidSchedule(f"`{name}` is {text!r}; write it as 90s, 15m, 1h, 1d or 2w.")
    return int(match[1]) * _UNITS_S[match[2]]


def _next_of_cron(schedule: Schedule, after_ns: int) -> int:
    try:
        zone = ZoneInfo(schedule.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidSchedule(
            f"There is no time zone {schedule.timezone!r} here.",
            hint="Such as Europe/Berlin; a bare system needs the package tzdata.",
        ) from error
    after = datetime.fromtimestamp(after_ns // _NS, UTC).astimezone(zone)
    try:
        found = next(CronSim(schedule.cron or "", after))
    except CronSimError as error:
        raise InvalidSchedule(
            f"{schedule.cron!r} is no line of cron: {error}.", hint="Five fields, such as '30 3 * * 1-5'."
        ) from error
    except StopIteration:
        raise InvalidSchedule(f"{schedule.cron!r} never comes.") from None
    due = found.astimezone(UTC)
    if due <= after:  # the hour that comes twice
        due = after.astimezone(UTC) + timedelta(seconds=1)
    return int(due.timestamp()) * _NS
