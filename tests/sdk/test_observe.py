"""`@penstock.observe` and `penstock.span`: every kind of function is recorded, and behaves as it did."""

import asyncio
import inspect
import threading
from typing import Any

import pytest

import penstock
from tests.sdk.conftest import Collector, setup


def test_a_call_is_a_span_with_arguments_and_result(sdk: Collector) -> None:
    @penstock.observe
    def add(first: int, second: int = 2, *rest: int, **named: int) -> int:
        """Add."""
        return first + second + sum(rest) + sum(named.values())

    assert add(1, 2, 3, 4, more=5) == 15
    assert (add.__name__, add.__doc__) == ("add", "Add.")
    assert penstock.flush().is_complete
    (span,) = sdk.spans
    assert span.name.endswith("add")
    assert span.input == {"first": 1, "second": 2, "rest": [3, 4], "more": 5}
    assert span.output == 15
    assert span.attributes["penstock.span.kind"] == "chain"
    assert span.wire["status"] == {"code": 1}
    assert int(span.wire["endTimeUnixNano"]) >= int(span.wire["startTimeUnixNano"])


def test_calls_nest_as_they_were_made_and_methods_show_no_self(sdk: Collector) -> None:
    class Agent:
        @penstock.observe(kind="agent", name="plan")
        def plan(self, goal: str) -> str:
            return self.look(goal) + self.guess("x")

        @classmethod
        @penstock.observe(kind="tool")
        def look(cls, goal: str) -> str:
            return goal.upper()

        @penstock.observe
        @staticmethod
        def guess(word: str) -> str:
            return word

    assert Agent().plan("go") == "GOx"
    penstock.flush()
    plan, look = sdk.span("plan"), next(span for span in sdk.spans if span.name.endswith("look"))
    assert (look.parent, look.trace) == (plan.id, plan.trace)
    assert plan.parent is None
    assert (plan.input, look.input) == ({"goal": "go"}, {"goal": "go"})
    assert plan.attributes["openinference.span.kind"] == "AGENT"


def test_an_exception_is_recorded_and_goes_on(sdk: Collector) -> None:
    @penstock.observe
    def divide(by: int) -> float:
        return 1 / by

    with pytest.raises(ZeroDivisionError) as caught:
        divide(0)
    assert caught.traceback[-1].name == "divide"
    penstock.flush()
    (span,) = sdk.spans
    assert span.failed
    assert span.attributes["error.type"] == "ZeroDivisionError"
    (event,) = span.wire["events"]
    assert event["name"] == "exception"
    assert "output.value" not in span.attributes


async def test_coroutines_that_run_at_once_do_not_mix(sdk: Collector) -> None:
    @penstock.observe(name="outer")
    async def outer(number: int) -> int:
        await asyncio.sleep(0.001 * (5 - number))
        return await inner(number)

    @penstock.observe(name="inner")
    async def inner(number: int) -> int:
        await asyncio.sleep(0)
        return number

    assert inspect.iscoroutinefunction(outer)
    assert await asyncio.gather(*(outer(number) for number in range(5))) == list(range(5))
    await asyncio.to_thread(penstock.flush)
    parents = {span.id: span.input["number"] for span in sdk.spans if span.name == "outer"}
    inners = [span for span in sdk.spans if span.name == "inner"]
    assert [parents[span.parent or ""] for span in inners] == [span.input["number"] for span in inners]


async def test_a_cancelled_coroutine_is_a_failed_span(sdk: Collector) -> None:
    @penstock.observe(name="slow")
    async def slow() -> None:
        await asyncio.sleep(60)

    task = asyncio.create_task(slow())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(penstock.flush)
    assert sdk.span("slow").attributes["error.type"] == "CancelledError"


def test_what_is_said_inside_lands_on_the_span(sdk: Collector) -> None:
    with penstock.span("answer", kind="llm", model="small", input="hi") as it:
        assert penstock.current_span() is it
        it.update(output="ho", usage={"input": 3, "output": 2, "cache_read": 1}, cost_usd=0.25, tags=["a"])
        penstock.update(tags=["b"], metadata={"k": [1]}, prompt="triage@3", session_id="s", user_id="u")
        it.event("retry", attempt=2)
    assert penstock.current_span() is not it
    penstock.flush()
    span = sdk.span("answer")
    wanted = {
        "gen_ai.request.model": "small",
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.usage.cache_read.input_tokens": 1,
        "gen_ai.usage.cost": 0.25,
        "tag.tags": ["a", "b"],
        "metadata": '{"k":[1]}',
        "gen_ai.prompt.name": "triage",
        "penstock.prompt": "triage@3",
        "session.id": "s",
        "user.id": "u",
        "openinference.span.kind": "LLM",
    }
    assert {name: span.attributes.get(name) for name in wanted} == wanted
    assert (span.input, span.output) == ("hi", "ho")
    assert [event["name"] for event in span.wire["events"]] == ["retry"]


