"""Every metric there is: its name, what it means, its labels, and where the buckets of histograms lie.

Names and buckets that begin with `gen_ai` are those of OpenTelemetry's semantic conventions for generative AI.
"""

from dataclasses import dataclass
from typing import Literal

MetricKind = Literal["counter", "histogram", "gauge"]

_DURATIONS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = tuple(float(4**power) for power in range(14))
_FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_OVERHEAD = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_PLACE = ("route", "provider", "model")
_GEN_AI = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model")


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One metric. A gauge is of one worker and goes with it; counters and histograms stay."""

    name: str
    kind: MetricKind
    text: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def n_values(self) -> int:
        """Numbers that one series keeps: of a histogram each bucket, the one above all, and the sum."""
        return len(self.bounds) + 2 if self.kind == "histogram" else 1


REQUESTS = Family(
    name="penstock_requests_total",
    kind="counter",
    text="Calls, by the route asked for, who served them, the HTTP status given and the dialect of the client.",
    labels=(*_PLACE, "status", "dialect"),
)
RETRIES = Family(
    name="penstock_retries_total",
    kind="counter",
    text="Requests sent to providers beyond the first of each call.",
    labels=("route",),
)
FALLBACKS = Family(
    name="penstock_fallbacks_total",
    kind="counter",
    text="Calls to a route that another one served.",
    labels=("route", "to"),
)
ATTEMPTS = Family(
    name="penstock_attempts_total",
    kind="counter",
    text="Requests to providers, by how they ended: served, refused, failed, abandoned.",
    labels=("provider", "model", "outcome"),
)
ERRORS = Family(
    name="penstock_errors_total",
    kind="counter",
    text="Calls that failed, by error code (docs/reference/errors.md).",
    labels=("code",),
)
LIMITED = Family(
    name="penstock_limits_refused_total",
    kind="counter",
    text="Calls refused by a limit on requests or tokens (rate) or on money (budget).",
    labels=("limit",),
)
CACHE = Family(
    name="penstock_cache_total",
    kind="counter",
    text="Calls of routes with a cache, by what it did.",
    labels=("route", "state"),
)
COST = Family(
    name="penstock_cost_usd_total",
    kind="counter",
    text="US dollars that calls cost, as far as their price was known at their end.",
    labels=_PLACE,
)
UNPRICED = Family(
    name="penstock_unpriced_total",
    kind="counter",
    text="Calls whose cost is not known: what they cost is missing from penstock_cost_usd_total.",
    labels=_PLACE,
)
OVERHEAD = Family(
    name="penstock_overhead_seconds",
    kind="histogram",
    text="The gateway's own time in a call.",
    labels=("dialect",),
    bounds=_OVERHEAD,
)
DURATION = Family(
    name="gen_ai_client_operation_duration_seconds",
    kind="histogram",
    text="Time from the request's last byte to the reply's.",
    labels=(*_GEN_AI, "error_type"),
    bounds=_DURATIONS,
)
TOKENS = Family(
    name="gen_ai_client_token_usage",
    kind="histogram",
    text="Tokens of one call, as the provider told them.",
    labels=(*_GEN_AI, "gen_ai_token_type"),
    bounds=_TOKENS,
)
FIRST_TOKEN = Family(
    name="gen_ai_server_time_to_first_token_seconds",
    kind="histogram",
    text="Time to the first content of a stream.",
    labels=_GEN_AI,
    bounds=_FIRST_TOKEN,
)
IN_FLIGHT = Family(
    name="penstock_calls_in_flight", kind="gauge", text="Calls being served now.", labels=("worker",)
)
LOOP_LAG = Family(
    name="penstock_event_loop_lag_seconds",
    kind="gauge",
    text="The longest that the worker's event loop was late in the last 15 seconds.",
    labels=("worker",),
)
RESIDENT = Family(
    name="penstock_resident_memory_bytes", kind="gauge", text="Memory of the worker.", labels=("worker",)
)
SPANS_LOST = Family(
    name="penstock_spans_lost_total",
    kind="counter",
    text="Spans of which the payload or all was dropped: the disk was full or the recorder behind.",
    labels=("what",),
)
LIMITS_ALONE = Family(
    name="penstock_limits_alone",
    kind="gauge",
    text="1 while limits are not exact over all machines or workers: Redis is gone, or the counters cannot be written.",
    labels=("worker",),
)
REDIS_LOST = Family(
    name="penstock_redis_lost_total",
    kind="counter",
    text="Times that a worker lost the Redis in which machines share limits.",
)
BREAKER = Family(
    name="penstock_breaker_state",
    kind="gauge",
    text="Circuit breaker of a target: 0 closed, 1 half open, 2 open.",
    labels=("route", "provider", "model"),
)
TARGET_LOAD = Family(
    name="penstock_target_in_flight",
    kind="gauge",
    text="Requests that a target is working on.",
    labels=("route", "provider", "model"),
)
WORKERS = Family(name="penstock_workers", kind="gauge", text="Gateway workers that live.")

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        REQUESTS, RETRIES, FALLBACKS, ATTEMPTS, ERRORS, LIMITED, CACHE, COST, UNPRICED, OVERHEAD, DURATION, TOKENS, FIRST_TOKEN,
        IN_FLIGHT, LOOP_LAG, RESIDENT, SPANS_LOST, LIMITS_ALONE, REDIS_LOST, BREAKER, TARGET_LOAD, WORKERS,
    )
}  # fmt: skip
