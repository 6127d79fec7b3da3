"""Reading SQL of traffic: how many calls each route or provider took, slice by slice. Values are always bound."""

from typing import Any, Literal

import msgspec

TrafficBy = Literal["route", "provider"]
N_SLICES = 48
# An attempt that was lost is a span of its own and counts for its provider; for its route the call counts.
_KINDS = {
    "route": "kind IN ('llm', 'embedding', 'http')",
    "provider": "kind IN ('llm', 'embedding', 'http', 'attempt')",
}


class TrafficRow(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of one route, or the requests to one provider, in a window that is cut into equal slices."""

    name: str
    n_calls: int
    n_errors: int
    p50_ms: float | None
    p95_ms: float | None
    """Of calls that did not fail."""
    ttft_ms: float | None
    """Median time to the first content."""
    calls: list[int]
    """By slice, oldest first."""
    errors: list[int]


def list_route_traffic(cursor: Any, by: TrafficBy, since_ns: int, until_ns: int) -> list[TrafficRow]:
    """Return a row for each name that gateways named in `[since_ns, until_ns)`, the busiest first."""
    width = max(1, -(-(until_ns - since_ns) // N_SLICES))
    rows = cursor.execute(
        f"SELECT {by}, count(*), count(*) FILTER (WHERE status = 'error'),"  # noqa: S608 - names of ours
        " quantile_cont((end_ns - start_ns) / 1e6, [0.5, 0.95]) FILTER (WHERE status <> 'error'),"
        " quantile_cont(ttft_ms, 0.5) FILTER (WHERE status <> 'error'),"
        " list((start_ns - ?) // ?), list((start_ns - ?) // ?) FILTER (WHERE status = 'error')"
        f" FROM spans WHERE start_ns >= ? AND start_ns < ? AND {by} IS NOT NULL AND {_KINDS[by]}"
        f" GROUP BY {by} ORDER BY 2 DESC, 1",
        [since_ns, width, since_ns, width, since_ns, until_ns],
    ).fetchall()
    return [
        TrafficRow(
            name=name,
            n_calls=n_calls,
            n_errors=n_errors,
            p50_ms=(quantiles or (None, None))[0],
            p95_ms=(quantiles or (None, None))[1],
            ttft_ms=ttft,
            calls=_count(slots),
            errors=_count(bad),
        )
        for name, n_calls, n_errors, quantiles, ttft, slots, bad in rows
    ]


def _count(slots: list[int] | None) -> list[int]:
    counts = [0] * N_SLICES
    for slot in slots or ():
        counts[min(int(slot), N_SLICES - 1)] += 1
    return counts
