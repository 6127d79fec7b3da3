"""The order in which the targets of a tier are asked, by the balance of their route.

Knows targets only as things with a weight; load, latency and price come in as functions.
"""

import random
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Protocol, TypeVar

from penstock.spec.routes import Balance


class Weighted(Protocol):
    """What is put in order."""

    @property
    def weight(self) -> float:
        """Its share, relative to the others."""
        ...


T = TypeVar("T", bound=Weighted)


def order_targets(
    balance: Balance,
    targets: Sequence[T],
    rng: random.Random,
    *,
    in_flight: Callable[[T], float],
    latency_s: Callable[[T], float],
    price: Callable[[T], Decimal | None],
) -> list[T]:
    """Return `targets` in the order to ask them.

    `latency_s` is 0 for a target that is not known yet, which is therefore tried. `price` is None where it is not
    known; such targets come last.
    """
    if len(targets) == 1:
        return list(targets)
    if balance == "random":
        shuffled = list(targets)
        rng.shuffle(shuffled)
        return shuffled
    order = shuffle_weighted(targets, rng)
    if balance == "least-busy":
        # sorting keeps the weighted order among equals, so an idle route is balanced by weight
        order.sort(key=lambda target: _relative(in_flight(target), target.weight))
    elif balance == "latency":
        order = _two_choices(order, lambda target: latency_s(target) * (in_flight(target) + 1.0))
    elif balance == "cost":
        prices = {id(target): price(target) for target in order}
        order.sort(key=lambda target: _price_key(prices[id(target)]))
    return order


def shuffle_weighted(targets: Sequence[T], rng: random.Random) -> list[T]:
    """Return a weighted shuffle: the first is drawn by weight, the next from the rest by weight, and so on."""
    left = list(targets)
    order: list[T] = []
    while len(left) > 1:
        point = rng.random() * sum(target.weight for target in left)
        chosen = len(left) - 1
        for index, target in enumerate(left):
            point -= target.weight
            if point < 0:
                chosen = index
                break
        order.append(left.pop(chosen))
    return order + left


def _two_choices(order: list[T], load: Callable[[T], float]) -> list[T]:
    """Put the better of the first two in front; the rest by load.

    The best of all would be asked by everybody at once until the news of its load has come back; the better of two
    random ones is not (Mitzenmacher, "The power of two choices in randomized load balancing", 2001).
    """
    first, second = order[0], order[1]
    better, other = (first, second) if load(first) <= load(second) else (second, first)
    return [better, *sorted([other, *order[2:]], key=load)]


def _relative(in_flight: float, weight: float) -> float:
    return (in_flight + 1.0) / weight if weight > 0 else float("inf")


def _price_key(price: Decimal | None) -> tuple[bool, Decimal]:
    return price is None, price or Decimal(0)
