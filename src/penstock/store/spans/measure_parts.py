"""Measures as SQL aggregates over a source (see `measure_columns`), and their results as cells.

A `Plan` gathers the expressions of all measures of a query, each one once: percentiles of one column are one aggregate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.base.errors import InvalidInput
from penstock.base.intervals import mean_interval, wilson_interval
from penstock.spec.measures import MEASURES, SCORE, MetricCell, Subject
from penstock.spec.usage import TOKEN_CLASSES
from penstock.store.spans.rows import plain_decimal

Values = Sequence[Any]
Build = Callable[[Values], MetricCell]
_COUNTED = "NOT lost"
_ANSWERED = "status <> 'error' AND NOT lost"
_ALL = f"count(*) FILTER (WHERE {_COUNTED})"
_FAILED = f"count(*) FILTER (WHERE status = 'error' AND {_COUNTED})"
_HITS = "cache IN ('hit', 'semantic', 'shared')"
_ASKED_CACHE = "cache IN ('hit', 'semantic', 'shared', 'miss')"
_COLUMNS = {"latency": "took_ms", "ttft": "ttft_ms", "overhead": "overhead_ms"}
_FRACTIONS = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
_RATE = (
    "CASE WHEN n_written > 0 AND took_ms > coalesce(ttft_ms, 0)"
    " THEN n_written / (took_ms - coalesce(ttft_ms, 0)) * 1000 END"
)
_SPANS_ONLY = frozenset({"output_rate", "prompt_cache_share", *(f"tokens.{name}" for name in TOKEN_CLASSES)})
NEEDS_ROOT = frozenset({"overhead_p50", "overhead_p95", "overhead_p99", "attempts_mean", "retried_share"})
NEEDS_SUMS = frozenset(
    {
        *("cost", "cost_mean", "tokens", "input_tokens", "output_tokens", "prompt_cache_share"),
        *(f"tokens.{name}" for name in TOKEN_CLASSES),
    }
)
_SUMS = {
    "calls": _ALL,
    "errors": _FAILED,
    "cost": "coalesce(sum(cost_usd), 0)",
    "tokens": "coalesce(sum(n_in), 0) + coalesce(sum(n_out), 0)",
    "input_tokens": "coalesce(sum(n_in), 0)",
    "output_tokens": "coalesce(sum(n_out), 0)",
    **{f"tokens.{name}": f"coalesce(sum({name}), 0)" for name in TOKEN_CLASSES},
}


@dataclass
class Plan:
    """The expressions of a query's measures, and how each cell is made of their values."""

    expressions: list[str] = field(default_factory=list)
    builds: dict[str, Build] = field(default_factory=dict)

    def add(self, expression: str) -> int:
        """Return the place of an expression, added when it is new."""
        if expression not in self.expressions:
            self.expressions.append(expression)
        return self.expressions.index(expression)

    def cells(self, values: Values) -> dict[str, MetricCell]:
        """Return the cells of one row of results."""
        return {name: build(values) for name, build in self.builds.items()}


def plan_measures(names: Sequence[str], subject: Subject) -> Plan:
    """Return the plan of these measures, scores left out; raise `InvalidInput` for what is none, or not of `subject`."""
    plan = Plan()
    plan.add(_ALL)
    for name in names:
        if name.startswith(SCORE):
            continue
        if name not in MEASURES:
            raise InvalidInput(
                f"There is no measure {name[:80]!r}.", hint=f"Known: {', '.join(MEASURES)}, score.NAME."
            )
        if subject == "trace" and name in _SPANS_ONLY:
            raise InvalidInput(
                f"{name} is not measured of whole traces.", hint="Measure it of calls: subject `call`."
            )
        plan.builds[name] = _plan(plan, name)
    for stem in _COLUMNS:
        _plan_percentiles(plan, stem, [name for name in names if name.startswith(f"{stem}_p")])
    return plan


