"""Prompts in programs: fetched once, kept in memory and on disk, and there when Penstock is not."""

import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock.sdk.errors import PromptUnavailable
from penstock.sdk.prompt_source import Away, Copy, PromptSource, Refused
from penstock.sdk.settings import SdkSettings
from penstock.templating.errors import WrongVariables
from tests.sdk.conftest import switch_off

CONTENT: dict[str, Any] = {
    "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Sort {{ mail }}"}],
    "variables": {"mail": {}},
    "model": "echo",
    "parameters": {"temperature": 0.5},
}


def version(number: int = 1, **members: Any) -> dict[str, Any]:
    return {
        "name": "triage",
        "number": number,
        "stamp": f"{number}@sha256:0",
        "content": {**CONTENT, **members},
    }


@dataclass
class Control:
    """A control process that gives prompts as it is told."""

    url: str = ""
    paths: list[str] = field(default_factory=list)
    spans: list[Any] = field(default_factory=list)
    status: int = 200
    reply: dict[str, Any] = field(default_factory=version)


@pytest.fixture
def control() -> Iterator[Control]:
    seen = Control()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            seen.paths.append(self.path)
            self.answer(seen.status, seen.reply)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if self.path == "/v1/traces":
                seen.spans += [s for r in body["resourceSpans"] for g in r["scopeSpans"] for s in g["spans"]]
                self.answer(200, {})
                return
            seen.paths.append(self.path)
            rendered = {"messages": [{"role": "user", "content": f"there {body['variables']['mail']}"}]}
            self.answer(seen.status, {"rendered": rendered})

        def answer(self, status: int, value: Any) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    seen.url = f"http://127.0.0.1:{server.server_port}"
    yield seen
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def program(control: Control, tmp_path: Path) -> Iterator[Control]:
    penstock.configure(
        url=control.url,
        key=f"ps-{tmp_path.name}-key-0123456789",
        spill=tmp_path / "sdk",
        interval_s=0.005,
        enabled=True,
    )
    yield control
    switch_off()


