"""Limits as people write them."""

import pytest

from penstock.deploy.load.errors import InvalidLimit
from penstock.deploy.load.limits import parse_limit, single_call_limits


@pytest.mark.parametrize(
    ("text", "measure", "statistic", "bound", "unit"),
    [
        ("ttft.p95 <= 300ms", "ttft", "p95", 300.0, "ms"),
        ("e2e<=4s", "e2e", "", 4000.0, "ms"),
        ("itl.p99.9 < 80 ms", "itl", "p99.9", 80.0, "ms"),
        ("goodput >= 99%", "goodput", "", 0.99, "%"),
        ("goodput >= 5/s", "goodput_per_s", "", 5.0, "/s"),
        ("throughput > 2.5", "requests_per_s", "", 2.5, "/s"),
        ("tokens_per_s >= 100", "completion_tokens_per_s", "", 100.0, "/s"),
        ("errors <= 0.01", "errors", "", 0.01, "%"),
        ("overhead.max <= 500us", "overhead", "max", 0.5, "ms"),
        ("e2e.p50 <= 1.1x", "e2e", "p50", 1.1, "x"),
    ],
)
def test_a_limit_is_read(text: str, measure: str, statistic: str, bound: float, unit: str) -> None:
    limit = parse_limit(text)
    assert (limit.measure, limit.statistic, limit.bound, limit.unit) == (
        measure,
        statistic,
        pytest.approx(bound),
        unit,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no limit"),
        ("ttft.p95", "no limit"),
        ("tfft.p95 <= 1ms", "Did you mean 'ttft'"),
        ("ttft.p95 <= 300", "needs a unit"),
        ("goodput.p95 >= 0.9", "no statistics"),
        ("goodput >= 99", "is a share"),
        ("errors <= 3/s", "no unit"),
        ("e2e <= 1.1x", "needs a statistic"),
        ("ttft.p0 <= 1ms", "no percentile"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(InvalidLimit, match=said):
        parse_limit(text)


def test_goodput_counts_by_limits_on_single_calls() -> None:
    limits = tuple(map(parse_limit, ("ttft <= 300ms", "e2e.p95 <= 4s", "goodput >= 0.9")))
    assert [limit.text for limit in single_call_limits(limits)] == ["ttft <= 300ms"]


def test_without_such_limits_the_bounds_of_percentiles_serve() -> None:
    limits = tuple(map(parse_limit, ("ttft.p95 <= 300ms", "e2e.mean <= 4s", "ttft.p50 <= 1.1x")))
    assert [(each.measure, each.bound) for each in single_call_limits(limits)] == [("ttft", 300.0)]
