"""Reading the workers' health from outside: the same numbers, and never a mapping that could go away."""

from pathlib import Path

from penstock.gateway.health import HealthBoard, name_target
from penstock.gateway.health_reader import FRESH_S, HealthReader
from penstock.spec.routes import BreakerPolicy, Provider

POLICY = BreakerPolicy(min_calls=2, open_s=10.0)
HEALTH_ID = name_target(Provider(name="cloud", base_url="https://api.example.com/v1"), "big")


def test_a_reader_sees_what_workers_wrote_and_takes_no_section(tmp_path: Path) -> None:
    now = [100.0]
    board = HealthBoard(tmp_path, monotonic=lambda: now[0])
    reader = HealthReader(tmp_path, monotonic=lambda: now[0])
    assert reader.target(HEALTH_ID, POLICY) is None
    target = board.target(HEALTH_ID, POLICY)
    for _ in range(2):
        lease = target.enter(POLICY)
        assert lease is not None
        lease.fail("timeout", took_s=2.0)
        lease.end()
    target.enter(None)  # still under way
    now[0] += FRESH_S * 2
    board.beat()
    seen = reader.target(HEALTH_ID, POLICY)
    assert seen is not None
    assert (seen.state, seen.in_flight, seen.last_fault) == ("open", 1.0, "timeout")
    assert 9.0 < seen.free_in_s() < 10.0
    assert seen.latency_s > 1.0
    assert seen.recent(POLICY) == (0.0, 2.0)
    assert board.n_workers() == 1
    board.close()
    fresh = HealthBoard(
        tmp_path, monotonic=lambda: now[0]
    )  # the first worker of all: the reader held no section
    assert fresh.target(HEALTH_ID, POLICY).state == "closed"
    fresh.close()


def test_a_board_that_is_missing_or_half_written_says_nothing(tmp_path: Path) -> None:
    reader = HealthReader(tmp_path / "nowhere")
    assert reader.target(HEALTH_ID, POLICY) is None
    (tmp_path / "board.bin").write_bytes(bytes(64))
    assert HealthReader(tmp_path).target(HEALTH_ID, POLICY) is None
