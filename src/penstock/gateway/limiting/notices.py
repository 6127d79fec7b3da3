"""What callers are told about limits: refusals, the headers official clients read, warnings."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache

from penstock.gateway.errors import BudgetReached, LimitReached
from penstock.gateway.limiting.rules import NANO, Charge, Meter
from penstock.store.counters import Taken

Header = tuple[bytes, bytes]
_LEFT = {unit: f"x-ratelimit-remaining-{unit}".encode() for unit in ("requests", "tokens")}
_LONG_WAIT_S = 60
"""Official clients wait at most this long by themselves."""


def refuse(charge: Charge, taken: Taken, *, key_name: str, now_s: float) -> LimitReached:
    """Return the error that says which limit refused a call, what it allows, what is used, and when it resets."""
    meter = charge.meter
    reset_s = max(1, round(taken.window_end_s - now_s))
    who = describe_subject(charge, key_name)
    rule = f" (rule {meter.rule!r})" if meter.rule is not None else ""
    needs = ""
    if charge.least > 1:
        verb = "may cost" if meter.unit == "usd" else "needs"
        needs = f" and this call {verb} about {_count(meter.unit, charge.least)}"
    unit = "" if meter.unit == "usd" else f" {meter.unit}"
    is_too_large = charge.least > meter.limit
    error = BudgetReached if meter.unit == "usd" else LimitReached
    return error(
        f"{error.title} reached for {who}{rule}: {_count(meter.unit, meter.limit)}{unit} per {meter.window}, "
        f"{_count(meter.unit, taken.value)} used{needs}.",
        hint=_hint(charge, taken.window_end_s, reset_s, is_too_large=is_too_large),
        openai_code=error.openai_code,
        rule=meter.rule,
        scope=meter.scope,
        subject=charge.subject or None,
        unit=meter.unit,
        window=meter.window,
        limit=_number(meter.unit, meter.limit),
        used=_number(meter.unit, taken.value),
        reset_s=None if is_too_large else reset_s,
        resets_at=_moment(taken.window_end_s),
    )


def warn(charge: Charge, taken: Taken, *, key_name: str) -> str:
    """Return the line that tells a caller of a limit that only warns."""
    meter = charge.meter
    unit = "" if meter.unit == "usd" else f" {meter.unit}"
    return (
        f"rule {meter.rule!r} for {describe_subject(charge, key_name)}: {_count(meter.unit, taken.value)} of "
        f"{_count(meter.unit, meter.limit)}{unit} per {meter.window}, resets {_moment(taken.window_end_s)}"
    )


def refusal_headers(fields: Mapping[str, object]) -> list[Header]:
    """Return the headers that official clients read after a 429, from the fields of the error."""
    unit, reset_s, limit = fields.get("unit"), fields.get("reset_s"), fields.get("limit")
    if unit is None or "resets_at" not in fields:
        return []
    headers: list[Header] = []
    if unit in ("requests", "tokens"):
        headers += [
            (f"x-ratelimit-limit-{unit}".encode(), str(limit).encode()),
            (f"x-ratelimit-remaining-{unit}".encode(), b"0"),
        ]
        if reset_s is not None:
            headers.append((f"x-ratelimit-reset-{unit}".encode(), f"{reset_s}s".encode()))
    if isinstance(reset_s, int):
        headers.append((b"retry-after", b"%d" % reset_s))
    if not isinstance(reset_s, int) or reset_s > _LONG_WAIT_S:
        headers.append((b"x-should-retry", b"false"))  # official clients would try twice more within seconds
    return headers


def standing_headers(lines: list[tuple[Charge, Taken]], now_s: float) -> list[Header]:
    """Return `x-ratelimit-*` of a call that was let in: for requests and tokens each, of the rule with least left."""
    tightest: dict[str, tuple[int, Meter, int]] = {}
    for charge, taken in lines:
        meter = charge.meter
        if meter.refuses and meter.unit != "usd":
            left = meter.limit - taken.value
            known = tightest.get(meter.unit)
            if known is None or left < known[0]:
                tightest[meter.unit] = left, meter, taken.window_end_s
    headers: list[Header] = []
    for left, meter, window_end_s in tightest.values():
        headers += (
            _limit_header(meter.unit, meter.limit),
            (_LEFT[meter.unit], b"%d" % left if left > 0 else b"0"),
            _reset_header(meter.unit, round(window_end_s - now_s)),
        )
    return headers


# The same for very many calls: a limit changes seldom, and what is left of a window once a second.
@lru_cache(maxsize=4096)
def _limit_header(unit: str, limit: int) -> Header:
    return f"x-ratelimit-limit-{unit}".encode(), b"%d" % limit


@lru_cache(maxsize=4096)
def _reset_header(unit: str, reset_s: int) -> Header:
    return f"x-ratelimit-reset-{unit}".encode(), b"%ds" % max(1, reset_s)


def describe_subject(charge: Charge, key_name: str) -> str:
    """Return whom a rule counts, in words."""
    if charge.meter.scope == "all":
        return "all calls"
    if charge.meter.scope == "key":
        return f"key {key_name!r}"
    return f"{charge.meter.scope} {charge.subject[:80]!r}"


def _hint(charge: Charge, window_end_s: int, reset_s: int, *, is_too_large: bool) -> str:
    meter = charge.meter
    if meter.rule is None:
        raise_it = f"raise {meter.unit}_per_minute of the key"
    else:
        raise_it = f"let the operator raise the rule {meter.rule!r}"
    if is_too_large:
        return f"This call alone is over the limit: bound it with max_tokens, shorten it, or {raise_it}."
    when = f"in {reset_s} s" if reset_s <= 2 * 3600 else f"after {_moment(window_end_s)}"
    return f"Try again {when}, or {raise_it}."


def _count(unit: str, amount: int) -> str:
    return f"${_dollars(amount)}" if unit == "usd" else str(amount)


def _number(unit: str, amount: int) -> int | str:
    return _dollars(amount) if unit == "usd" else amount


def _dollars(nano: int) -> str:
    whole, _, parts = f"{Decimal(nano) / NANO:f}".partition(".")
    return f"{whole}.{parts.rstrip('0'):0<2}"


def _moment(window_end_s: int) -> str:
    return datetime.fromtimestamp(window_end_s, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
