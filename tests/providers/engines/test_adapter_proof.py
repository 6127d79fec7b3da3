"""The self-test of adapters tells what is no number as such, wherever it turns up: `max` would lose it."""

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from penstock.providers.engines.proof import compare_adapters, difference, find_largest

HOSTED: Any = SimpleNamespace(
    served=SimpleNamespace(adapters=(SimpleNamespace(digest="sha256:a"), SimpleNamespace(digest="sha256:b")))
)


class Engine:
    """Says the same each time, but for one call that says what is no number."""

    def __init__(self, bad_call: int | None) -> None:
        self._bad_call = bad_call
        self.n_calls = 0

    def next_logprobs(
        self, ids: Sequence[int], n_top: int, *, printable_id: int, adapter: int | None, use_cache: bool
    ) -> Mapping[int, float]:
        self.n_calls += 1
        shift = 0.0 if adapter is None else 0.25 * (adapter + 1)
        likeliest = math.nan if self.n_calls - 1 == self._bad_call else -0.5 - shift
        return {7: likeliest, 8: -2.0, 9: -3.0, 10: -4.0}


def compare(engine: Engine) -> dict[str, Any]:
    made = compare_adapters(engine, HOSTED, [[1, 2], [3]], 7)  # type: ignore[arg-type]
    assert made is not None
    return made


def test_answers_that_agree_are_told_as_agreeing() -> None:
    told = compare(Engine(None))
    assert told == {"max_difference": 0.0, "n_compared": 24, "effect": {"sha256:a": 0.25, "sha256:b": 0.5}}


N_CALLS = 6 + 24


@pytest.mark.parametrize("bad_call", range(N_CALLS))
def test_one_answer_that_is_no_number_is_told_whichever_it_is(bad_call: int) -> None:
    engine = Engine(bad_call)
    told = msgspec.json.decode(msgspec.json.encode(compare(engine)))
    assert engine.n_calls == N_CALLS
    assert told["max_difference"] is None


def test_a_difference_from_what_is_no_number_is_none() -> None:
    assert math.isnan(difference({1: -0.1, 2: math.nan}, {1: -0.1, 2: -3.0}))
    assert math.isnan(difference({1: -0.1, 2: -3.0}, {1: -0.1, 2: math.inf}))
    assert math.isnan(find_largest([0.5, math.nan, 0.1]))
    assert find_largest([]) == 0.0