def weight_sql(name: str) -> tuple[str, str, bool]:
    """Return what each span weighs in a measure, which spans come into question, and whether less of it is worse."""
    stem, _, which = name.rpartition("_")
    if stem in _COLUMNS and which in {*_FRACTIONS, "mean"}:
        return _COLUMNS[stem], _ANSWERED, False
    if name in {"cost", "cost_mean"}:
        return "cost_usd::DOUBLE", _COUNTED, False
    if name in _SUMS and name not in {"calls", "errors"}:
        columns = {
            "tokens": "coalesce(n_in, 0) + coalesce(n_out, 0)",
            "input_tokens": "n_in",
            "output_tokens": "n_out",
        }
        return f"({columns.get(name, name.removeprefix('tokens.'))})::DOUBLE", _COUNTED, False
    found = {
        "errors": ("NULL", f"status = 'error' AND {_COUNTED}", False),
        "error_share": ("NULL", f"status = 'error' AND {_COUNTED}", False),
        "cache_hit_share": ("NULL", f"cache = 'miss' AND {_COUNTED}", False),
        "attempts_mean": ("attempts::DOUBLE", _COUNTED, False),
        "retried_share": ("attempts::DOUBLE", f"attempts > 1 AND {_COUNTED}", False),
        "output_rate": (_RATE, _ANSWERED, True),
        "prompt_cache_share": ("input_cache_read / nullif(n_in, 0)", _COUNTED, True),
    }
    return found.get(name, ("NULL", _COUNTED, False))


def rank_sql(measure: str) -> str:
    """Return by what groups are ranked: the measure where it is a sum, else how many stand behind it."""
    return _SUMS.get(measure, _ALL)


def _plan(plan: Plan, name: str) -> Build:
    stem, _, which = name.rpartition("_")
    if stem in _COLUMNS:
        return _mean(plan, _COLUMNS[stem], _ANSWERED) if which == "mean" else _unknown
    if name in {"calls", "errors"}:
        return _count(plan, name)
    if name in {"cost", "cost_mean"}:
        return _money(plan, mean=name == "cost_mean")
    if name.startswith("tokens") or name.endswith("_tokens"):
        return _tokens(plan, name)
    if name in {"sessions", "users"}:
        return _distinct(plan, f"{name[:-1]}_id")
    if name == "attempts_mean":
        return _mean(plan, "attempts", _COUNTED)
    if name == "output_rate":
        return _median(plan, _RATE)
    if name == "prompt_cache_share":
        return _ratio(plan, "input_cache_read", "n_in")
    hits, of = {
        "error_share": (f"status = 'error' AND {_COUNTED}", _COUNTED),
        "cache_hit_share": (f"{_HITS} AND {_COUNTED}", f"{_ASKED_CACHE} AND {_COUNTED}"),
        "retried_share": (f"attempts > 1 AND {_COUNTED}", f"attempts IS NOT NULL AND {_COUNTED}"),
    }[name]
    return _share(plan, hits, of)


def _unknown(_: Values) -> MetricCell:
    return MetricCell(value=None, n=0)


def _plan_percentiles(plan: Plan, stem: str, names: Sequence[str]) -> None:
    if not names:
        return
    column = _COLUMNS[stem]
    fractions = [_FRACTIONS[name.rpartition("_")[2]] for name in names]
    counted = plan.add(f"count({column}) FILTER (WHERE {_ANSWERED})")
    place = plan.add(f"quantile_cont({column}, {fractions}) FILTER (WHERE {_ANSWERED})")
    for number, name in enumerate(names):
        plan.builds[name] = _percentile(place, number, counted)


def _percentile(place: int, number: int, counted: int) -> Build:
    def build(values: Values) -> MetricCell:
        found = values[place]
        return MetricCell(value=found[number] if found else None, n=values[counted])

    return build


def _count(plan: Plan, name: str) -> Build:
    counted, of = plan.add(_SUMS[name]), plan.add(_ALL)
    return lambda values: MetricCell(value=float(values[counted]), n=values[of])


