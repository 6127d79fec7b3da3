"""What answers: replies read as they are, functions, endpoints and stored files; whatever they do is an outcome of the case."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock.base.errors import InvalidInput
from penstock.evals.errors import EvaluationInvalid, PreflightFailed
from penstock.evals.ports import GatewayReply, PinnedTarget
from penstock.evals.running.http_target import HttpTarget, fill
from penstock.evals.running.pace import Pace
from penstock.evals.running.replies import read_reply
from penstock.evals.running.targets import read_outputs, read_result, request_body
from penstock.spec.cases import Case, Output
from penstock.spec.evaluations import TargetSpec
from tests.evals.running.house import reply_body


def read(body: Any, status: int = 200, text: str = "") -> Output:
    reply = GatewayReply(status=status, headers={"x-penstock-trace-id": "ab"}, body=body, text=text)
    return read_reply(reply, case_id="c", repeat=0)


def test_a_reply_is_read_with_everything_it_tells() -> None:
    chance = {"token": "Hi", "logprob": -0.1, "top_logprobs": [{"token": "Ho", "logprob": -2.0}]}
    choice = {
        "message": {"content": "Hi", "tool_calls": [{"id": "t"}]},
        "finish_reason": "stop",
        "logprobs": {"content": [chance]},
    }
    output = read(reply_body(None, choices=[choice], citations=[{"quote": "short naps", "passage_id": "p1"}]))
    assert (output.status, output.text, output.trace_id) == ("ok", "Hi", "ab")
    assert (output.logprobs[0].logprob, output.logprobs[0].rivals) == (-0.1, {"Ho": -2.0})
    assert (output.passages[0].id, output.passages[0].text) == ("p1", "short naps")
    assert output.usage is not None
    assert (output.usage.input_tokens, output.usage.output_tokens) == (10, 5)


@pytest.mark.parametrize(
    ("body", "status", "is_transient"),
    [
        (None, 502, True),
        ({"error": "no object"}, 400, False),
        ({}, 200, True),
        ([], 200, True),
        ("text", 429, True),
    ],
)
def test_nonsense_is_an_error_and_never_an_empty_answer(body: Any, status: int, is_transient: bool) -> None:
    output = read(body, status, "some page")
    assert output.status == "error"
    assert output.error is not None
    assert output.error.is_transient is is_transient
    assert output.text is None


def test_a_filter_is_a_refusal() -> None:
    assert read({"error": {"code": "content_filter", "message": "no"}}, 400).status == "refused"
    assert (
        read(reply_body(None, choices=[{"message": {}, "finish_reason": "content_filter"}])).status
        == "refused"
    )


def test_a_prompt_is_given_the_variables_that_it_takes() -> None:
    case = Case(id="c", inputs={"question": "Why?", "context": "long", "unused": 1})
    spec = TargetSpec(model="small", prompt="triage@3", parameters={"temperature": 0})
    pinned = PinnedTarget(spec=spec, versions={}, stamp="s", takes_variables=frozenset({"question"}))
    assert request_body(pinned, case) == {
        "temperature": 0,
        "model": "prompt:triage@3",
        "prompt_model": "small",
        "prompt_variables": {"question": "Why?"},
        "messages": [],
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ({"text": "t", "passages": ["p"]}, "t"),
        (3, "3"),
        (["a"], '["a"]'),
        ("\ud800x", "\ufffdx"),
    ],
)
def test_whatever_a_function_returns_is_an_output(value: Any, text: str) -> None:
    assert read_result(value, case_id="c", repeat=0).text == text


def test_nothing_returned_is_an_error() -> None:
    assert read_result(None, case_id="c", repeat=0).status == "error"


def test_a_file_of_outputs_is_read_and_a_wrong_line_named() -> None:
    found = read_outputs(
        ['{"id": "a", "output": "x"}', "", '{"case_id": "b", "repeat": 1, "text": "y"}'], place="o.jsonl"
    )
    assert {key: output.text for key, output in found.items()} == {("a", 0): "x", ("b", 1): "y"}
    with pytest.raises(InvalidInput, match=r"o.jsonl:2"):
        read_outputs(['{"id": "a", "output": "x"}', "{not json"], place="o.jsonl")


def test_templates_keep_types_and_name_what_is_missing() -> None:
    values = {"n": 3, "name": "Ada"}
    assert fill({"a": "{{n}}", "b": "Hi {{ name }}, {{n}}", "c": [True]}, values) == {
        "a": 3,
        "b": "Hi Ada, 3",
        "c": [True],
    }
    with pytest.raises(EvaluationInvalid, match="no 'nmae'"):
        fill("{{nmae}}", values)


@pytest.fixture
def endpoint() -> Iterator[Callable[[], str]]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            key = self.headers["authorization"]
            data = json.dumps({"answer": [{"text": f"{body['q']} {key}"}]}).encode()
            self.send_response(500 if body["q"] == "down" else 200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_arguments: Any) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield lambda: f"http://127.0.0.1:{server.server_address[1]}/ask"
    server.shutdown()
    server.server_close()


async def test_an_endpoint_is_asked_by_a_template_and_read_by_a_pointer(endpoint: Callable[[], str]) -> None:
    spec = {
        "url": endpoint(),
        "headers": {"authorization": "Bearer ${BOT_KEY}"},
        "body": {"q": "{{input}}"},
        "reply": "/answer/0/text",
    }
    loop = asyncio.get_running_loop()
    target = HttpTarget(
        spec=spec, environ={"BOT_KEY": "k"}, pace=Pace(2, clock=loop.time), clock=loop.time, timeout_s=10
    )
    try:
        good = (await target.answer(Case(id="a", inputs={"input": "Hi"}), 0)).output
        down = (await target.answer(Case(id="b", inputs={"input": "down"}), 0)).output
        lacking = (await target.answer(Case(id="c", inputs={"other": 1}), 0)).output
    finally:
        await target.close()
    assert (good.status, good.text) == ("ok", "Hi Bearer k")
    assert down.error is not None
    assert (down.error.code, down.error.is_transient) == ("http_500", True)
    assert lacking.error is not None
    assert "no 'input'" in lacking.error.message


def test_a_program_evaluates_its_function_without_a_penstock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "none"))
    rows = [{"id": f"r{number}", "input": number, "expected": str(number * 2)} for number in range(8)]

    async def double(input: int) -> int:  # noqa: A002 - what a user writes
        if input == 5:
            raise ZeroDivisionError
        return input * 2 if input else 7

    def even(output: Output) -> bool:
        return int(output.text or "1") % 2 == 0

    report = penstock.evaluate(double, rows, ["exact", even])
    assert (report["exact"].n, report["exact"].value, report["exact"].n_errors) == (
        7,
        pytest.approx(6 / 7),
        1,
    )
    assert report["even"].value == pytest.approx(6 / 7)
    assert report.path is not None
    lines = report.path.read_text().splitlines()
    assert len(lines) == 9
    assert json.loads(lines[0])["evaluation"]["n_ok"] == 7
    with pytest.raises(KeyError, match="there are exact, even"):
        report["nothing"]


def test_a_function_that_never_works_is_not_asked_for_every_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "none"))
    asked = []

    def broken(input: Any) -> str:  # noqa: A002 - what a user writes
        asked.append(input)
        raise ValueError("never")

    with pytest.raises(PreflightFailed, match="never"):
        penstock.evaluate(broken, [{"input": number} for number in range(20)], ["exact"])
    assert len(asked) == 3


@pytest.fixture
def broken() -> Iterator[str]:
    """An endpoint that replies with what it is asked, in two pieces; the second comes when the first was sent."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = json.loads(self.rfile.read(int(self.headers["content-length"])))["reply"].encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            for piece in (data[: len(data) // 2], data[len(data) // 2 :]):
                self.wfile.write(piece)
                self.wfile.flush()
                threading.Event().wait(0.05)

        def log_message(self, *_arguments: Any) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


async def test_replies_are_read_to_their_end_and_broken_ones_are_errors_of_their_case(broken: str) -> None:
    loop = asyncio.get_running_loop()
    target = HttpTarget(
        spec={"url": broken, "body": {"reply": "{{input}}"}},
        environ={},
        pace=Pace(2, clock=loop.time),
        clock=loop.time,
        timeout_s=10,
    )
    long = "The capital of France is Paris. " * 50
    wrong = [
        '{"answer": "The cap',
        '{"text": "x", "cost_usd": "n/a"}',
        '{"text": "x", "passages": [3]}',
        "[" * 5000,
    ]
    try:
        whole = (await target.answer(Case(id="a", inputs={"input": json.dumps({"answer": long})}), 0)).output
        empty = (
            await target.answer(Case(id="b", inputs={"input": '{"answer": "x", "passages": null}'}), 0)
        ).output
        failed = [
            (await target.answer(Case(id=str(n), inputs={"input": text}), 0)).output
            for n, text in enumerate(wrong)
        ]
    finally:
        await target.close()
    assert (whole.status, whole.text) == ("ok", long)
    assert (empty.status, empty.text) == ("ok", "x")
    assert [each.status for each in failed] == ["error"] * 4
