"""Balancing: weights are respected, the idle, quick and cheap are preferred, people stay with their target."""

import random
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from penstock.gateway.routing.order import order_targets
from penstock.gateway.routing.sticky import rank
from penstock.spec.routes import Balance


@dataclass(frozen=True)
class Place:
    health_id: str
    weight: float = 1.0
    busy: float = 0.0
    slow_s: float = 0.0
    price: Decimal | None = None


def order(balance: Balance, places: list[Place], rng: random.Random) -> list[Place]:
    return order_targets(
        balance,
        places,
        rng,
        in_flight=lambda place: place.busy,
        latency_s=lambda place: place.slow_s,
        price=lambda place: place.price,
    )


def chi_square(seen: Counter[str], expected: dict[str, float]) -> float:
    return sum((seen[name] - count) ** 2 / count for name, count in expected.items())


def test_first_choices_follow_the_weights() -> None:
    places = [Place("a", 1), Place("b", 2), Place("c", 5)]
    rng = random.Random(7)
    seen = Counter(order("weighted", places, rng)[0].health_id for _ in range(8000))
    assert chi_square(seen, {"a": 1000, "b": 2000, "c": 5000}) < 13.8  # 2 degrees of freedom, p = 0.001


def test_second_choices_follow_the_weights_of_the_rest() -> None:
    places = [Place("a", 1), Place("b", 3), Place("c", 4)]
    rng = random.Random(8)
    orders = [order("weighted", places, rng) for _ in range(8000)]
    seen = Counter(some[1].health_id for some in orders if some[0].health_id == "c")
    total = sum(seen.values())
    assert chi_square(seen, {"a": total / 4, "b": total * 3 / 4}) < 10.8


def test_random_leaves_weights_alone() -> None:
    rng = random.Random(9)
    seen = Counter(order("random", [Place("a", 1), Place("b", 99)], rng)[0].health_id for _ in range(4000))
    assert chi_square(seen, {"a": 2000, "b": 2000}) < 10.8


@given(
    balance=st.sampled_from(["weighted", "random", "least-busy", "latency", "cost"]),
    weights=st.lists(st.floats(0, 5), min_size=1, max_size=6),
    seed=st.integers(),
)
def test_every_target_is_in_the_order_once(balance: Balance, weights: list[float], seed: int) -> None:
    places = [Place(str(number), weight) for number, weight in enumerate(weights)]
    assert sorted(place.health_id for place in order(balance, places, random.Random(seed))) == sorted(
        place.health_id for place in places
    )


def test_the_least_busy_for_its_weight_is_first() -> None:
    places = [Place("a", 1, busy=3), Place("b", 4, busy=9), Place("c", 1, busy=4)]
    assert [place.health_id for place in order("least-busy", places, random.Random(0))] == ["b", "a", "c"]


def test_an_idle_route_is_balanced_by_weight_also_when_the_least_busy_is_asked_for() -> None:
    rng = random.Random(3)
    places = [Place("a", 1), Place("b", 1)]
    seen = Counter(order("least-busy", places, rng)[0].health_id for _ in range(2000))
    assert chi_square(seen, {"a": 1000, "b": 1000}) < 10.8


def test_the_slowest_target_is_never_first_by_latency() -> None:
    rng = random.Random(4)
    places = [Place("slow", slow_s=3.0), Place("quick", slow_s=0.1), Place("middle", slow_s=0.5)]
    seen = Counter(order("latency", places, rng)[0].health_id for _ in range(600))
    assert seen["slow"] == 0
    assert seen["middle"] > 100, "two random choices: not everybody runs to the best"
    assert seen["quick"] > seen["middle"]


def test_load_counts_in_latency() -> None:
    places = [Place("quick", slow_s=0.1, busy=50), Place("free", slow_s=0.5)]
    assert order("latency", places, random.Random(0))[0].health_id == "free"


def test_the_cheapest_is_first_and_the_unknown_last() -> None:
    places = [Place("x"), Place("dear", price=Decimal(3)), Place("cheap", price=Decimal("0.1")), Place("free", price=Decimal(0))]  # fmt: skip
    for seed in range(20):
        assert [place.health_id for place in order("cost", places, random.Random(seed))] == [
            "free",
            "cheap",
            "dear",
            "x",
        ]


USERS = [f"user-{number}" for number in range(4000)]


def test_losing_a_target_moves_only_its_own_people() -> None:
    places = [Place(name) for name in "abcd"]
    for user in USERS:
        before = rank(user, places)
        after = rank(user, [place for place in places if place.health_id != "c"])
        assert after == [place for place in before if place.health_id != "c"]


def test_people_are_spread_by_weight() -> None:
    places = [Place("a", 1), Place("b", 2), Place("c", 5)]
    seen = Counter(rank(user, places)[0].health_id for user in USERS)
    assert chi_square(seen, {"a": 500, "b": 1000, "c": 2500}) < 13.8


def test_a_changed_weight_moves_people_only_to_or_from_that_target() -> None:
    before, after = [Place("a"), Place("b"), Place("c")], [Place("a"), Place("b"), Place("c", 2)]
    moved = [
        (rank(user, before)[0].health_id, rank(user, after)[0].health_id)
        for user in USERS
        if rank(user, before)[0].health_id != rank(user, after)[0].health_id
    ]
    assert moved
    assert {to for _, to in moved} == {"c"}


def test_nobody_is_assigned_to_a_target_without_weight() -> None:
    assert all(rank(user, [Place("a", 0), Place("b", 0.01)])[0].health_id == "b" for user in USERS[:500])
