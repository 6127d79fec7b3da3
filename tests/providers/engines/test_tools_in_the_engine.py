"""Tools asked of the engine itself: rendered as in training, called in the model's own form, refused where it has none."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from penstock.base.digest import digest_ids
from penstock.providers.engines.app import EngineApp
from penstock.providers.engines.types import HostedModel
from penstock.spec.messages import Message
from penstock.tuning.renderer import Renderer
from penstock.tuning.rows.messages import read_messages
from tests.providers.engines.test_engine_app import AUTH, HELLO, KEY, RunningEngine, host, post, stream
from tests.tuning.tiny_models import make_llama

_CALL = (
    '{% for call in m.tool_calls or [] %}{{ \'\\n<tool_call>\\n{"name": "\' + call.function.name + \'", "arguments": \''
    " + call.function.arguments | tojson + '}\\n</tool_call>' }}{% endfor %}"
)
HERMES = (
    "{{ bos_token }}{% if tools %}{{ '<|system|>' }}{% for tool in tools %}{{ tool | tojson + '\\n' }}{% endfor %}"
    "{{ '<|end|>' }}{% endif %}{% for m in messages %}{{ '<|' + ('user' if m.role == 'tool' else m.role) + '|>' }}"
    "{{ m.content }}"
    + _CALL
    + "{{ '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
LLAMA = (
    HERMES.replace("<tool_call>\\n", "").replace("\\n</tool_call>", "").replace('"arguments"', '"parameters"')
)
ODD = "{{ bos_token }}{{ tools }}{% for m in messages %}{{ m.content }}{% endfor %}"
_PARAMETERS = {
    "type": "object",
    "properties": {"city": {"enum": ["Bern", "Basel"]}, "by_hour": {"type": "boolean"}},
    "required": ["city"],
}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": _PARAMETERS}}
FREE = {
    "type": "function",
    "function": {"name": "note", "parameters": {"properties": {"text": {"type": "string"}}}},
}
TALK: list[dict[str, Any]] = [
    {"role": "user", "content": "Rain in Bern?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "no rain"},
]


def with_template(folder: Path, name: str, template: str) -> HostedModel:
    make_llama(folder)
    for file, change in (
        ("tokenizer_config.json", {"chat_template": template}),
        ("config.json", {"max_position_embeddings": 1024}),
    ):
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    return host(folder, name, "chat", max_tokens=60)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    folder = tmp_path_factory.mktemp("models")
    models = [
        with_template(folder / "hermes", "hermes", HERMES),
        with_template(folder / "llama", "llama", LLAMA),
        with_template(folder / "odd", "odd", ODD),
        host(make_llama(folder / "plain"), "plain", "chat", max_tokens=8),
    ]
    running = RunningEngine(EngineApp(models, internal_key=KEY, n_slots=1))
    yield running
    running.stop()


def renderer_of(engine: RunningEngine, name: str) -> Renderer:
    renderer = engine.app._cells[name].hosted.renderer
    assert isinstance(renderer, Renderer)
    return renderer


async def said_headers(engine: RunningEngine, body: dict[str, Any]) -> dict[str, str]:
    async with (
        ClientSession() as session,
        session.post(f"{engine.url}/v1/chat/completions", json=body, headers=AUTH) as answer,
    ):
        assert answer.status == 200, await answer.text()
        await answer.read()
        return {name.lower(): value for name, value in answer.headers.items()}


def prefix(renderer: Renderer, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> list[int]:
    """Return what a training row holds before the reply to `messages`."""
    whole = [*read_messages(messages), Message(role="assistant", content="It is dry.")]
    row = renderer.render_training(whole, tools=tools, loss_on="last_turn")
    return list(row.ids[: row.mask.index(1)])


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("name", "messages", "tools"),
    [
        ("plain", HELLO, []),
        ("hermes", TALK[:1], [WEATHER]),
        ("hermes", TALK, [WEATHER]),
        ("llama", TALK, [WEATHER]),
        ("hermes", TALK, []),
    ],
)
async def test_what_is_evaluated_is_the_prefix_of_a_training_row_and_the_reply_says_so(
    engine: RunningEngine, name: str, messages: Any, tools: list[dict[str, Any]], streamed: bool
) -> None:
    body = {"model": name, "messages": messages, "max_tokens": 2, "stream": streamed}
    told = await said_headers(engine, body | ({"tools": tools} if tools else {}))
    renderer = renderer_of(engine, name)
    assert told["x-penstock-prompt-ids"] == digest_ids(prefix(renderer, messages, tools))
    assert told["x-penstock-renderer"] == renderer.digest


async def test_ids_that_a_caller_sends_are_told_without_a_renderer(engine: RunningEngine) -> None:
    async with (
        ClientSession() as session,
        session.post(
            f"{engine.url}/v1/completions",
            json={"model": "plain", "prompt": [1, 9, 12], "max_tokens": 1},
            headers=AUTH,
        ) as answer,
    ):
        assert answer.headers["x-penstock-prompt-ids"] == digest_ids([1, 9, 12])
        assert "x-penstock-renderer" not in answer.headers


@pytest.mark.parametrize("name", ["hermes", "llama"])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
async def test_a_forced_call_is_a_call_of_the_tool_streamed_or_not(
    engine: RunningEngine, name: str, choice: Any
) -> None:
    body = {"model": name, "messages": TALK[:1], "tools": [WEATHER], "tool_choice": choice, "max_tokens": 120}
    status, whole = await post(engine, "/v1/chat/completions", body)
    assert status == 200, whole
    (told,) = whole["choices"]
    assert told["finish_reason"] == "tool_calls"
    assert told["message"]["content"] is None
    (call,) = told["message"]["tool_calls"]
    assert (call["type"], call["function"]["name"]) == ("function", "weather")
    arguments = json.loads(call["function"]["arguments"])
    assert arguments.pop("city") in ("Bern", "Basel")
    assert set(arguments) <= {"by_hour"}
    events = await stream(engine, "/v1/chat/completions", body)
    deltas = [event["choices"][0]["delta"] for event in events]
    (streamed,) = [call for delta in deltas for call in delta.get("tool_calls", [])]
    assert streamed["index"] == 0
    assert streamed["function"] == call["function"]
    assert not any(delta.get("content") for delta in deltas)
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("name", ["hermes", "llama"])
async def test_a_call_that_was_cut_is_text(engine: RunningEngine, name: str) -> None:
    body = {"model": name, "messages": TALK[:1], "tools": [FREE], "tool_choice": "required", "max_tokens": 12}
    _, whole = await post(engine, "/v1/chat/completions", body)
    (told,) = whole["choices"]
    assert told["finish_reason"] == "length"
    assert "tool_calls" not in told["message"]
    assert '{"n' in told["message"]["content"]
    events = await stream(engine, "/v1/chat/completions", body)
    text = "".join(event["choices"][0]["delta"].get("content") or "" for event in events)
    assert text == told["message"]["content"]
    assert events[-1]["choices"][0]["finish_reason"] == "length"


async def test_a_model_without_tools_says_so_and_answers_when_none_may_be_called(
    engine: RunningEngine,
) -> None:
    body = {"model": "plain", "messages": HELLO, "tools": [WEATHER]}
    status, told = await post(engine, "/v1/chat/completions", body)
    assert status == 400
    assert told["error"]["param"] == "tools"
    assert "knows no tools" in told["error"]["message"]
    status, told = await post(engine, "/v1/chat/completions", body | {"tool_choice": "none"})
    assert status == 200, told


async def test_a_model_whose_calls_are_of_an_unknown_form_is_refused(engine: RunningEngine) -> None:
    body = {"model": "odd", "messages": HELLO, "tools": [WEATHER]}
    status, told = await post(engine, "/v1/chat/completions", body)
    assert (status, told["error"]["code"]) == (400, "unsupported_parameter")
    assert "writes calls" in told["error"]["message"]


async def test_thoughts_of_other_models_are_left_out_where_the_template_has_no_place(
    engine: RunningEngine,
) -> None:
    said = [*HELLO, {"role": "assistant", "content": "Yes."}, *HELLO]
    thought = [*HELLO, {"role": "assistant", "content": "Yes.", "reasoning_content": "hm"}, *HELLO]
    told = [
        (await said_headers(engine, {"model": "plain", "messages": each, "max_tokens": 1}))
        for each in (said, thought)
    ]
    assert told[0]["x-penstock-prompt-ids"] == told[1]["x-penstock-prompt-ids"]