class Script:
    """A way to Penstock that gives what a list says; what is an error is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.n_asked = 0
        self.gate = threading.Event()
        self.gate.set()

    def fetch(self, name: str, wanted: str | None) -> dict[str, Any]:
        self.gate.wait(120)
        self.n_asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        found: dict[str, Any] = answer
        return found


def source_of(script: Script, folder: Path, now: list[float]) -> PromptSource:
    settings = SdkSettings(key="k", spill_folder=folder / "sdk")
    return PromptSource(settings, connection=script, now_s=lambda: now[0])


def number_of(found: Any) -> int:
    assert isinstance(found, Copy)
    return int(found.value["number"])


def settle(source: PromptSource) -> None:
    for event in list(source._asked.values()):
        event.wait(60)


def test_a_prompt_is_filled_in_where_it_is_used(program: Control) -> None:
    found = penstock.prompt("triage@prod")
    assert (found.version, found.label, found.parameters, found.is_fallback) == (
        1,
        "triage@1",
        {"temperature": 0.5},
        False,
    )
    assert found.render(mail="{{ x }}")[-1] == {"role": "user", "content": "Sort {{ x }}"}
    assert found.request({"mail": "m"}) == {
        "model": "echo",
        "temperature": 0.5,
        "messages": found.render(mail="m"),
    }
    assert program.paths == ["/api/v1/prompts/triage?with_examples=true&version=prod"]
    with pytest.raises(WrongVariables, match="Did you mean 'mail'"):
        found.render(mial="x")


def test_the_version_is_noted_on_the_span_that_uses_it(program: Control) -> None:
    found = penstock.prompt("triage")

    @penstock.observe
    def answer() -> None:
        found.render(mail="x")

    answer()
    penstock.flush()
    (span,) = program.spans
    assert {"key": "penstock.prompt", "value": {"stringValue": "triage@1"}} in span["attributes"]


def test_copies_in_memory_are_given_at_once_and_renewed_behind(tmp_path: Path) -> None:
    now = [1000.0]
    script = Script(version(1), version(2))
    source = source_of(script, tmp_path, now)
    assert number_of(source.get("triage", "prod", max_age_s=60, wait_s=60)) == 1
    assert number_of(source.get("triage", "prod", max_age_s=60, wait_s=60)) == 1
    assert script.n_asked == 1
    now[0] += 61
    script.gate.clear()
    assert number_of(source.get("triage", "prod", max_age_s=60, wait_s=60)) == 1
    assert number_of(source.get("triage", "prod", max_age_s=60, wait_s=60)) == 1
    script.gate.set()
    settle(source)
    assert number_of(source.get("triage", "prod", max_age_s=60, wait_s=60)) == 2
    assert script.n_asked == 2


def test_a_number_is_never_asked_for_again(tmp_path: Path) -> None:
    now = [0.0]
    script = Script(version(3))
    source = source_of(script, tmp_path, now)
    for _ in range(3):
        now[0] += 10_000
        assert number_of(source.get("triage", "3", max_age_s=1, wait_s=60)) == 3
    settle(source)
    assert script.n_asked == 1


def test_the_last_good_copy_serves_while_penstock_is_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    source = source_of(Script(version(1), Away("gone")), tmp_path, now)
    source.get("triage", "prod", max_age_s=60, wait_s=60)
    now[0] += 100
    assert number_of(source.get("triage", "prod", max_age_s=60, wait_s=60)) == 1
    settle(source)
    assert number_of(source.get("triage", "prod", max_age_s=60, wait_s=60)) == 1
    fresh = source_of(Script(Away("gone")), tmp_path, now)
    assert number_of(fresh.get("triage", "prod", max_age_s=60, wait_s=60)) == 1
    assert "comes from disk" in caplog.text
    assert isinstance(fresh.get("other", None, max_age_s=60, wait_s=60), Away)


def test_an_alias_that_went_away_leaves_the_last_good_copy(tmp_path: Path) -> None:
    now = [0.0]
    source = source_of(Script(version(1), Refused(404, "There is none.")), tmp_path, now)
    source.get("triage", "prod", max_age_s=1, wait_s=60)
    now[0] += 10
    source.get("triage", "prod", max_age_s=1, wait_s=60)
    settle(source)
    assert number_of(source.get("triage", "prod", max_age_s=1, wait_s=60)) == 1


def test_nobody_waits_longer_than_the_bound(tmp_path: Path) -> None:
    script = Script(version(1))
    script.gate.clear()
    source = source_of(script, tmp_path, [0.0])
    assert isinstance(source.get("triage", "prod", max_age_s=1, wait_s=0.01), Away)
    script.gate.set()
    settle(source)
    assert number_of(source.get("triage", "prod", max_age_s=1, wait_s=0.01)) == 1


def test_a_damaged_file_on_disk_is_no_copy(tmp_path: Path) -> None:
    source = source_of(Script(version(1)), tmp_path, [0.0])
    source.get("triage", "prod", max_age_s=1, wait_s=60)
    settle(source)
    (kept,) = (tmp_path / "prompts").rglob("*.json")
    kept.write_text("{")
    fresh = source_of(Script(Away("gone")), tmp_path, [0.0])
    assert isinstance(fresh.get("triage", "prod", max_age_s=1, wait_s=60), Away)


def test_a_fallback_is_used_and_says_so_and_nothing_at_all_raises(program: Control) -> None:
    program.status, program.reply = (
        404,
        {"error": {"message": "There is no prompt 'nope'.", "code": "PS-1249"}},
    )
    found = penstock.prompt("nope", fallback="Hi {{ name }}")
    assert (found.is_fallback, found.version, found.label) == (True, None, "nope")
    assert found.render(name="A") == [{"role": "user", "content": "Hi A"}]
    with pytest.raises(PromptUnavailable, match="There is no prompt 'nope'"):
        penstock.prompt("nope")


def test_the_nearest_examples_are_found_by_penstock(program: Control) -> None:
    few = {"rows": [{"input": "a", "output": "b"}], "pick": "nearest"}
    program.reply = version(2, few_shot=few)
    found = penstock.prompt("triage@2")
    assert found.render(mail="m") == [{"role": "user", "content": "there m"}]
    program.status, program.reply = 500, {}
    with pytest.raises(PromptUnavailable, match="nearest examples"):
        found.render(mail="m")


def test_fixed_examples_of_a_dataset_come_with_the_prompt(program: Control) -> None:
    few = {"dataset": "dataset:d@1", "count": 1}
    program.reply = {**version(2, few_shot=few), "examples": [{"id": "1", "input": "in", "output": "out"}]}
    assert [each["content"] for each in penstock.prompt("triage@2").render(mail="m")] == [
        "Be kind.",
        "in",
        "out",
        "Sort m",
    ]


def test_reasoning_is_split_off_an_answer(program: Control) -> None:
    program.reply = version(2, chain_of_thought={})
    found = penstock.prompt("triage@2")
    assert found.answer("hm\nAnswer: 4") == "4"
    assert found.split("hm\nAnswer: 4").reasoning == "hm"