def test_carried_attributes_hold_for_everything_below_and_nothing_after(sdk: Collector) -> None:
    with (
        penstock.attributes(session_id="s1", tags=["x"], metadata={"a": 1}),
        penstock.span("first"),
        penstock.attributes(user_id="ada", tags=["y"], metadata={"b": 2}),
        penstock.span("second"),
    ):
        pass
    with penstock.span("third"):
        pass
    penstock.flush()
    first, second, third = (sdk.span(name).attributes for name in ("first", "second", "third"))
    assert (first["session.id"], first["tag.tags"], first["metadata"]) == ("s1", ["x"], '{"a":1}')
    assert (second["session.id"], second["user.id"]) == ("s1", "ada")
    assert (second["tag.tags"], second["metadata"]) == (["x", "y"], '{"a":1,"b":2}')
    assert "session.id" not in third
    assert "user.id" not in first


def test_what_is_not_wanted_is_not_captured(sdk: Collector) -> None:
    @penstock.observe(name="quiet", capture_input=False, capture_output=False)
    def quiet(secret: str) -> str:
        return secret

    @penstock.observe(name="login", redact=["password", "token"])
    def login(user: str, password: str) -> dict[str, Any]:
        return {"token": "t-1", "user": user, "more": [{"token": "t-2"}]}

    quiet("s-1")
    login("ada", password="p-1")
    penstock.flush()
    assert "input.value" not in sdk.span("quiet").attributes
    assert "output.value" not in sdk.span("quiet").attributes
    assert sdk.span("login").input == {"user": "ada", "password": "[redacted]"}
    assert sdk.span("login").output == {
        "token": "[redacted]",
        "user": "ada",
        "more": [{"token": "[redacted]"}],
    }


def test_without_capture_no_content_leaves_but_tokens_do(collector: Collector, sdk: Collector) -> None:
    setup(collector, capture=False)

    @penstock.observe(name="ask", kind="llm")
    def ask(question: str) -> str:
        penstock.update(usage={"output": 5}, model="m", metadata={"who": "secret"})
        raise ValueError("secret question")

    tracer = penstock.tracer_provider().get_tracer("openinference.instrumentation.openai")
    with tracer.start_as_current_span("chat") as foreign:
        foreign.set_attribute("llm.input_messages.0.message.content", "secret")
        foreign.set_attribute("gen_ai.prompt.name", "triage")
    with pytest.raises(ValueError, match="secret"):
        ask("secret")
    assert penstock.flush().is_complete
    assert "secret" not in str(sdk.requests)
    assert sdk.span("ask").attributes["gen_ai.usage.output_tokens"] == 5
    assert sdk.span("chat").attributes["gen_ai.prompt.name"] == "triage"


def test_a_redaction_for_all_reaches_instrumentations_and_comments_too(
    collector: Collector, sdk: Collector
) -> None:
    setup(collector, redact=lambda text: text.replace("X-4711", "####"))
    tracer = penstock.tracer_provider().get_tracer("x")
    with tracer.start_as_current_span("chat") as foreign:
        foreign.set_attribute("input.value", '{"card": "X-4711"}')
    with penstock.span("mine", input={"card": ["X-4711"]}, metadata={"c": "X-4711"}) as it:
        penstock.score("ok", 1, comment="card X-4711")
        it.update(error="card X-4711 refused")
    assert penstock.flush().is_complete
    assert "X-4711" not in str(sdk.requests)
    assert sdk.span("mine").input == {"card": ["####"]}


def test_a_redaction_that_fails_leaves_the_payload_out(collector: Collector, sdk: Collector) -> None:
    def broken(text: str) -> str:
        raise KeyError(text)

    setup(collector, redact=broken)
    with penstock.span("mine", input="secret"):
        pass
    assert penstock.flush().is_complete
    assert "secret" not in str(sdk.requests)
    assert "KeyError" in sdk.span("mine").input


def test_a_thread_of_the_program_may_begin_a_trace_of_its_own(sdk: Collector) -> None:
    def work() -> None:
        with penstock.span("thread"):
            pass

    with penstock.span("main"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    penstock.flush()
    assert sdk.span("thread").trace != sdk.span("main").trace


def test_scores_and_feedback_name_what_they_judge(sdk: Collector) -> None:
    with penstock.span("answer") as it:
        penstock.score("f1", 0.5, scorer="f1@1")
        penstock.score("pass", True, on="trace")
        penstock.feedback("down", comment="wrong", user_id="ada")
    penstock.feedback(True, trace_id=it.trace_id)
    penstock.score("tone", label="calm", session_id="s1")
    delivery = penstock.flush()
    assert (delivery.sent, delivery.is_complete) == (6, True)
    f1, passed, down, up, tone = sdk.scores
    assert (f1["trace_id"], f1["span_id"], f1["value"]) == (it.trace_id, it.span_id, 0.5)
    assert "span_id" not in passed
    assert (down["label"], down["value"], down["source"], down["scorer"]) == ("down", 0.0, "human", "ada")
    assert (up["label"], up["value"], up["trace_id"]) == ("up", 1.0, it.trace_id)
    assert (tone["label"], tone["session_id"]) == ("calm", "s1")


def test_a_score_of_nothing_is_told_not_raised(sdk: Collector, caplog: pytest.LogCaptureFixture) -> None:
    penstock.score("f1", 0.5)
    with penstock.span("x"):
        penstock.score("empty")
        penstock.score("nan", float("nan"))
    penstock.flush()
    assert sdk.scores == []
    assert "names nothing" in caplog.text
    assert "neither a value nor a label" in caplog.text


def test_span_is_no_decorator() -> None:
    with pytest.raises(TypeError, match=r"penstock\.observe"):
        penstock.span("x")(print)
