"""Counters count exactly across processes, respect limits, only move forward; on LMDB and on Redis alike."""

import asyncio
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from penstock.base.errors import InvalidInput
from penstock.gateway.limiting.memory import MemoryCounters
from penstock.store.counters import MAX_VALUE, Adjustment, Ask, CounterStore, Taken
from penstock.store.counters_redis import RedisCounters
from penstock.store.errors import CountersUnreadable
from penstock.store.redis_client import RedisAddress, RedisClient
from tests.fixtures.redis import RedisServer, shared_redis

__all__ = ["shared_redis"]

_ADDER = """
import sys
from pathlib import Path
from penstock.store.counters import Ask, CounterStore
store = CounterStore(Path(sys.argv[1]))
asks = [Ask("k", 1, 1, 500, 60, 60), Ask("other", 3, 3, None, 60, 60)]
print(sum(store.reserve(asks)[0].allowed for _ in range(300)))
"""
_ENDLESS = """
import sys
from pathlib import Path
from penstock.store.counters import Ask, CounterStore
store = CounterStore(Path(sys.argv[1]))
print("begun", flush=True)
while True:
    store.reserve([Ask("k", 1, 1, None, 60, 60), Ask("twin", 1, 1, None, 60, 60)])
"""


class Counting(Protocol):
    """What both stores promise, without waiting."""

    def reserve(self, asks: Sequence[Ask]) -> list[Taken]: ...
    def adjust(self, adjustments: Sequence[Adjustment]) -> None: ...
    def get(self, key: str) -> int: ...


class Redis:
    """Counters in Redis, driven from a loop of their own, under a prefix that nobody else has.

    Windows lie far in the future there, because Redis removes what has long ended.
    """

    later_s = 4_000_000_000

    def __init__(self, url: str) -> None:
        self.runner = asyncio.Runner()
        self.client = RedisClient(RedisAddress(url), timeout_s=60.0)
        self.runner.run(self.client.connect())
        self.counters = RedisCounters(self.client, prefix=f"{{penstock}}:{uuid.uuid4()}:")

    def reserve(self, asks: Sequence[Ask]) -> list[Taken]:
        moved = [replace(one, window_end_s=one.window_end_s + self.later_s) for one in asks]
        told = self.runner.run(self.counters.reserve(moved))
        return [replace(one, window_end_s=one.window_end_s - self.later_s) for one in told]

    def adjust(self, adjustments: Sequence[Adjustment]) -> None:
        moved = [replace(one, window_end_s=one.window_end_s + self.later_s) for one in adjustments]
        self.runner.run(self.counters.adjust(moved))

    def get(self, key: str) -> int:
        return self.runner.run(self.counters.get(key))

    def close(self) -> None:
        self.client.close()
        self.runner.run(asyncio.sleep(0))
        self.runner.close()


class Memory(MemoryCounters):
    """Counters of one worker, for when the file cannot be written."""

    def get(self, key: str) -> int:
        return self._stored.get(key, (0, 0))[0]

    def close(self) -> None:
        pass


@pytest.fixture(params=["lmdb", "redis", "memory"])
def make(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Counting]]:
    """Makes empty stores of one kind."""
    made: list[Any] = []

    def make_one() -> Counting:
        if request.param == "lmdb":
            made.append(CounterStore(tmp_path_factory.mktemp("counters")))
        elif request.param == "memory":
            made.append(Memory())
        else:
            server: RedisServer = request.getfixturevalue("shared_redis")
            made.append(Redis(server.url))
        one: Counting = made[-1]
        return one

    yield make_one
    for one in made:
        one.close()


def ask(key: str, amount: int, limit: int | None, end: int = 60, *, least: int | None = None) -> Ask:
    return Ask(key, amount, amount if least is None else least, limit, end, 60)


def test_a_refused_amount_is_not_counted(make: Callable[[], Counting]) -> None:
    counters = make()
    assert counters.reserve([ask("k", 3, 5)])[0].allowed
    assert counters.reserve([ask("k", 3, 5)]) == [Taken(3, 60, 0, False)]
    assert counters.reserve([ask("k", 2, 5)]) == [Taken(5, 60, 2, True)]


def test_of_several_counters_all_are_counted_or_none(make: Callable[[], Counting]) -> None:
    counters = make()
    counters.reserve([ask("full", 5, 5)])
    told = counters.reserve([ask("a", 2, 10), ask("full", 1, 5), ask("b", 2, None)])
    assert told == [Taken(0, 60, 0, True), Taken(5, 60, 0, False), Taken(0, 60, 0, True)]
    assert [counters.get(key) for key in ("a", "full", "b")] == [0, 5, 0]


