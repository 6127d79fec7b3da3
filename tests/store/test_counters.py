"""Counters count exactly across processes, respect limits, and forget ended windows."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.errors import InvalidInput
from penstock.store.counters import CounterStore
from penstock.store.errors import CountersUnreadable

_ADDER = """
import sys
from pathlib import Path
from penstock.store.counters import CounterStore
store = CounterStore(Path(sys.argv[1]))
print(sum(store.add("k", 1, window_end_s=60, limit=500).allowed for _ in range(300)))
"""


@pytest.fixture
def counters(tmp_path: Path) -> Iterator[CounterStore]:
    store = CounterStore(tmp_path / "counters")
    yield store
    store.close()


def test_processes_together_never_pass_a_limit_and_lose_no_count(
    tmp_path: Path, counters: CounterStore
) -> None:
    adders = [
        subprocess.Popen([sys.executable, "-c", _ADDER, str(tmp_path / "counters")], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    allowed = [int(adder.communicate(timeout=50)[0]) for adder in adders]
    assert sum(allowed) == 500
    assert counters.get("k") == 500


def test_a_refused_amount_is_not_counted(counters: CounterStore) -> None:
    assert counters.add("k", 3, window_end_s=60, limit=5).allowed
    refused = counters.add("k", 3, window_end_s=60, limit=5)
    assert (refused.allowed, refused.value) == (False, 3)
    assert counters.add("k", 2, window_end_s=60, limit=5).value == 5


def test_a_new_window_starts_from_zero(counters: CounterStore) -> None:
    counters.add("k", 5, window_end_s=60, limit=5)
    assert counters.add("k", 1, window_end_s=120, limit=5).value == 1
    assert counters.get("k", window_end_s=60) == 0
    assert counters.get("k", window_end_s=120) == 1


def test_purge_removes_ended_windows_only(counters: CounterStore) -> None:
    for number in range(10):
        counters.add(f"k{number}", 1, window_end_s=number, limit=None)
    assert counters.purge(4) == 5
    assert [counters.get(f"k{number}") for number in range(10)] == [0] * 5 + [1] * 5
    assert counters.purge(4) == 0


def test_counters_survive_being_reopened(tmp_path: Path) -> None:
    first = CounterStore(tmp_path / "c")
    first.add("k", 7, window_end_s=60, limit=None)
    first.close()
    second = CounterStore(tmp_path / "c")
    assert second.get("k") == 7
    second.close()


@pytest.mark.parametrize("key", ["", "x" * 481, "é" * 300])
def test_a_key_that_cannot_be_stored_is_refused(counters: CounterStore, key: str) -> None:
    with pytest.raises(InvalidInput):
        counters.add(key, 1, window_end_s=60, limit=None)


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "data.mdb").write_bytes(b"garbage" * 5000)
    with pytest.raises(CountersUnreadable) as caught:
        CounterStore(tmp_path / "c")
    assert caught.value.hint


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.integers(-5, 10), st.integers(1, 3), st.none() | st.integers(0, 20)), max_size=30
    )
)
def test_any_sequence_equals_the_plain_model(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, int | None]]
) -> None:
    store = CounterStore(tmp_path_factory.mktemp("counters"))
    stored = (0, 0)
    for amount, window_end, limit in steps:
        value = stored[0] if stored[1] == window_end else 0
        wanted = max(0, value + amount)
        is_refused = limit is not None and amount > 0 and wanted > limit
        result = store.add("k", amount, window_end_s=window_end, limit=limit)
        assert (result.allowed, result.value) == (not is_refused, value if is_refused else wanted)
        stored = stored if is_refused else (wanted, window_end)
        assert store.get("k", window_end_s=stored[1]) == stored[0]
    store.close()
