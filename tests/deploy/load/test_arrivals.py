"""Moments at which calls are due."""

import itertools
from random import Random

import pytest

from penstock.deploy.load.arrivals import count_arrivals, draw_arrivals
from penstock.deploy.load.errors import InvalidLoadTest
from penstock.deploy.load.types import Shape


def test_constant_arrivals_are_evenly_apart() -> None:
    assert draw_arrivals(Shape(kind="constant", rate=4), Random(1), seconds=1) == [0.0, 0.25, 0.5, 0.75]


def test_poisson_arrivals_have_the_rate_and_the_spread_of_independent_people() -> None:
    offsets = draw_arrivals(Shape(rate=50), Random(2), seconds=400)
    assert len(offsets) == pytest.approx(20_000, rel=0.03)
    gaps = [later - earlier for earlier, later in itertools.pairwise(offsets)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert deviation == pytest.approx(mean, rel=0.05)  # of an exponential distribution


def test_a_burst_comes_at_one_moment_and_keeps_the_rate_on_average() -> None:
    offsets = draw_arrivals(Shape(kind="burst", rate=5, burst=10), Random(1), seconds=6)
    assert [offsets.count(moment) for moment in sorted(set(offsets))] == [10, 10, 10]
    assert sorted(set(offsets)) == [0.0, 2.0, 4.0]


def test_a_ramp_grows_to_its_rate() -> None:
    offsets = draw_arrivals(Shape(kind="ramp", rate=10, to_rate=90), Random(3), seconds=200)
    first = sum(offset < 20 for offset in offsets) / 20
    last = sum(offset >= 180 for offset in offsets) / 20
    assert first == pytest.approx(14, rel=0.2)
    assert last == pytest.approx(86, rel=0.1)
    assert len(offsets) == pytest.approx(10_000, rel=0.04)


@pytest.mark.parametrize("kind", ["poisson", "constant", "burst"])
def test_a_number_of_requests_ends_a_stage(kind: str) -> None:
    shape = Shape(kind=kind, rate=3, burst=4)  # type: ignore[arg-type]
    assert len(draw_arrivals(shape, Random(1), requests=17)) == 17
    assert count_arrivals(shape, seconds=None, requests=17) == 17


def test_arrivals_do_not_depend_on_anything_but_the_seed() -> None:
    shape = Shape(rate=3)
    assert draw_arrivals(shape, Random("a"), seconds=9) == draw_arrivals(shape, Random("a"), seconds=9)
    assert draw_arrivals(shape, Random("a"), seconds=9) != draw_arrivals(shape, Random("b"), seconds=9)


@pytest.mark.parametrize(
    "shape",
    [
        Shape(rate=0),
        Shape(rate=-1),
        Shape(rate=float("nan")),
        Shape(kind="ramp", rate=1),
        Shape(kind="burst", burst=0),
        Shape(kind="closed"),
    ],
)
def test_a_shape_that_cannot_be_planned_is_refused(shape: Shape) -> None:
    with pytest.raises(InvalidLoadTest):
        draw_arrivals(shape, Random(1), seconds=1)


def test_more_calls_than_a_stage_holds_are_refused_before_any_is_sent() -> None:
    with pytest.raises(InvalidLoadTest, match="200,000"):
        draw_arrivals(Shape(kind="constant", rate=10_000), Random(1), seconds=3600)
