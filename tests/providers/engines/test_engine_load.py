"""The engine front under load and at its end: many calls at once, clients that leave, a full house, SIGTERM."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, ClientTimeout

from penstock.providers.engines.app import EngineApp
from tests.fixtures.ports import free_port
from tests.providers.engines.test_engine_app import AUTH, KEY, RunningEngine, host
from tests.tuning.tiny_models import make_llama

pytestmark = pytest.mark.engine
LONG = {"model": "tiny", "prompt": [1, 4, 90, 80, 70], "max_tokens": 240, "temperature": 0.9, "seed": 3}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    folder = tmp_path_factory.mktemp("models")
    model = host(make_llama(folder / "llama"), "tiny", "chat")
    running = RunningEngine(EngineApp([model], internal_key=KEY, n_slots=2, max_waiting=3))
    yield running
    running.stop()


async def ask(session: ClientSession, url: str, body: dict[str, Any]) -> tuple[int, Any]:
    async with session.post(f"{url}/v1/completions", json=body, headers=AUTH) as answer:
        return answer.status, await answer.json()


async def leave_early(session: ClientSession, url: str, body: dict[str, Any]) -> None:
    timeout = ClientTimeout(total=0.02)
    async with session.post(f"{url}/v1/completions", json=body, headers=AUTH, timeout=timeout) as answer:
        await answer.read()


async def test_calls_at_once_get_the_same_answers_as_one_by_one(engine: RunningEngine) -> None:
    bodies = [
        LONG | {"prompt": [1, 4, 60 + number], "max_tokens": 20, "temperature": 0.0} for number in range(4)
    ]
    async with ClientSession() as session:
        alone = [(await ask(session, engine.url, body))[1]["choices"] for body in bodies]
        together = await asyncio.gather(*(ask(session, engine.url, body) for body in bodies))
    assert [answer["choices"] for _, answer in together] == alone


async def test_a_full_house_is_told_at_once_and_empties_again(engine: RunningEngine) -> None:
    async with ClientSession() as session:
        answers = await asyncio.gather(*(ask(session, engine.url, LONG) for _ in range(16)))
        statuses = sorted({status for status, _ in answers})
        assert statuses == [200, 503]
        assert sum(status == 200 for status, _ in answers) >= 5
        refused = next(body for status, body in answers if status == 503)
        assert refused["error"]["type"] == "overloaded_error"
        assert (await ask(session, engine.url, LONG))[0] == 200


async def test_a_client_that_leaves_stops_the_generation(engine: RunningEngine) -> None:
    lane = engine.app._cells["tiny"].lane
    cell_engine = engine.app._cells["tiny"].engine
    ends: list[Any] = []
    real = cell_engine.generate
    cell_engine.generate = lambda *args, **named: ends.append(real(*args, **named)) or ends[-1]  # type: ignore[method-assign]
    try:
        async with ClientSession() as session:
            for streamed in (True, False):
                with pytest.raises(asyncio.TimeoutError):
                    await leave_early(session, engine.url, LONG | {"stream": streamed, "max_tokens": 250})
        while lane.n_inside:
            await asyncio.sleep(0.01)
    finally:
        cell_engine.generate = real  # type: ignore[method-assign]
    assert all(end.finish_reason == "cancelled" for end in ends)
    assert all(end.completion_tokens < 250 for end in ends)


_PROCESS = """
import sys
from pathlib import Path
from penstock.providers.engines.app import EngineApp
from penstock.providers.engines.serve import serve_engine
from tests.providers.engines.test_engine_app import KEY, host
folder = Path(sys.argv[1])
serve_engine(EngineApp([host(folder, "tiny", "chat")], internal_key=KEY), port=int(sys.argv[2]))
"""


def test_sigterm_lets_a_running_stream_finish_and_ends_the_process_cleanly(tmp_path: Path) -> None:
    folder = make_llama(tmp_path / "llama")
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", _PROCESS, str(folder), str(port)], cwd=Path(__file__).parents[3]
    )
    try:
        text = asyncio.run(_stream_through_sigterm(process, port))
        assert process.wait(240) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert text.endswith("data: [DONE]\n\n")
    last = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")][-1]
    assert last["choices"][0]["finish_reason"] in ("stop", "length")


async def _stream_through_sigterm(process: subprocess.Popen[bytes], port: int) -> str:
    url = f"http://127.0.0.1:{port}"
    async with ClientSession() as session:
        while process.poll() is None:
            try:
                async with session.get(f"{url}/health") as answer:
                    assert (await answer.json())["status"] == "ok"
                    break
            except OSError:
                time.sleep(0.02)
        body = LONG | {"stream": True}
        async with session.post(f"{url}/v1/completions", json=body, headers=AUTH) as answer:
            first = await answer.content.readany()
            process.send_signal(signal.SIGTERM)
            return (first + await answer.content.read()).decode()
