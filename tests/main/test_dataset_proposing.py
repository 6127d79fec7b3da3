"""How proposals ask models: over a real socket, whatever the gateway does becomes an answer and never an exception."""

import asyncio
import json
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from penstock.datasets.proposals.ports import ModelAnswer
from penstock.main.chat_calls import ChatAnswer, ChatCalls, read_chat_answer
from penstock.main.dataset_proposing import GatewayModels
from tests.fixtures.upstreams.server import speak
from tests.gateway.upstream import FakeUpstream

TRACE = "a" * 32


class Prices:
    """A cent a call."""

    def estimate_usd(self, model: str, *, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Price a call."""
        return Decimal("0.01")


@pytest.fixture(scope="module")
def upstream_url() -> Iterator[str]:
    """Serve the fake upstream from a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    upstream = FakeUpstream(speak)
    asyncio.run_coroutine_threadsafe(upstream.start(), loop).result(10)
    yield upstream.url.removesuffix("/v1")
    asyncio.run_coroutine_threadsafe(upstream.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(120)
    loop.close()


def ask(url: str, model: str, *, timeout_s: float = 20.0) -> ModelAnswer:
    models = GatewayModels(ChatCalls(lambda: url, lambda: "key", timeout_s=timeout_s), Prices())
    messages = [{"role": "user", "content": "hello"}]
    return models.ask(model, messages, parameters={"max_tokens": 5}, session="propose:job_1")


def test_an_answer_comes_with_its_tokens(upstream_url: str) -> None:
    answer = ask(upstream_url, "text")
    assert answer.status == "ok"
    assert answer.text
    assert (answer.input_tokens or 0) > 0 and (answer.output_tokens or 0) > 0


def test_a_limit_is_an_error_with_its_words(upstream_url: str) -> None:
    answer = ask(upstream_url, "limit")
    assert (answer.status, answer.text) == ("error", "")
    assert "429" in answer.reason and "Slow down." in answer.reason


def test_nobody_there_is_an_error() -> None:
    assert ask("http://127.0.0.1:9", "text").status == "error"


def reply(value: Any, status: int = 200) -> ChatAnswer:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return read_chat_answer(status, data, {"x-penstock-trace-id": TRACE})


def said(content: Any, **more: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": content, **more}}]}


@pytest.mark.parametrize(
    ("value", "status", "expected"),
    [
        (said("Yes."), 200, "ok"),
        (said(None), 200, "ok"),
        (said(None, refusal="I must not."), 200, "refused"),
        ({"choices": [{"message": {"content": "half"}, "finish_reason": "content_filter"}]}, 200, "refused"),
        ({"choices": []}, 200, "error"),
        ({"choices": [None]}, 200, "error"),
        ({"error": {"message": "too slow"}}, 504, "timeout"),
        ({"error": "broken"}, 500, "error"),
        (b"<html>", 502, "error"),
        (b"[1]", 200, "error"),
    ],
)
def test_every_reply_has_one_meaning(value: Any, status: int, expected: str) -> None:
    answer = reply(value, status)
    assert answer.status == expected
    assert answer.trace_id == TRACE
    assert bool(answer.reason) == (expected != "ok")


def test_tokens_that_are_no_counts_are_unknown() -> None:
    answer = reply({**said("Yes."), "usage": {"prompt_tokens": True, "completion_tokens": -1}})
    assert (answer.input_tokens, answer.output_tokens) == (None, None)
