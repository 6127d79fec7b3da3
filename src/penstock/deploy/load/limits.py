"""Limits as people write them: `ttft.p95 <= 300ms`, `e2e <= 4s`, `goodput >= 0.99`, `e2e.p50 <= 1.1x`.

A limit with a statistic is on all calls together. One without, on a time, is on each single call: goodput counts calls that
keep all of those. Where no limit is on single calls, the bounds of percentiles serve as such.
"""

import re
from typing import Literal

import msgspec

from penstock.base.errors import suggest
from penstock.deploy.load.errors import InvalidLimit

TIMES = ("ttft", "e2e", "ttft_sent", "e2e_sent", "itl", "tpot", "queueing", "overhead")
"""Measures of a single call, in milliseconds."""
SHARES = ("goodput", "errors")
RATES = ("requests_per_s", "completion_tokens_per_s", "prompt_tokens_per_s", "goodput_per_s")
_ALIASES = {"throughput": "requests_per_s", "tokens_per_s": "completion_tokens_per_s"}
_MS = {"us": 0.001, "µs": 0.001, "ms": 1.0, "s": 1000.0}
_FORM = re.compile(
    r"(?P<measure>[a-z_0-9]+)(?:\.(?P<statistic>mean|max|p\d{1,2}(?:\.\d+)?))?\s*(?P<operator><=|>=|<|>)\s*"
    r"(?P<amount>\d+(?:\.\d+)?|\.\d+)\s*(?P<unit>[a-zµ%/_]*)"
)


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """One limit, understood."""

    text: str
    measure: str
    statistic: str
    """`p95`, `mean`, `max`, or empty: of each call (times), of all calls (others)."""
    operator: Literal["<=", "<", ">=", ">"]
    bound: float
    """In milliseconds, as a share, or a second; with `is_ratio`, times the other target's."""
    unit: str
    """How values are told: ms, %, /s, x."""
    is_ratio: bool = False

    @property
    def is_upper(self) -> bool:
        """Whether less is better."""
        return self.operator in {"<=", "<"}

    @property
    def is_of_single_calls(self) -> bool:
        """Whether it is held against each call."""
        return self.measure in TIMES and not self.statistic

    def holds(self, value: float) -> bool:
        """Return whether a value keeps the limit."""
        return {
            "<=": value <= self.bound,
            "<": value < self.bound,
            ">=": value >= self.bound,
            ">": value > self.bound,
        }[self.operator]


def parse_limit(text: str) -> Limit:
    """Return the limit; raise `InvalidLimit` that says what is wrong."""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise InvalidLimit(
            f"{text!r} is no limit.", hint="Write it like ttft.p95 <= 300ms, e2e <= 4s or goodput >= 0.99."
        )
    measure = _ALIASES.get(found["measure"], found["measure"])
    known = (*TIMES, *SHARES, *RATES)
    if measure not in known:
        near = suggest(measure, [*known, *_ALIASES])
        raise InvalidLimit(f"{found['measure']!r} is no measure; known: {', '.join(known)}.", hint=near)
    statistic, unit, amount = found["statistic"] or "", found["unit"], float(found["amount"])
    if statistic and measure not in TIMES:
        raise InvalidLimit(f"{measure!r} has no statistics: it is one figure of all calls.", limit=text)
    if statistic.startswith("p") and float(statistic[1:]) <= 0:
        raise InvalidLimit(f"{statistic!r} is no percentile.", limit=text)
    bound, told = _bound(text, measure, amount, unit)
    if unit == "x" and measure in TIMES and not statistic:
        raise InvalidLimit(f"{text!r} compares, so it needs a statistic: {measure}.p50 …", limit=text)
    if measure == "goodput" and unit == "/s":
        measure = "goodput_per_s"
    operator = found["operator"]
    assert operator in {"<=", "<", ">=", ">"}
    return Limit(
        text=" ".join(text.split()),
        measure=measure,
        statistic=statistic,
        operator=operator,  # type: ignore[arg-type]
        bound=bound,
        unit=told,
        is_ratio=unit == "x",
    )


def single_call_limits(limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
    """Return what a call must keep to count as good."""
    own = tuple(limit for limit in limits if limit.is_of_single_calls)
    if own:
        return own
    return tuple(
        msgspec.structs.replace(limit, statistic="")
        for limit in limits
        if limit.measure in TIMES
        and limit.statistic.startswith("p")
        and limit.is_upper
        and not limit.is_ratio
    )


def _bound(text: str, measure: str, amount: float, unit: str) -> tuple[float, str]:
    if unit == "x":
        return amount, "x"
    if measure in TIMES:
        if unit not in _MS:
            raise InvalidLimit(f"{text!r} needs a unit: ms, s or us.", limit=text)
        return amount * _MS[unit], "ms"
    if measure in SHARES and unit != "/s":
        share = amount / 100 if unit == "%" else amount
        if unit not in {"", "%"} or share > 1:
            raise InvalidLimit(f"{text!r}: {measure} is a share, 0 to 1 or in %.", limit=text)
        return share, "%"
    if unit not in {"", "/s"} or measure == "errors":
        raise InvalidLimit(f"{text!r}: {measure} has no unit {unit!r}.", limit=text)
    return amount, "/s"
