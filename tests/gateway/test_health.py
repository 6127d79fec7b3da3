"""What workers know together about targets: load, latency, breakers, through a file that outlives any one of them."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.gateway.health import BEAT_WITHIN_S, N_CHOSEN_MODELS, N_SLOTS, HealthBoard, Lease
from penstock.gateway.shared_memory import N_SECTIONS, SharedMemory
from penstock.spec.routes import BreakerPolicy, FaultKind

POLICY = BreakerPolicy(failure_ratio=0.5, min_calls=4, window_s=30.0, open_s=10.0)


class Hands:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Hands:
    return Hands()


class Makes:
    """Makes boards that end with the test."""

    def __init__(self, clock: Hands, folder: Path) -> None:
        self._clock = clock
        self._folder = folder
        self._made: list[HealthBoard] = []

    def __call__(self, folder: Path | None = None) -> HealthBoard:
        board = HealthBoard(folder or self._folder, monotonic=self._clock)
        self._made.append(board)
        return board

    def close(self) -> None:
        while self._made:
            self._made.pop().close()


@pytest.fixture
def board_of(clock: Hands, tmp_path: Path) -> Iterator[Makes]:
    made = Makes(clock, tmp_path / "health")
    yield made
    made.close()


def enter(board: HealthBoard, policy: BreakerPolicy | None = POLICY) -> Lease | None:
    return board.target("openai m", policy).enter(policy)


def fail(board: HealthBoard) -> None:
    lease = enter(board)
    assert lease is not None
    lease.fail("timeout", took_s=1.0)
    lease.end()


def test_workers_see_each_others_load_and_latency(board_of: Makes, clock: Hands) -> None:
    one, two = board_of(), board_of()
    lease = enter(one)
    assert lease is not None
    lease.succeed(0.8)
    seen = two.target("openai m", POLICY)
    assert seen.in_flight == 1
    assert seen.latency_s == pytest.approx(0.8)
    assert one.n_workers() == two.n_workers() == 2
    lease.end()
    lease.end()
    assert seen.in_flight == 0


def test_failures_of_several_workers_open_the_breaker_for_all(board_of: Makes, clock: Hands) -> None:
    boards = [board_of() for _ in range(4)]
    for board in boards:
        fail(board)
    assert [enter(board) for board in boards] == [None] * 4
    assert boards[2].target("openai m", POLICY).state == "open"
    assert boards[0].target("openai m", POLICY).last_fault == "timeout"
    assert boards[0].target("openai m", POLICY).free_in_s() == pytest.approx(10.0)


def test_one_worker_probes_and_its_success_closes_the_breaker_for_all(board_of: Makes, clock: Hands) -> None:
    boards = [board_of() for _ in range(4)]
    for board in boards:
        fail(board)
    clock.now += 10.0
    probes = [enter(board) for board in boards]
    assert [probe is not None for probe in probes] == [True, False, False, False]
    assert probes[0] is not None
    probes[0].succeed(0.1)
    assert all(enter(board) is not None for board in boards)
    fail(boards[1])
    assert enter(boards[2]) is not None, "what was before the success does not count any more"


def test_a_probe_that_fails_opens_again_and_one_that_says_nothing_gives_way(clock: Hands) -> None:
    board = HealthBoard(monotonic=clock)
    for _ in range(4):
        fail(board)
    clock.now += 10.0
    probe = enter(board)
    assert probe is not None
    probe.end()
    probe = enter(board)
    assert probe is not None
    probe.fail("connect")
    probe.end()
    assert enter(board) is None
    clock.now += 9.9
    assert enter(board) is None
    clock.now += 0.1
    assert enter(board) is not None


def test_a_failure_that_ends_while_the_breaker_is_open_changes_nothing(clock: Hands) -> None:
    board = HealthBoard(monotonic=clock)
    late = [enter(board) for _ in range(3)]
    for _ in range(4):
        fail(board)
    clock.now += 9.0
    for lease in late:
        assert lease is not None
        lease.fail("timeout")
        lease.end()
    clock.now += 1.0
    assert enter(board) is not None


def test_routes_with_another_policy_judge_for_themselves(clock: Hands) -> None:
    board = HealthBoard(monotonic=clock)
    for _ in range(4):
        fail(board)
    assert enter(board) is None
    assert enter(board, BreakerPolicy(min_calls=100)) is not None
    assert enter(board, None) is not None


def test_the_load_of_a_dead_worker_is_forgotten(board_of: Makes, clock: Hands) -> None:
    dead, alive = board_of(), board_of()
    enter(dead)
    clock.now += BEAT_WITHIN_S + 1
    alive.beat()
    assert alive.target("openai m", POLICY).in_flight == 0
    assert alive.n_workers() == 1


def _work_until_killed(folder: Path, started: Any) -> None:
    board = HealthBoard(folder)
    enter(board)
    for _ in range(4):
        fail(board)
    started.set()
    signal.pause()


def test_what_a_killed_worker_learnt_stays_and_its_section_is_taken_anew(
    board_of: Makes, clock: Hands, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    clock.now = time.monotonic()
    own = board_of()
    child = context.Process(target=_work_until_killed, args=(tmp_path / "health", started))
    child.start()
    try:
        assert started.wait(120)
        assert own.target("openai m", POLICY).in_flight == 1
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
    finally:
        child.join(120)
        child.close()
    assert enter(own) is None, "the breaker it opened is open"
    successor = board_of()
    assert successor.memory.section == 1
    assert successor.target("openai m", POLICY).in_flight == 0


def test_the_first_worker_of_an_instance_begins_anew(board_of: Makes) -> None:
    before = board_of()
    for _ in range(4):
        fail(before)
    board_of.close()
    assert enter(board_of()) is not None


def test_more_targets_than_slots_are_known_to_each_worker_alone(board_of: Makes, clock: Hands) -> None:
    one, two = board_of(), board_of()
    for number in range(N_SLOTS + 3):
        one.target(f"m{number}", POLICY).enter(POLICY)
    assert two.target(f"m{N_SLOTS - 1}", POLICY).in_flight == 1
    assert two.target(f"m{N_SLOTS + 1}", POLICY).in_flight == 0
    assert one.target(f"m{N_SLOTS + 1}", POLICY).in_flight == 1


def test_without_a_usable_folder_a_worker_goes_on_alone(board_of: Makes, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    board = board_of(tmp_path / "taken")
    assert not board.memory.is_shared
    for _ in range(4):
        fail(board)
    assert enter(board) is None


def test_a_worker_more_than_there_are_sections_goes_on_alone(tmp_path: Path) -> None:
    memories = [SharedMemory(tmp_path, n_common=1, n_own=1) for _ in range(N_SECTIONS + 1)]
    assert [memory.is_shared for memory in memories] == [True] * N_SECTIONS + [False]
    for memory in memories:
        memory.close()


def test_a_target_that_fails_quickly_does_not_look_quick(clock: Hands) -> None:
    board = HealthBoard(monotonic=clock)
    good, bad = board.target("good", None), board.target("bad", None)
    for target, is_good in ((good, True), (bad, False)):
        lease = target.enter(None)
        assert lease is not None
        lease.succeed(0.3) if is_good else lease.fail("server-error", took_s=0.001)
        lease.end()
    assert bad.latency_s > good.latency_s


def test_peaks_are_believed_at_once_and_good_news_slowly(clock: Hands) -> None:
    target = HealthBoard(monotonic=clock).target("m", None)
    for seconds, least, most in ((0.1, 0.1, 0.1), (2.0, 2.0, 2.0), (0.1, 1.5, 2.0)):
        clock.now += 1.0
        lease = target.enter(None)
        assert lease is not None
        lease.succeed(seconds)
        lease.end()
        assert least <= target.latency_s <= most
    clock.now += 600.0
    assert target.latency_s < 0.01, "who has not been asked for long is worth a try"


def test_a_rest_is_shared_and_bounded(board_of: Makes, clock: Hands) -> None:
    one, two = board_of(), board_of()
    one.target("m", None).rest(float("inf"))
    assert two.target("m", None).is_resting
    clock.now += 60.0
    assert not two.target("m", None).is_resting


# -- models that callers choose


def fail_chosen(board: HealthBoard, model: str, fault: FaultKind) -> None:
    for _ in range(4):
        lease = board.chosen("far *", model, POLICY).enter(POLICY)
        assert lease is not None
        lease.fail(fault, took_s=0.1)
        lease.end()


def may_enter(board: HealthBoard, model: str) -> bool:
    lease = board.chosen("far *", model, POLICY).enter(POLICY)
    if lease is not None:
        lease.end()
    return lease is not None


@pytest.mark.parametrize("fault", ["server-error", "timeout"])
def test_a_model_that_fails_is_left_alone_and_the_others_of_its_provider_are_not(
    clock: Hands, fault: FaultKind
) -> None:
    board = HealthBoard(monotonic=clock)
    fail_chosen(board, "bad", fault)
    board.chosen("far *", "bad", POLICY).rest(30.0)
    assert not may_enter(board, "bad")
    assert board.chosen("far *", "bad", POLICY).last_fault == fault
    assert may_enter(board, "good")
    assert not board.chosen("far *", "good", POLICY).is_resting
    assert board.target("far *", POLICY).state == "closed"


def test_a_place_that_cannot_be_connected_to_is_left_alone_whatever_the_model(clock: Hands) -> None:
    board = HealthBoard(monotonic=clock)
    fail_chosen(board, "one", "connect")
    assert not may_enter(board, "two")
    two = board.chosen("far *", "two", POLICY)
    assert (two.last_fault, two.free_in_s()) == ("connect", pytest.approx(10.0))
    assert two.in_flight == 0
    clock.now += 10.0
    lease = two.enter(POLICY)
    assert lease is not None
    assert not may_enter(board, "three"), "one probe for the place, not one for each model"
    lease.fail("server-error")
    lease.end()
    assert may_enter(board, "three"), "a place that answers badly is there"


def test_replies_under_way_count_for_the_place(clock: Hands) -> None:
    board = HealthBoard(monotonic=clock)
    leases = [board.chosen("far *", model, POLICY).enter(POLICY) for model in ("a", "b")]
    assert board.target("far *", POLICY).in_flight == 2
    for lease in leases:
        assert lease is not None
        lease.end()
        lease.end()
    assert board.target("far *", POLICY).in_flight == 0


def test_names_that_callers_make_up_take_no_memory_without_end(clock: Hands) -> None:
    board = HealthBoard(monotonic=clock)
    fail_chosen(board, "bad", "server-error")
    for number in range(N_CHOSEN_MODELS - 1):
        board.chosen("far *", f"m{number}", POLICY)
    assert not may_enter(board, "bad")
    for number in range(3 * N_CHOSEN_MODELS):
        board.chosen("far *", f"n{number}", POLICY)
    assert may_enter(board, "bad"), "forgotten"
    assert len(board._chosen) == N_CHOSEN_MODELS
    assert len(board._targets) == 1