def test_an_ask_that_may_shrink_takes_what_is_left(make: Callable[[], Counting]) -> None:
    counters = make()
    assert counters.reserve([ask("k", 8, 10, least=1)]) == [Taken(8, 60, 8, True)]
    assert counters.reserve([ask("k", 8, 10, least=1)]) == [Taken(10, 60, 2, True)]
    assert counters.reserve([ask("k", 8, 10, least=1)]) == [Taken(10, 60, 0, False)]


def test_a_new_window_starts_from_zero(make: Callable[[], Counting]) -> None:
    counters = make()
    counters.reserve([ask("k", 5, 5)])
    assert counters.reserve([ask("k", 1, 5, 120)]) == [Taken(1, 120, 1, True)]


def test_a_clock_that_steps_back_neither_empties_nor_reopens_a_window(make: Callable[[], Counting]) -> None:
    counters = make()
    counters.reserve([ask("k", 5, 5, 120)])
    assert counters.reserve([ask("k", 1, 5, 60)]) == [Taken(5, 120, 0, False)]
    counters.adjust([Adjustment("k", -1, 120)])
    assert counters.reserve([ask("k", 1, 5, 60)]) == [Taken(5, 120, 1, True)]


def test_a_clock_once_set_far_ahead_does_not_block_for_ever(make: Callable[[], Counting]) -> None:
    counters = make()
    counters.reserve([ask("k", 5, 5, 60_000)])
    assert counters.reserve([ask("k", 1, 5, 60)]) == [Taken(1, 60, 1, True)]


def test_a_late_adjustment_does_not_touch_the_next_window(make: Callable[[], Counting]) -> None:
    counters = make()
    counters.reserve([ask("k", 5, 5, 60)])
    counters.reserve([ask("k", 3, 5, 120)])
    counters.adjust([Adjustment("k", -5, 60), Adjustment("k2", 4, 60)])
    assert (counters.get("k"), counters.get("k2")) == (3, 4)


def test_great_values_stay_exact(make: Callable[[], Counting]) -> None:
    counters = make()
    counters.reserve([ask("k", MAX_VALUE - 2, MAX_VALUE)])
    assert counters.reserve([ask("k", 2, MAX_VALUE)])[0].value == MAX_VALUE
    assert not counters.reserve([ask("k", 1, MAX_VALUE)])[0].allowed
    assert counters.get("k") == MAX_VALUE


def test_what_did_not_fit_into_a_counter_is_not_given_back_from_it(make: Callable[[], Counting]) -> None:
    counters = make()
    counters.reserve([ask("k", 84, None)])
    (huge,) = counters.reserve([ask("k", 10**17, None)])
    assert (huge.value, huge.taken, huge.allowed) == (MAX_VALUE, MAX_VALUE - 84, True)
    refused = counters.reserve([ask("k", 10**17, None), ask("full", 1, 0)])
    assert refused[0] == Taken(MAX_VALUE, 60, 0, True)
    counters.adjust([Adjustment("k", 28 - huge.taken, 60)])
    assert counters.get("k") == 84 + 28


_KEYS = st.sampled_from(["a", "b", "c"])
_ENDS = st.sampled_from([60, 120, 180, 600])
_ASKS = st.lists(
    st.builds(
        lambda key, amount, shrinks, limit, end: Ask(key, amount, 1 if shrinks else amount, limit, end, 60),
        _KEYS,
        st.integers(1, 10),
        st.booleans(),
        st.none() | st.integers(0, 20),
        _ENDS,
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda one: one.key,
)
_STEPS = st.lists(_ASKS | st.builds(Adjustment, _KEYS, st.integers(-12, 12), _ENDS), max_size=25)


class Model:
    """The semantics, as plainly as they can be said."""

    def __init__(self) -> None:
        self.stored: dict[str, tuple[int, int]] = {}

    def reserve(self, asks: Sequence[Ask]) -> list[Taken]:
        bases, told = [], []
        for one in asks:
            value, end = self.stored.get(one.key, (0, 0))
            if not one.window_end_s <= end <= one.window_end_s + one.window_s:
                value, end = 0, one.window_end_s
            room = one.amount if one.limit is None else min(one.amount, one.limit - value)
            bases.append((value, end))
            told.append((room, room >= one.least))
        fit = all(fits for _, fits in told)
        if fit:
            for one, (value, end), (room, _) in zip(asks, bases, told, strict=True):
                self.stored[one.key] = (value + room, end)
        return [
            Taken(value + room if fit else value, end, room if fit else 0, fits)
            for (value, end), (room, fits) in zip(bases, told, strict=True)
        ]

    def adjust(self, one: Adjustment) -> None:
        value, end = self.stored.get(one.key, (0, 0))
        if end <= one.window_end_s:
            value = value if end == one.window_end_s else 0
            self.stored[one.key] = (max(0, value + one.amount), one.window_end_s)


@pytest.fixture
def one_store(make: Callable[[], Counting]) -> Counting:
    return make()


def _renamed(step: Any, prefix: str) -> Any:
    if isinstance(step, Adjustment):
        return replace(step, key=f"{prefix}:{step.key}")
    return [replace(one, key=f"{prefix}:{one.key}") for one in step]


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=_STEPS)
def test_any_sequence_equals_the_plain_model(one_store: Counting, steps: list[Any]) -> None:
    counters, model = one_store, Model()
    example = (
        uuid.uuid4().hex
    )  # one store for all examples, each with keys of its own: a file for each is slow
    for step in [_renamed(step, example) for step in steps]:
        if isinstance(step, Adjustment):
            counters.adjust([step])
            model.adjust(step)
        else:
            assert counters.reserve(step) == model.reserve(step)
        for key, (value, _) in model.stored.items():
            assert counters.get(key) == value >= 0


