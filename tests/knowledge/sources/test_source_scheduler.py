"""Schedules: due sources run once, a base at a time, over restarts; failures come again later and later."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Engine

from penstock.knowledge.sources.ports import RunState
from penstock.knowledge.sources.scheduler import WATCH_EVERY_S, SourceScheduler
from penstock.knowledge.sources.service import SourceService
from penstock.knowledge.types import InlineContext
from tests.knowledge.sources.conftest import TickingClock

Write = Callable[..., Path]


class Runs:
    """Ingests that a test ends by hand."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, tuple[str, ...]]] = []
        self.states: dict[str, RunState] = {}
        self.is_busy = False

    def begin(self, base: str, sources: Sequence[str]) -> str | None:
        if self.is_busy:
            return None
        self.begun.append((base, tuple(sources)))
        job = f"job_{len(self.begun)}"
        self.states[job] = RunState(state="active")
        return job

    def find(self, job: str) -> RunState | None:
        return self.states.get(job)

    def end(self, error: str | None = None) -> None:
        state = RunState(state="failed", error=error) if error else RunState(state="done")
        self.states[f"job_{len(self.begun)}"] = state


@pytest.fixture
def runs() -> Runs:
    return Runs()


@pytest.fixture
def restart(sqlite_engine: Engine, runs: Runs, clock: TickingClock) -> Callable[[], SourceScheduler]:
    return lambda: SourceScheduler(sqlite_engine, runs, clock=clock, now=lambda: clock.now_ns / 1e9)


Restart = Callable[[], SourceScheduler]


def add(sources: SourceService, tmp_path: Path, name: str = "docs", **more: object) -> None:
    (tmp_path / "docs").mkdir(exist_ok=True)
    settings = {
        "location": str(tmp_path / "docs"),
        **{key: more.pop(key) for key in ("watch",) if key in more},
    }
    sources.add("guide", name, "folder", settings, **more)


def test_a_source_runs_when_it_is_due_and_again_an_hour_later(
    sources: SourceService, runs: Runs, restart: Restart, clock: TickingClock, tmp_path: Path
) -> None:
    add(sources, tmp_path, schedule="1h")
    scheduler = restart()
    scheduler.tick()
    assert runs.begun == []
    clock.pass_s(3601)
    scheduler.tick()
    scheduler.tick()
    assert runs.begun == [("guide", ("docs",))]
    runs.end()
    scheduler.tick()
    assert len(runs.begun) == 1
    clock.pass_s(3601)
    scheduler.tick()
    assert len(runs.begun) == 2


def test_what_was_missed_is_caught_up_once_after_a_restart(
    sources: SourceService, runs: Runs, restart: Restart, clock: TickingClock, tmp_path: Path
) -> None:
    add(sources, tmp_path, schedule="1h")
    clock.pass_s(50 * 3600)
    restart().tick()
    runs.end()
    second = restart()
    second.tick()
    second.tick()
    assert len(runs.begun) == 1


def test_a_run_under_way_is_still_known_after_a_restart(
    sources: SourceService, runs: Runs, restart: Restart, clock: TickingClock, tmp_path: Path
) -> None:
    add(sources, tmp_path, schedule="10s")
    clock.pass_s(11)
    restart().tick()
    clock.pass_s(100)
    restart().tick()
    assert len(runs.begun) == 1
    assert sources.get("guide", "docs").job == "job_1"
    runs.end()
    restart().tick()
    assert len(runs.begun) == 2


def test_sources_of_one_base_that_are_due_together_are_one_run_and_wait_for_another(
    sources: SourceService, runs: Runs, restart: Restart, clock: TickingClock, tmp_path: Path
) -> None:
    add(sources, tmp_path, "b", schedule="1h")
    add(sources, tmp_path, "a", schedule="1h")
    add(sources, tmp_path, "c")
    clock.pass_s(3700)
    runs.is_busy = True
    scheduler = restart()
    scheduler.tick()
    assert runs.begun == []
    runs.is_busy = False
    scheduler.tick()
    assert runs.begun == [("guide", ("a", "b"))]


