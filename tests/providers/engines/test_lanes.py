"""The pump between an engine's thread and the loop loses nothing and keeps order, however the two are timed."""

import asyncio
import random
import threading
import time

import pytest

from penstock.providers.engines.errors import EngineBusy
from penstock.providers.engines.lanes import Lane, TextPump


async def pump_all(pieces: list[str], naps_s: list[float], pause_s: float) -> list[list[str]]:
    pump = TextPump(asyncio.get_running_loop())
    lane = Lane("x", n_slots=1, max_waiting=0)

    def work() -> int:
        for piece, nap in zip(pieces, naps_s, strict=True):
            time.sleep(nap)
            pump.put(piece)
        return len(pieces)

    job = lane.submit(work)
    batches = [batch async for batch in pump.drain(job, pause_s=pause_s)]
    assert job.result() == len(pieces)
    lane.close()
    return batches


@pytest.mark.parametrize("pause_s", [0.0, 0.002])
@pytest.mark.parametrize("seed", range(8))
async def test_every_piece_arrives_once_and_in_order(seed: int, pause_s: float) -> None:
    rng = random.Random(seed)
    pieces = [str(number) for number in range(200)]
    naps = [rng.choice((0.0, 0.0, 0.0, 0.0002, 0.001)) for _ in pieces]
    batches = await pump_all(pieces, naps, pause_s)
    assert [piece for batch in batches for piece in batch] == pieces


async def test_a_fast_engine_wakes_the_loop_for_many_pieces_at_once() -> None:
    batches = await pump_all([str(number) for number in range(1000)], [0.0] * 1000, 0.02)
    assert len(batches) < 100


async def test_a_job_without_text_ends_the_drain() -> None:
    assert await pump_all([], [], 0.01) == []


async def test_a_failing_job_ends_the_drain_after_its_text() -> None:
    pump = TextPump(asyncio.get_running_loop())
    lane = Lane("x", n_slots=1, max_waiting=0)

    def work() -> None:
        pump.put("a")
        raise ValueError("broken")

    job = lane.submit(work)
    assert [batch async for batch in pump.drain(job)] == [["a"]]
    with pytest.raises(ValueError, match="broken"):
        job.result()
    lane.close()


async def test_more_calls_than_may_wait_are_refused_until_one_leaves() -> None:
    lane = Lane("x", n_slots=1, max_waiting=1)
    gate = threading.Event()
    jobs = [lane.submit(gate.wait) for _ in range(2)]
    with pytest.raises(EngineBusy, match="2 calls"):
        lane.submit(gate.wait)
    gate.set()
    await asyncio.gather(*jobs)
    await asyncio.sleep(0)
    assert await lane.submit(lambda: 7) == 7
    lane.close()
