"""Nouns of load tests, as files, REST, command line, report and console know them. Frozen, no behaviour.

Times inside a run are seconds since it began; figures are milliseconds.
"""

from decimal import Decimal
from typing import Any, Literal

import msgspec

ShapeKind = Literal["poisson", "constant", "burst", "ramp", "closed"]
VerdictWord = Literal["pass", "fail", "undecided", "invalid", "unjudged"]
"""invalid: nothing that was measured can be used. unjudged: no limit was stated."""
LoadState = Literal["queued", "running", "done", "failed", "stopped"]
FINAL_STATES: frozenset[str] = frozenset({"done", "failed", "stopped"})
Length = int | tuple[int, int]
"""So many tokens, or evenly between two numbers."""


class Shape(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """When calls are sent.

    All but `closed` are open loops: the moments are fixed before the first call, and a slow server does not change them.
    """

    kind: ShapeKind = "poisson"
    """poisson: as many independent people call. constant: evenly. burst: `burst` at the same moment, again and again.
    ramp: poisson whose rate grows to `to_rate`. closed: `concurrency` callers, each waits for its reply."""
    rate: float = 1.0
    """Requests a second on average; of a ramp, at its beginning."""
    to_rate: float | None = None
    burst: int = 10
    concurrency: int = 1


class MixClass(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One kind of calls."""

    name: str = "calls"
    weight: float = 1.0
    prompt_tokens: Length = 100
    """Of made-up prompts; the size is steered by what replies to the warm-up say was read."""
    completion_tokens: Length = 64
    """`max_tokens` of the call. A model may end sooner: what it wrote is what is counted."""
    source: str = "words"
    """`words`: made up, each different from the first word on. `dataset:NAME[@VERSION]`: rows as they are.
    `traffic`: made up, in the lengths of recorded calls of the route."""
    shared_prefix_tokens: int = 0
    """The same first words in each prompt, for engines that keep prefixes."""
    system: str = ""


class FindRate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Looking for the largest rate that keeps the limits."""

    low: float = 0.5
    high: float = 64.0
    runs: int = 8
    """At most; each is a run of `seconds` or `requests` at one rate."""
    within: float = 0.1
    """Ends when the rate that fails is at most this much above the one that passes (0.1: a tenth)."""


class LoadSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One load test."""

    route: str
    """What calls name as `model`: a route, `model:NAME@…`, `prompt:NAME@…`, an app."""
    against: str | None = None
    """Another one, asked in turn in the same run: A B B A …"""
    name: str = ""
    shape: Shape = Shape()
    rates: tuple[float, ...] = ()
    """One stage at each of these rates, instead of `shape.rate`."""
    find_rate: FindRate | None = None
    seconds: float | None = None
    """Of one stage; 30 when neither this nor `requests` is given."""
    requests: int | None = None
    """Of one stage."""
    pairs: int = 6
    """Of blocks, with `against`; each block is a stage."""
    mix: tuple[MixClass, ...] = (MixClass(),)
    limits: tuple[str, ...] = ()
    """Such as `ttft.p95 <= 300ms`, `goodput >= 0.99`; see `limits.py`."""
    stream: bool = True
    parameters: dict[str, Any] = {}
    """Further members of each call, such as `temperature`."""
    warmup: int = 3
    """Calls one after another before anything counts, for each target. What they take is how long a call takes alone."""
    settle_s: float = 0.0
    """Of each stage left out at its beginning."""
    timeout_s: float = 120.0
    max_in_flight: int = 512
    """Open calls at once; further ones wait, and the wait counts."""
    max_late_ms: float | None = None
    """A test whose own sender is later than this (99th percentile) is invalid. None: a tenth of the median reply, at least 10."""
    max_cost_usd: Decimal | None = None
    """No further call is sent that might pass it."""
    cache: bool = False
    """Whether the gateway may answer from kept replies."""
    seed: int = 20
    level: float = 0.95


class Sample(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call, as it went. Times are seconds since the run began."""

    stage: int
    number: int
    """Within its stage."""
    target: str
    kind: str
    """Name of its mix class."""
    due_s: float
    late_s: float = 0.0
    """How much later than due the sender woke: its own fault."""
    sent_s: float
    """After waiting for a free place, if all were taken."""
    first_s: float | None = None
    """First piece that holds text; None for whole replies and where none came."""
    ended_s: float
    status: int | None = None
    error: str = ""
    """Kind of failure; empty when the reply came whole."""
    detail: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    max_tokens: int = 0
    n_pieces: int = 0
    """Pieces of the stream that hold text; a piece may hold several tokens."""
    gaps: tuple[tuple[int, int], ...] = ()
    """Times between pieces: (bucket, count), see `gap_buckets.py`."""
    longest_gap_ms: float | None = None
    finish: str | None = None
    version: str | None = None
    provider: str | None = None
    model: str | None = None
    attempts: int | None = None
    overhead_ms: float | None = None
    cache: str | None = None
    trace_id: str | None = None
    cost_usd: float | None = None
    """By its usage; what was set aside for it where it told none and may have been served. None: prices are unknown."""
    is_warmup: bool = False


class Estimate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A figure with its interval; a bound that so few calls cannot give is None."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0


class Spread(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one measure is spread over calls that succeeded, in milliseconds."""

    n: int
    mean: float | None
    min: float | None = None
    max: float | None = None
    p50: Estimate | None = None
    p90: Estimate | None = None
    p95: Estimate | None = None
    p99: Estimate | None = None


class ErrorKind(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Calls that failed in one way."""

    kind: str
    n: int
    example: str = ""


class Figures(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What some calls came to."""

    label: str
    n: int
    n_failed: int
    duration_s: float | None
    """From the first call that was due to the last end."""
    spreads: dict[str, Spread] = {}
    """By measure: ttft, e2e, ttft_sent, e2e_sent, itl, tpot, queueing, overhead, lateness."""
    offered_per_s: float | None = None
    """Calls that were due, by the time they were due in."""
    requests_per_s: Estimate | None = None
    prompt_tokens_per_s: float | None = None
    completion_tokens_per_s: Estimate | None = None
    mean_prompt_tokens: float | None = None
    mean_completion_tokens: float | None = None
    n_without_usage: int = 0
    goodput: Estimate | None = None
    """Share of all calls that met each limit on single calls."""
    goodput_per_s: Estimate | None = None
    errors: tuple[ErrorKind, ...] = ()
    max_in_flight: int = 0
    n_retried: int = 0
    """Calls that the gateway sent more than once."""
    n_cached: int = 0
    cost_usd: float | None = None


class LengthEffect(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """End-to-end time by tokens, as a straight line."""

    label: str
    n: int
    base_ms: Estimate
    per_completion_token_ms: Estimate
    per_prompt_token_ms: Estimate | None = None
    """None where prompts are too much alike to tell."""
    r_squared: float | None = None
    residual_ms: float | None = None
    """Typical distance of a call from the line."""
    bins: tuple[tuple[int, int, int, float, float], ...] = ()
    """Completion tokens from, to; calls; median and 95th percentile of the end-to-end time, ms."""
    sentence: str = ""


class LimitResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One limit, held against what was measured."""

    limit: str
    verdict: VerdictWord
    value: float | None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    n: int = 0
    sentence: str = ""
    next: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether the limits hold."""

    word: VerdictWord
    sentence: str
    limits: tuple[LimitResult, ...] = ()


class Ratio(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One measure of one target by that of the other, over pairs of blocks."""

    measure: str
    """Such as `ttft.p50`."""
    value: float
    low: float | None
    high: float | None
    first: float
    second: float
    n_pairs: int
    n_endless: int = 0
    """Pairs in which a block's statistic lies among failed calls; the figures are then of those that succeeded."""
    sentence: str = ""


class Comparison(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Two targets side by side."""

    first: str
    second: str
    ratios: tuple[Ratio, ...]
    sentence: str


class StageResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One stage: one shape, one target."""

    number: int
    target: str
    shape: Shape
    figures: Figures
    verdict: Verdict | None = None
    ended: str = ""
    """Why it ended before its time; empty when it did not."""


class RateFound(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The largest rate that kept the limits."""

    rate: float | None
    fails_at: float | None
    runs: tuple[tuple[float, VerdictWord], ...]
    sentence: str


class Charts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a page draws."""

    histograms: dict[str, dict[str, Any]] = {}
    """By measure: {edges_ms: [n+1], counts: {target: [n]}}."""
    series: dict[str, list[Any]] = {}
    """second: [s]; started, ended, failed, in_flight, ttft_p50, e2e_p50, completion_tokens, each of one value a second."""
    scatter: tuple[tuple[int, float, str], ...] = ()
    """Completion tokens, end-to-end ms, target: at most 2,000 calls."""


class Sending(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How well the sender kept its own plan."""

    late_p99_ms: float | None
    late_max_ms: float | None
    allowed_ms: float
    loop_lag_p99_ms: float | None = None
    worst_ms: float = 0.0
    """What is held against `allowed_ms`."""
    is_usable: bool = True
    sentence: str = ""


class LoadResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything that a load test found but the single calls."""

    is_open_loop: bool
    loop_note: str
    targets: tuple[Figures, ...]
    stages: tuple[StageResult, ...]
    classes: tuple[Figures, ...] = ()
    versions: tuple[Figures, ...] = ()
    alone: tuple[Figures, ...] = ()
    """Warm-up calls, one after another: how long a call takes when nobody else asks."""
    effects: tuple[LengthEffect, ...] = ()
    sending: Sending
    verdict: Verdict
    comparison: Comparison | None = None
    found: RateFound | None = None
    charts: Charts = Charts()
    engine: dict[str, Any] | None = None
    """What a local engine counted meanwhile."""
    notes: tuple[str, ...] = ()
    n_calls: int = 0
    cost_usd: float | None = None
    stopped: str = ""
    """Why it ended early."""


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a load test would do and cost."""

    n_calls: float
    """Expected; at most, for a search."""
    seconds: float | None
    prompt_tokens: float
    completion_tokens: float
    cost_usd: float | None
    """At most (each reply as long as it may be). None: unknown."""
    is_hosted: bool
    providers: tuple[str, ...] = ()
    must_confirm: bool = False
    """Whether somebody has to agree first: hosted providers, at a cost that is unknown or over nothing."""
    notes: tuple[str, ...] = ()


class LoadRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A load test as REST, command line and console show it."""

    id: str
    name: str
    route: str
    against: str | None = None
    state: LoadState
    spec: LoadSpec
    actor: str
    created_ns: int
    updated_ns: int
    started_ns: int | None = None
    finished_ns: int | None = None
    job_id: str | None = None
    verdict: VerdictWord | None = None
    sentence: str = ""
    plan: LoadPlan | None = None
    result: LoadResult | None = None
    samples: str | None = None
    """Digest of the blob that holds each call, one JSON object a line, compressed (zstd)."""
    n_samples: int = 0
    error: dict[str, Any] | None = None
    versions: dict[str, str] = {}
    """What the targets' names stood for when it began, by asset."""


class LoadSummary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A load test in a list."""

    id: str
    name: str
    route: str
    against: str | None
    state: LoadState
    verdict: VerdictWord | None
    sentence: str
    shape: str
    n_calls: int | None
    """None until it has ended."""
    ttft_p95_ms: float | None
    e2e_p95_ms: float | None
    requests_per_s: float | None
    actor: str
    created_ns: int


class LoadPage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Some load tests, newest first."""

    rows: list[LoadSummary]
    next_cursor: str | None = None
    n_matching: int = 0
