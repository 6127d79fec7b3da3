"""User functions that hang or leave: an outcome of their case, which takes nothing from the others."""

import sys
import threading
from pathlib import Path

import pytest

from penstock.evals.running.own_thread import call_in_thread
from penstock.main.local_runs import run_local
from penstock.spec.cases import Case
from penstock.spec.evaluations import EvaluationSpec, TargetSpec


def test_functions_that_hang_cost_the_others_nothing_and_do_not_hold_up_the_end(tmp_path: Path) -> None:
    release = threading.Event()
    n_hanging = threading.Semaphore(0)
    cases = [
        Case(id=str(number), inputs={"input": ("hang" if number < 12 else "good") + str(number)})
        for number in range(40)
    ]

    def answer(text: str) -> str:
        if text.startswith("hang"):
            n_hanging.release()
            release.wait(120)
        return text

    spec = EvaluationSpec(
        name="hangs",
        target=TargetSpec(python="a:f"),
        scorers=[],
        case_timeout_s=2.0,
        preflight=False,
        concurrency=12,
    )
    try:
        result = run_local(
            spec, home=None, tell=lambda *_: None, function=answer, cases=cases, folder=tmp_path
        )
        assert not release.is_set()
    finally:
        release.set()
    assert (result.record["state"], result.record["n_ok"], result.record["n_errors"]) == ("done", 28, 12)
    assert all(n_hanging.acquire(blocking=False) for _ in range(12))


@pytest.mark.parametrize(
    ("function", "error", "told"),
    [
        (lambda _: sys.exit(3), RuntimeError, "SystemExit: 3"),
        (lambda _: next(iter(())), RuntimeError, "StopIteration"),
        (lambda _: 1 / 0, ZeroDivisionError, "division by zero"),
    ],
)
async def test_whatever_a_function_raises_is_told(
    function: object, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        await call_in_thread(function, None)  # type: ignore[arg-type]


async def test_what_a_function_returns_comes_back() -> None:
    assert await call_in_thread(lambda number: (number, threading.current_thread().daemon), 3) == (3, True)