def test_failures_are_shown_and_come_again_later_and_later(
    sources: SourceService, runs: Runs, restart: Restart, clock: TickingClock, tmp_path: Path
) -> None:
    add(sources, tmp_path, schedule="10s")
    scheduler = restart()
    waits = []
    for _ in range(4):
        due = sources.get("guide", "docs").due_ns
        assert due is not None
        waits.append(round((due - clock.now_ns) / 1e9))
        clock.now_ns = due
        scheduler.tick()
        runs.end("The engine is down.")
        scheduler.tick()
    assert waits == [10, 60, 120, 240]
    row = sources.get("guide", "docs")
    assert (row.state, row.error, row.failures) == ("failed", "The engine is down.", 4)
    clock.pass_s(3600)
    scheduler.tick()
    runs.end()
    sources.scan_all("guide", InlineContext())
    scheduler.tick()
    row = sources.get("guide", "docs")
    assert (row.state, row.error, row.failures) == ("ok", None, 0)


def test_a_source_that_failed_beside_others_that_did_not_counts_as_failed(
    sources: SourceService, runs: Runs, restart: Restart, clock: TickingClock, tmp_path: Path
) -> None:
    add(sources, tmp_path, "good", schedule="1h")
    sources.add("guide", "bad", "folder", {"location": str(tmp_path / "nowhere")}, schedule="1h")
    clock.pass_s(3700)
    scheduler = restart()
    scheduler.tick()
    sources.scan_all("guide", InlineContext())
    runs.end()
    scheduler.tick()
    assert [(row.name, row.failures, row.state) for row in sources.list_sources("guide")] == [
        ("good", 0, "ok"),
        ("bad", 1, "failed"),
    ]


def test_paused_and_detached_sources_do_not_run(
    sources: SourceService, runs: Runs, restart: Restart, clock: TickingClock, tmp_path: Path
) -> None:
    add(sources, tmp_path, "paused", schedule="1h")
    add(sources, tmp_path, "kept", schedule="1h")
    sources.pause("guide", "paused")
    sources.remove("guide", "kept", keep_documents=True)
    clock.pass_s(7200)
    scheduler = restart()
    scheduler.tick()
    assert runs.begun == []
    sources.resume("guide", "paused")
    clock.pass_s(3700)
    scheduler.tick()
    assert runs.begun == [("guide", ("paused",))]


def test_a_watched_folder_runs_once_it_has_been_quiet(
    sources: SourceService, runs: Runs, restart: Restart, clock: TickingClock, tmp_path: Path, write: Write
) -> None:
    write("a.md", "One.")
    add(sources, tmp_path, watch=True)
    scheduler = restart()

    def look() -> int:
        clock.pass_s(WATCH_EVERY_S + 1)
        scheduler.tick()
        return len(runs.begun)

    assert [look(), look()] == [0, 1]  # once after a start: what happened before it is not known
    runs.end()
    assert [look(), look()] == [1, 1]
    write("b.md", "Two.")
    assert look() == 1
    write("b.md", "Two and more.")
    assert look() == 1
    assert [look(), look()] == [2, 2]
    runs.end()
    (tmp_path / "docs" / "a.md").unlink()
    assert [look(), look()] == [2, 3]


def test_a_broken_round_does_not_end_the_loop(
    sqlite_engine: Engine, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = SourceScheduler(sqlite_engine, runs)
    rounds = iter([RuntimeError("broken"), None])
    seen: list[object] = []

    def tick() -> None:
        seen.append(error := next(rounds))
        if error is not None:
            raise error

    class Stop:
        def wait(self, _seconds: float) -> bool:
            return len(seen) == 2

    monkeypatch.setattr(scheduler, "tick", tick)
    scheduler.run(Stop())  # type: ignore[arg-type]
    assert len(seen) == 2