def _share(plan: Plan, hits: str, of: str) -> Build:
    place, whole = plan.add(f"count(*) FILTER (WHERE {hits})"), plan.add(f"count(*) FILTER (WHERE {of})")

    def build(values: Values) -> MetricCell:
        n_hits, n = values[place], values[whole]
        low, high = wilson_interval(n_hits, n) or (None, None)
        return MetricCell(value=n_hits / n if n else None, n=n, low=low, high=high)

    return build


def _mean(plan: Plan, column: str, of: str) -> Build:
    mean, spread, counted = (
        plan.add(f"{function}({column}) FILTER (WHERE {of})") for function in ("avg", "stddev_samp", "count")
    )

    def build(values: Values) -> MetricCell:
        return mean_cell(values[mean], values[spread], values[counted])

    return build


def mean_cell(mean: float | None, spread: float | None, n: int, n_left_out: int = 0) -> MetricCell:
    """Return the cell of a mean, with its interval."""
    low, high = (mean_interval(mean, spread, n) if mean is not None else None) or (None, None)
    return MetricCell(value=mean, n=n, n_left_out=n_left_out, low=low, high=high)


def _median(plan: Plan, expression: str) -> Build:
    place = plan.add(f"quantile_cont({expression}, 0.5) FILTER (WHERE {_ANSWERED})")
    counted = plan.add(f"count({expression}) FILTER (WHERE {_ANSWERED})")
    return lambda values: MetricCell(value=values[place], n=values[counted])


def _money(plan: Plan, *, mean: bool) -> Build:
    total, counted = plan.add("sum(cost_usd)"), plan.add("count(cost_usd)")
    unpriced, calls = (
        plan.add("coalesce(sum(n_unpriced), 0)::BIGINT"),
        plan.add(f"count(cost_usd) FILTER (WHERE {_COUNTED})"),
    )

    def build(values: Values) -> MetricCell:
        money, n = plain_decimal(values[total]), values[calls if mean else counted]
        if mean and money is not None:
            money = money / n if n else None
        return MetricCell(
            value=None if money is None else float(money),
            n=n,
            n_left_out=values[unpriced],
            exact=None if mean else money,
        )

    return build


def _tokens(plan: Plan, name: str) -> Build:
    columns = {"tokens": ("n_in", "n_out"), "input_tokens": ("n_in",), "output_tokens": ("n_out",)}.get(
        name, (name.removeprefix("tokens."),)
    )
    sums = [plan.add(f"sum({column})::BIGINT") for column in columns]
    counted = plan.add(f"count(coalesce({', '.join(columns)}))")
    mute = plan.add("count(*) FILTER (WHERE is_mute)")

    def build(values: Values) -> MetricCell:
        known = [values[place] for place in sums if values[place] is not None]
        return MetricCell(
            value=float(sum(known)) if known else None, n=values[counted], n_left_out=values[mute]
        )

    return build


def _ratio(plan: Plan, part: str, whole: str) -> Build:
    of = f"{whole} IS NOT NULL"
    above, below = plan.add(f"sum({part})::BIGINT"), plan.add(f"sum({whole})::BIGINT")
    counted, mute = plan.add(f"count(*) FILTER (WHERE {of})"), plan.add("count(*) FILTER (WHERE is_mute)")

    def build(values: Values) -> MetricCell:
        n_part, n_whole = values[above] or 0, values[below] or 0
        return MetricCell(
            value=n_part / n_whole if n_whole else None, n=values[counted], n_left_out=values[mute]
        )

    return build


def _distinct(plan: Plan, column: str) -> Build:
    place, counted = plan.add(f"count(DISTINCT {column})"), plan.add(f"count({column})")
    of = plan.add("count(*)")
    return lambda values: MetricCell(
        value=float(values[place]), n=values[counted], n_left_out=values[of] - values[counted]
    )