# -- what only the file does


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CounterStore]:
    made = CounterStore(tmp_path / "counters")
    yield made
    made.close()


def test_processes_together_never_pass_a_limit_and_lose_no_count(tmp_path: Path, store: CounterStore) -> None:
    adders = [
        subprocess.Popen([sys.executable, "-c", _ADDER, str(tmp_path / "counters")], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    allowed = [int(adder.communicate(timeout=240)[0]) for adder in adders]
    assert sum(allowed) == 500
    assert (store.get("k"), store.get("other")) == (500, 1500)


def test_a_killed_process_leaves_all_counters_of_a_step_or_none(tmp_path: Path, store: CounterStore) -> None:
    seen = 0
    for _ in range(3):
        endless = subprocess.Popen(
            [sys.executable, "-c", _ENDLESS, str(tmp_path / "counters")], stdout=subprocess.PIPE
        )
        assert endless.stdout is not None
        endless.stdout.readline()
        while store.get("k") <= seen:
            pass
        endless.kill()
        endless.communicate()
        assert store.get("k") == store.get("twin") > seen
        assert store.reserve([ask("k", 1, None), ask("twin", 1, None)])[
            0
        ].allowed  # the dead one holds no lock
        seen = store.get("k")


def test_purge_removes_ended_windows_only(store: CounterStore) -> None:
    for number in range(1, 11):
        store.reserve([ask(f"k{number}", 1, None, number)])
    assert store.purge(5) == 5
    assert [counter.window_end_s for counter in store.list_counters()] == [10, 6, 7, 8, 9]
    assert store.purge(5) == 0


def test_counters_are_listed_by_prefix(store: CounterStore) -> None:
    store.reserve([ask("away:b", 2, None), ask("away:a", 1, None), ask("home", 3, None)])
    assert [(one.key, one.value) for one in store.list_counters("away:")] == [("away:a", 1), ("away:b", 2)]
    assert [one.key for one in store.list_counters()] == ["away:a", "away:b", "home"]
    assert store.list_counters("nobody") == []


def test_counters_survive_being_reopened(tmp_path: Path) -> None:
    first = CounterStore(tmp_path / "c")
    first.reserve([ask("k", 7, None)])
    first.close()
    second = CounterStore(tmp_path / "c")
    assert second.get("k") == 7
    second.close()


@pytest.mark.parametrize("key", ["", "x" * 481, "é" * 300])
def test_a_key_that_cannot_be_stored_is_refused(store: CounterStore, key: str) -> None:
    with pytest.raises(InvalidInput):
        store.reserve([ask(key, 1, None)])


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "data.mdb").write_bytes(b"garbage" * 5000)
    with pytest.raises(CountersUnreadable) as caught:
        CounterStore(tmp_path / "c")
    assert caught.value.hint


def test_a_full_file_refuses_whole_steps(tmp_path: Path) -> None:
    store = CounterStore(tmp_path / "c", map_bytes=64 * 1024)

    def fill() -> None:
        for number in range(5000):
            store.reserve([ask(f"{number}" + "x" * 100, 1, None), ask(f"{number}" + "y" * 100, 1, None)])

    with pytest.raises(CountersUnreadable):
        fill()
    listed = [counter.key for counter in store.list_counters()]
    assert len({key.rstrip("xy") for key in listed}) * 2 == len(listed)
    store.close()
