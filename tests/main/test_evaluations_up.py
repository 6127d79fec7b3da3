"""Evaluations through a whole installation: gateway, control, record and command line over real sockets, and a kill.

The tests share the installation and run in the order of this file.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from penstock.main.control_client import ControlClient
from penstock.main.instance import read_state, wait_until_ready
from penstock.spec.home import Home
from tests.cli.commands import call
from tests.main.fleet import wait_until

pytestmark = [pytest.mark.engine, pytest.mark.slow]
N_CASES = 60
CONCURRENCY = 4


class Provider:
    """Answers with the last word, slowly, and counts how often each question was asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.delay_s = 0.0
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                question = body["messages"][-1]["content"]
                provider.asked[question] += 1
                time.sleep(provider.delay_s)
                text = question.rpartition(" ")[2]
                message = {"role": "assistant", "content": text}
                reply = {
                    "id": "r1",
                    "object": "chat.completion",
                    "created": 1,
                    "model": body["model"],
                    "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
                }
                data = json.dumps(reply).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_arguments: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"


class House:
    def __init__(self, home: Home, provider: Provider, process: "subprocess.Popen[bytes]") -> None:
        self.home, self.provider, self.process = home, provider, process

    def call(self, *arguments: str) -> Any:
        outcome = call(*arguments, "--json", home=self.home.root)
        assert outcome.code == 0, outcome
        return outcome.json

    def control_pid(self) -> int:
        state = read_state(self.home)
        assert state is not None
        pid = next(child.pid for child in state.children if child.name == "control")
        assert pid is not None
        return pid


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("evaluations")
    home, provider = Home(root=folder / "home"), Provider()
    home.root.mkdir()
    home.settings.write_text(
        f"""
[providers.fake]
base_url = "{provider.url}"
auth = "none"

[routes.small]
targets = [{{ provider = "fake", model = "small" }}]

[[prices]]
provider = "fake"
model = "*"
input_uncached = 100.0
output_text = 100.0
"""
    )
    command = [sys.executable, "-m", "penstock.cli", "up", "--port", "0", "--console-port", "0"]
    process = subprocess.Popen(
        [*command, "--home", str(home.root)],
        env={**os.environ, "PENSTOCK_HOME": str(home.root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: read_state(home), what="the installation to start")
        wait_until_ready(home, deadline_s=240.0)
        yield House(home, provider, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=240)
        provider.server.shutdown()
        provider.server.server_close()


def write_cases(path: Path, n_cases: int, word: str) -> Path:
    rows = [
        {"id": f"c{number}", "input": f"Say {word}{number}", "expected": f"{word}{number}", "lang": "de"}
        for number in range(n_cases)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_file_of_cases_is_run_with_cost_from_the_record_and_scores_on_traces(
    house: House, tmp_path: Path
) -> None:
    cases = write_cases(tmp_path / "cases.jsonl", 6, "tree")
    options = ("--dataset", str(cases), "--target", "small", "--scorer", "exact", "--name", "trees")
    plan = house.call("eval", "plan", *options[:-2])
    assert (plan["n_cases"], plan["n_calls"]) == (6, 6)
    assert float(plan["cost_usd"]) > 0
    done = house.call("eval", "run", *options)
    record = done["evaluation"]
    assert (record["state"], record["n_ok"], float(record["cost_usd"])) == ("done", 6, pytest.approx(0.0072))
    (exact,) = [each for each in done["figures"]["estimates"] if each["name"] == "exact"]
    assert (exact["value"], exact["n"]) == (1.0, 6)
    page = house.call("eval", "cases", "trees", "--limit", "1")
    trace_id = page["rows"][0]["outputs"][0]["trace_id"]

    def scored() -> bool:
        found = ControlClient(house.home).get(f"/api/v1/traces/{trace_id}/scores")["scores"]
        return [(score["name"], score["value"]) for score in found] == [("exact", 1.0)]

    wait_until(scored, what="the score to stand on the trace")


def test_a_function_is_run_here_and_kept_there(house: House, tmp_path: Path) -> None:
    cases = write_cases(tmp_path / "cases.jsonl", 5, "stone")
    (tmp_path / "bot.py").write_text(
        "def answer(case):\n"
        "    if case.id == 'c1':\n"
        "        raise ValueError('no')\n"
        "    return case.expected\n"
        "def short(output) -> bool:\n"
        "    return len(output.text) < 9\n"
    )
    bot = f"{tmp_path / 'bot.py'}:answer"
    done = house.call(
        *("eval", "run", "--dataset", str(cases), "--target", bot, "--scorer", "exact"),
        *("--scorer", f"{tmp_path / 'bot.py'}:short", "--name", "stones"),
    )
    record = done["evaluation"]
    assert (record["state"], record["n_ok"], record["n_errors"], record["is_local"]) == ("done", 4, 1, True)
    shown = house.call("eval", "show", "stones")
    assert {each["name"]: each["n"] for each in shown["figures"]["estimates"]}["short"] == 4
    assert shown["figures"]["errors"][0]["code"] == "ValueError"


def test_files_of_the_home_are_not_read(house: House) -> None:
    outcome = call(
        *("eval", "run", "--dataset", str(house.home.root / "admin.key"), "--target", "small", "--json"),
        home=house.home.root,
    )
    assert outcome.code != 0
    assert "holds its keys" in outcome.out + outcome.err


def test_a_killed_control_goes_on_and_asks_nothing_twice_but_what_was_under_way(
    house: House, tmp_path: Path
) -> None:
    cases = write_cases(tmp_path / "cases.jsonl", N_CASES, "river")
    house.provider.delay_s = 0.2
    started = house.call(
        *("eval", "run", "--dataset", str(cases), "--target", "small", "--scorer", "exact"),
        *("--name", "rivers", "--concurrency", str(CONCURRENCY), "--detach"),
    )
    evaluation_id = started["evaluation"]["id"]
    asked = house.provider.asked

    def n_asked() -> int:
        return sum(count for question, count in asked.items() if "river" in question)

    wait_until(lambda: n_asked() >= N_CASES // 3, what="a third to be asked")
    os.kill(house.control_pid(), signal.SIGKILL)
    house.provider.delay_s = 0.0

    def is_done() -> bool:
        outcome = call("eval", "show", evaluation_id, "--json", home=house.home.root)
        return outcome.code == 0 and outcome.json["evaluation"]["state"] == "done"

    wait_until(is_done, what="another worker to finish it", deadline_s=240.0)
    record = house.call("eval", "show", evaluation_id)["evaluation"]
    assert (record["n_ok"], record.get("n_errors", 0)) == (N_CASES, 0)
    twice = [question for question, count in asked.items() if "river" in question and count > 1]
    assert len(twice) <= CONCURRENCY
    assert n_asked() <= N_CASES + CONCURRENCY
