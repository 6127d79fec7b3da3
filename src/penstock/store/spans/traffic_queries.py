"""Reading SQL of traffic: how many calls each route took, how many requests each provider, slice by slice."""

from typing import Any, Literal

import msgspec

TrafficBy = Literal["route", "provider"]
N_SLICES = 48
_WINDOW = "start_ns >= ? AND start_ns < ?"
_TRIED = "contains(events, 'attempt failed')"
_CALLS = "kind IN ('llm', 'embedding', 'http')"
_TIMES = "(end_ns - start_ns) / 1e6 AS took_ms, ttft_ms"
_ASKED = {
    "route": f"SELECT route AS name, start_ns, status = 'error' AS is_bad, {_TIMES} FROM spans"  # noqa: S608 - names of ours
    f" WHERE {_WINDOW} AND route IS NOT NULL AND {_CALLS}",
    # A call counts for who served it; each attempt that failed stands in its events and counts for who was asked.
    "provider": f"SELECT provider AS name, start_ns, status = 'error' AS is_bad, {_TIMES} FROM spans"  # noqa: S608 - names of ours
    f" WHERE {_WINDOW} AND provider IS NOT NULL AND {_CALLS}"
    f" AND (status <> 'error' OR NOT coalesce({_TRIED}, false))"
    " UNION ALL SELECT json_extract_string(event, '$.attributes.provider'), start_ns,"
    " json_extract_string(event, '$.attributes.outcome') <> 'abandoned', NULL, NULL"
    f" FROM (SELECT start_ns, unnest(json_extract(events, '$[*]')) AS event FROM spans WHERE {_WINDOW} AND {_TRIED})"
    " WHERE json_extract_string(event, '$.name') = 'attempt failed'",
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
    window = [since_ns, until_ns]
    rows = cursor.execute(
        f"WITH asked AS ({_ASKED[by]}) SELECT name, count(*), count(*) FILTER (WHERE is_bad),"  # noqa: S608 - names of ours
        " quantile_cont(took_ms, [0.5, 0.95]) FILTER (WHERE NOT is_bad),"
        " quantile_cont(ttft_ms, 0.5) FILTER (WHERE NOT is_bad),"
        " list((start_ns - ?) // ?), list((start_ns - ?) // ?) FILTER (WHERE is_bad)"
        " FROM asked WHERE name IS NOT NULL GROUP BY name ORDER BY 2 DESC, 1",
        [*window * (2 if by == "provider" else 1), since_ns, width, since_ns, width],
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
