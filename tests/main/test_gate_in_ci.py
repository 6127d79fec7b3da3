"""The CI examples as CI runs them, and the pytest plugin as a user's test suite loads it."""

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from penstock.main.instance import running_instance
from penstock.spec.home import Home
from tests.main.fleet import wait_until

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "ci"
SHARES = {"weak": 0.7, "strong": 0.95}
PLUGIN = (
    ()
    if any(each.value == "penstock.main.pytest_plugin" for each in entry_points(group="pytest11"))
    else ("-p", "penstock.main.pytest_plugin")
)
"""The installed package brings it; an installation from before it was there has to name it."""


class Quiz(BaseHTTPRequestHandler):
    """A model that adds, more or less often right."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Stay quiet."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        first, second = map(int, re.findall(r"\d+", body["messages"][-1]["content"])[:2])
        drawn = hashlib.sha256(f"{body['model']} {first} {second}".encode()).digest()[0] / 256
        answer = first + second + (drawn >= SHARES[body["model"]])
        self._reply(
            {
                "id": "x",
                "object": "chat.completion",
                "created": 1,
                "model": body["model"],
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": str(answer)},
                        "finish_reason": "stop",
                    }
                ],
                "usage": {"prompt_tokens": 20, "completion_tokens": 2, "total_tokens": 22},
            }
        )

    def do_GET(self) -> None:
        self._reply({"data": []})

    def _reply(self, value: Any) -> None:
        text = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Path]:
    """A repository with a gate, cases, and routes to a fake model."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiz)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    routes = "\n".join(
        f'[routes.{name}]\ntargets = [{{ provider = "quiz", model = "{name}" }}]' for name in SHARES
    )
    (tmp_path / "penstock.toml").write_text(
        f'[providers.quiz]\nbase_url = "http://127.0.0.1:{server.server_port}/v1"\n{routes}\n'
    )
    (tmp_path / "gates").mkdir()
    (tmp_path / "gates" / "cases.jsonl").write_text(
        "".join(
            json.dumps(
                {"id": f"s{n}", "input": f"What is {17 + 3 * n} + {5 + 7 * n}?", "expected": str(22 + 10 * n)}
            )
            + "\n"
            for n in range(80)
        )
    )
    (tmp_path / "gates" / "triage.gate.toml").write_text(
        """
        name = "triage"
        candidate = "strong"
        baseline = "weak"
        rules = ["exact >= baseline - 1 point", "exact >= 0.8", "errors <= 10 %"]
        [evaluation]
        file = "cases.jsonl"
        scorers = ["exact"]
        """
    )
    yield tmp_path
    server.shutdown()
    server.server_close()
    thread.join()


def commands_of(name: str) -> list[str]:
    """The shell commands of an example, but for installing what is installed."""
    yaml = pytest.importorskip("yaml")
    told = yaml.safe_load((EXAMPLES / name).read_text())
    if name.startswith("github"):
        found = [step["run"] for step in told["jobs"]["gate"]["steps"] if "run" in step]
    else:
        found = [*told["gate"]["before_script"], *told["gate"]["script"]]
    kept = [command for command in found if not command.startswith("pip install")]
    assert len(kept) == len(found) - 1
    return kept


def stop_group(run: "subprocess.Popen[bytes]", home: Path) -> None:
    """End what the script left in the background, as a CI runner does, and wait for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGTERM)
    run.wait(timeout=240)
    wait_until(lambda: running_instance(Home(root=home)) is None, what="the home to be free")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_the_example_judges_a_change(name: str, repository: Path) -> None:
    home = repository / ".penstock"
    variables = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PENSTOCK_HOME": str(home),
        "GITHUB_STEP_SUMMARY": str(repository / "summary.md"),
    }
    script = "set -e\n" + "\n".join(commands_of(name))
    told = repository / "told.txt"
    with told.open("w") as file:
        run = subprocess.Popen(
            ["bash", "-c", script],
            cwd=repository,
            env=variables,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            run.wait(timeout=240)
        finally:
            stop_group(run, home)
    out = told.read_text()
    assert run.returncode == 0, out[-3000:] + (repository / "penstock.log").read_text()[-2000:]
    assert "✓ triage: pass. strong against weak" in out
    suite = ET.parse(repository / "verdict.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("3", "0")
    assert (repository / "verdict.md").read_text().startswith("### ✓ triage: pass")
    if name.startswith("github"):
        assert (repository / "summary.md").read_text() == (repository / "verdict.md").read_text()


SUITE = """
import pytest

CASES = [{"id": f"s{n}", "input": f"{n} 5", "expected": str(n + 5)} for n in range(60)]

def add(text):
    first, second = map(int, text.split())
    return str(first + second + (first % 10 == 0))

def test_good_enough(penstock_eval):
    verdict = penstock_eval(add, CASES, ["exact"], rules=["exact >= 0.7", "errors == 0"])
    assert verdict, verdict.sentence
    assert verdict.report["exact"].value == pytest.approx(0.9)

def test_not_good_enough(penstock_eval):
    assert penstock_eval(add, CASES, ["exact"], rules=["exact >= 0.98"])

def test_too_few(penstock_eval):
    assert penstock_eval(add, CASES[:5], ["exact"], rules=["exact >= 0.7"]).verdict == "undecided"

@pytest.mark.penstock_gate("nothing.gate.toml")
def test_a_gate(penstock_gate):
    assert penstock_gate
"""


def run_suite(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pytest", *PLUGIN, "-p", "no:cacheprovider", "--strict-markers", *arguments],
        cwd=folder,
        env={**os.environ, "PENSTOCK_HOME": str(folder / "none")},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_the_plugin_judges_without_a_home(tmp_path: Path) -> None:
    (tmp_path / "test_adding.py").write_text(SUITE)
    run = run_suite(tmp_path, "--junitxml=out.xml")
    assert "1 failed, 2 passed, 1 skipped" in run.stdout, run.stdout + run.stderr
    assert "test_adding.py::test_not_good_enough: fail. exact 0.90 (95 % interval" in run.stdout
    assert "s10  exact=0  16" in run.stdout, "each case is told where a test fails"
    assert "No Penstock runs here" in (tmp_path / "out.xml").read_text()
    assert list(tmp_path.glob("*.jsonl")) == [], "nothing is left in the folder of the tests"


def test_the_plugin_loads_nothing_until_it_is_asked(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\ndef test_it():\n    assert not {name for name in sys.modules if name.startswith(('numpy', "
        "'penstock.evals', 'sqlalchemy'))}\n"
    )
    run = run_suite(tmp_path, "-p", "no:hypothesispytest")
    assert "1 passed" in run.stdout, run.stdout + run.stderr


def test_the_plugin_is_offered_to_pytest() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert '[project.entry-points.pytest11]\npenstock = "penstock.main.pytest_plugin"' in text
