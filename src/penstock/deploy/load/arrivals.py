"""When calls are due: offsets in seconds from the beginning of a stage, all drawn before the first is sent.

That they do not depend on replies is what makes a loop open: a server that stalls is asked all the same, and the calls that
wait show it (Tene's "coordinated omission").
"""

import math
from random import Random

from penstock.deploy.load.errors import InvalidLoadTest
from penstock.deploy.load.types import Shape

MAX_REQUESTS = 200_000
"""Of one stage."""


def draw_arrivals(
    shape: Shape, rng: Random, *, seconds: float | None = None, requests: int | None = None
) -> list[float]:
    """Return offsets in order, ending at `seconds` or after `requests`, whichever comes first.

    Raises `InvalidLoadTest` for a closed loop, which has no plan, and when there would be too many.
    """
    if shape.kind == "closed":
        raise InvalidLoadTest("A closed loop has no moments that are due.")
    check_shape(shape)
    end_s = _end(shape, seconds, requests)
    most = MAX_REQUESTS if requests is None else min(requests, MAX_REQUESTS)
    if shape.kind == "constant":
        found = [number / shape.rate for number in range(_up_to(end_s * shape.rate, most))]
    elif shape.kind == "burst":
        apart = shape.burst / shape.rate
        found = [number // shape.burst * apart for number in range(_up_to(end_s * shape.rate, most))]
        found = [offset for offset in found if offset < end_s]
    else:
        found = _draw_random(shape, rng, end_s, most)
    if requests is None and len(found) >= MAX_REQUESTS:
        raise InvalidLoadTest(
            f"A stage would be of more than {MAX_REQUESTS:,} calls.",
            hint="Take fewer seconds or a lower rate.",
        )
    return found


def count_arrivals(shape: Shape, *, seconds: float | None, requests: int | None) -> float:
    """Return how many calls a stage of an open loop is expected to have."""
    end_s = _end(shape, seconds, requests)
    by_time = mean_rate(shape) * end_s
    return min(by_time, requests) if requests is not None and seconds is not None else requests or by_time


def mean_rate(shape: Shape) -> float:
    """Return requests a second over the whole stage."""
    if shape.kind == "ramp" and shape.to_rate is not None:
        return (shape.rate + shape.to_rate) / 2
    return shape.rate


def check_shape(shape: Shape) -> None:
    """Raise `InvalidLoadTest` unless calls can be planned by it."""
    rates = [shape.rate, *([] if shape.to_rate is None else [shape.to_rate])]
    if shape.kind == "closed":
        if shape.concurrency < 1:
            raise InvalidLoadTest("A closed loop needs at least one caller.", where="shape.concurrency")
        return
    if any(not math.isfinite(rate) or rate <= 0 for rate in rates):
        raise InvalidLoadTest("A rate is a number of requests a second over 0.", where="shape.rate")
    if shape.kind == "ramp" and shape.to_rate is None:
        raise InvalidLoadTest("A ramp needs the rate it grows to.", where="shape.to_rate")
    if shape.kind == "burst" and shape.burst < 1:
        raise InvalidLoadTest("A burst is of at least one call.", where="shape.burst")


def _end(shape: Shape, seconds: float | None, requests: int | None) -> float:
    if seconds is not None:
        return seconds
    if requests is None:
        raise InvalidLoadTest("A stage needs an end: seconds or requests.", where="seconds")
    return requests / mean_rate(shape) if shape.kind == "ramp" else math.inf


def _up_to(count: float, most: int) -> int:
    return most if math.isinf(count) else min(most, math.ceil(count - 1e-9))


def _draw_random(shape: Shape, rng: Random, end_s: float, most: int) -> list[float]:
    """A Poisson process: unit exponential steps, mapped through the inverse of the expected count up to a moment."""
    found: list[float] = []
    expected = 0.0
    while len(found) < most:
        expected += rng.expovariate(1.0)
        offset = _when(shape, expected, end_s)
        if offset is None or offset >= end_s:
            break
        found.append(offset)
    return found


def _when(shape: Shape, expected: float, end_s: float) -> float | None:
    """The moment up to which `expected` calls are expected, None if that is never within the stage."""
    if shape.kind != "ramp" or shape.to_rate is None or shape.to_rate == shape.rate:
        return expected / shape.rate
    slope = (shape.to_rate - shape.rate) / end_s
    # rate·t + slope·t²/2 = expected
    inside = shape.rate**2 + 2 * slope * expected
    return None if inside < 0 else (math.sqrt(inside) - shape.rate) / slope
