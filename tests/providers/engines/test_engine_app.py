"""The engine front over a real server on loopback, with a tiny random model that really generates."""

import base64
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from aiohttp import ClientSession

from penstock.providers.engines.app import EngineApp
from penstock.providers.engines.types import HostedModel, SamplingPolicy, ServedModel
from penstock.tuning.convert.architectures import read_shape
from penstock.tuning.convert.gguf_file import convert_folder
from penstock.tuning.renderer import build_renderer, read_renderer_spec
from tests.tuning.tiny_models import make_bert, make_llama

KEY = "internal-test-key"
AUTH = {"Authorization": f"Bearer {KEY}"}
HELLO = [{"role": "user", "content": "Walk every day."}]


def host(folder: Path, name: str, kind: Any, **policy: Any) -> HostedModel:
    gguf = folder / "model.gguf"
    convert_folder(folder, gguf, precision="f16")
    renderer = build_renderer(read_renderer_spec(folder), (folder / "tokenizer.json").read_bytes())
    served = ServedModel(
        name=name,
        kind=kind,
        version=f"model:{name}@1 sha256:0",
        gguf=gguf,
        renderer=folder / "renderer.json",
        tokenizer=folder / "tokenizer.json",
        context_length=read_shape(folder).context_length,
        dims=32 if kind == "embedding" else None,
        sampling=SamplingPolicy(**policy),
    )
    return HostedModel(served=served, renderer=renderer)


class RunningEngine:
    """An engine front on a free port, in a thread of this process."""

    def __init__(self, app: EngineApp) -> None:
        self.app = app
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="on")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    folder = tmp_path_factory.mktemp("models")
    broken = host(make_llama(folder / "broken"), "broken", "chat")
    broken.served.gguf.write_bytes(b"GGUF but not really")
    running = RunningEngine(
        EngineApp(
            [
                host(make_llama(folder / "llama"), "tiny", "chat", max_tokens=8),
                host(make_bert(folder / "bert"), "tinybert", "embedding"),
                broken,
            ],
            internal_key=KEY,
            n_slots=2,
            max_waiting=2,
        )
    )
    yield running
    running.stop()


async def post(engine: RunningEngine, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with (
        ClientSession() as session,
        session.post(engine.url + path, data=data, headers=AUTH | headers) as answer,
    ):
        return answer.status, await answer.json()


async def stream(engine: RunningEngine, path: str, body: dict[str, Any]) -> list[Any]:
    async with (
        ClientSession() as session,
        session.post(engine.url + path, json=body | {"stream": True}, headers=AUTH) as answer,
    ):
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [line[6:].strip() async for line in answer.content if line.startswith(b"data: ")]
    assert events[-1] == b"[DONE]"
    return [json.loads(event) for event in events[:-1]]


async def test_a_chat_reply_has_openai_shape_and_exact_usage(engine: RunningEngine) -> None:
    status, body = await post(
        engine, "/v1/chat/completions", {"model": "tiny", "messages": HELLO, "max_tokens": 5}
    )
    assert status == 200
    assert body["object"] == "chat.completion"
    assert body["model"] == "tiny"
    assert body["choices"][0]["message"]["role"] == "assistant"
    assert body["choices"][0]["finish_reason"] in ("stop", "length")
    renderer = engine.app._cells["tiny"].hosted.renderer
    text = (await post(engine, "/v1/completions", {"model": "tiny", "prompt": "Walk"}))[1]
    assert text["object"] == "text_completion"
    assert 1 <= body["usage"]["completion_tokens"] <= 5
    n_prompt = len(renderer.encode_texts(["Walk every day."])[0]) + 4  # bos, role, end, role
    assert body["usage"]["prompt_tokens"] == n_prompt
    assert body["usage"]["total_tokens"] == n_prompt + body["usage"]["completion_tokens"]


async def test_the_models_own_sampling_policy_holds_when_the_request_is_silent(engine: RunningEngine) -> None:
    _, first = await post(engine, "/v1/chat/completions", {"model": "tiny", "messages": HELLO})
    _, again = await post(engine, "/v1/chat/completions", {"model": "tiny", "messages": HELLO})
    assert first["usage"]["completion_tokens"] <= 8
    assert first["choices"] == again["choices"]  # greedy


async def test_a_stream_carries_the_same_text_and_usage_as_the_whole_reply(engine: RunningEngine) -> None:
    body = {"model": "tiny", "messages": HELLO, "max_tokens": 6}
    _, whole = await post(engine, "/v1/chat/completions", body)
    events = await stream(engine, "/v1/chat/completions", body | {"stream_options": {"include_usage": True}})
    text = "".join(event["choices"][0]["delta"].get("content", "") for event in events if event["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    assert events[-2]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert len({event["id"] for event in events}) == 1


async def test_a_stream_without_asking_has_no_usage(engine: RunningEngine) -> None:
    events = await stream(engine, "/v1/completions", {"model": "tiny", "prompt": "Walk", "max_tokens": 3})
    assert all("usage" not in event for event in events)
    assert events[-1]["choices"][0]["finish_reason"] in ("stop", "length")


async def test_a_prompt_beyond_the_context_is_refused_with_both_counts(engine: RunningEngine) -> None:
    long = [{"role": "user", "content": "walk " * 400}]
    for streamed in (False, True):
        status, body = await post(
            engine, "/v1/chat/completions", {"model": "tiny", "messages": long, "stream": streamed}
        )
        assert status == 400
        assert body["error"]["code"] == "context_length_exceeded"
        assert body["error"]["type"] == "invalid_request_error"
        assert "256" in body["error"]["message"]


async def test_stop_texts_end_the_reply_and_are_not_in_it(engine: RunningEngine) -> None:
    body = {"model": "tiny", "messages": HELLO, "max_tokens": 30, "seed": 5, "temperature": 1.5}
    _, free = await post(engine, "/v1/chat/completions", body)
    text = free["choices"][0]["message"]["content"]
    # a random model babbles half characters; the engine looks for stops in whole ones
    stop = next(char for char in text.partition("\ufffd")[0] if char.isascii() and char.isprintable())
    _, stopped = await post(engine, "/v1/chat/completions", body | {"stop": [stop]})
    assert stopped["choices"][0]["message"]["content"] == text[: text.index(stop)]
    assert stopped["choices"][0]["finish_reason"] == "stop"


async def test_a_reply_asked_for_as_json_starts_as_an_object(engine: RunningEngine) -> None:
    body = {"model": "tiny", "messages": HELLO, "response_format": {"type": "json_object"}}
    _, answer = await post(engine, "/v1/chat/completions", body)
    assert answer["choices"][0]["message"]["content"].startswith("{")


@pytest.mark.parametrize(
    "prompt", [[], [1, -1], [1, 2**40], [1, 99_999], ["a", "b"], [[1], [2]], [1.5], {"a": 1}]
)
async def test_a_prompt_of_another_form_or_with_unknown_ids_is_refused(
    engine: RunningEngine, prompt: Any
) -> None:
    status, body = await post(engine, "/v1/completions", {"model": "tiny", "prompt": prompt})
    assert status == 400
    assert body["error"]["type"] == "invalid_request_error"


async def test_the_same_seed_gives_the_same_reply(engine: RunningEngine) -> None:
    body = {"model": "tiny", "messages": HELLO, "temperature": 1.0, "seed": -3, "max_tokens": 8}
    replies = {
        (await post(engine, "/v1/chat/completions", body))[1]["choices"][0]["message"]["content"]
        for _ in range(3)
    }
    assert len(replies) == 1


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"logprobs": True}, "logprobs"),
        ({"temprature": 0.5}, "temprature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0]"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}, "response_format"),
    ],
)
async def test_what_the_engine_does_not_do_is_refused_by_name(
    engine: RunningEngine, change: dict[str, Any], param: str
) -> None:
    status, body = await post(engine, "/v1/chat/completions", {"model": "tiny", "messages": HELLO} | change)
    assert status == 400
    assert body["error"]["param"] == param


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model": 5}', b"\xff\xfe", b"[" * 100_000])
async def test_bodies_that_are_not_requests_get_an_openai_error(engine: RunningEngine, body: bytes) -> None:
    status, answer = await post(engine, "/v1/chat/completions", body)
    assert status == 400
    assert answer["error"]["message"]


async def test_an_unknown_model_is_told_the_known_ones(engine: RunningEngine) -> None:
    status, body = await post(engine, "/v1/chat/completions", {"model": "tine", "messages": HELLO})
    assert status == 404
    assert "tiny" in body["error"]["message"]
    assert body["error"]["code"] == "model_not_found"


async def test_a_model_that_did_not_load_says_so_and_the_others_answer(engine: RunningEngine) -> None:
    status, body = await post(engine, "/v1/chat/completions", {"model": "broken", "messages": HELLO})
    assert status == 502
    assert "did not load" in body["error"]["message"]
    async with ClientSession() as session, session.get(engine.url + "/health") as answer:
        assert await answer.json() == {"status": "degraded", "failed": ["broken"]}


async def test_only_the_internal_key_opens(engine: RunningEngine) -> None:
    for headers in ({"Authorization": "Bearer wrong"}, {"Authorization": KEY}, {"Authorization": "Bearer é"}):
        status, body = await post(
            engine, "/v1/chat/completions", {"model": "tiny", "messages": HELLO}, **headers
        )
        assert status == 401
        assert KEY not in json.dumps(body)


async def test_models_are_listed_with_the_lexical_embedder(engine: RunningEngine) -> None:
    async with ClientSession() as session, session.get(engine.url + "/v1/models", headers=AUTH) as answer:
        rows = {row["id"]: row for row in (await answer.json())["data"]}
    assert set(rows) == {"tiny", "tinybert", "broken", "lexical"}
    assert "nothing of meaning" in rows["lexical"]["description"]


async def test_many_texts_are_embedded_in_one_call_and_in_order(engine: RunningEngine) -> None:
    texts = [f"walk {number} minutes and drink water" for number in range(70)]
    status, body = await post(engine, "/v1/embeddings", {"model": "tinybert", "input": texts})
    assert status == 200
    rows = np.array([item["embedding"] for item in body["data"]])
    _, single = await post(
        engine, "/v1/embeddings", {"model": "tinybert", "input": texts[40], "encoding_format": "base64"}
    )
    alone = np.frombuffer(base64.b64decode(single["data"][0]["embedding"]), dtype="<f4")
    assert rows.shape == (70, 32)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert rows[40] @ alone > 0.9999
    assert single["usage"]["prompt_tokens"] == len(
        engine.app._cells["tinybert"].hosted.renderer.encode_texts([texts[40]])[0]
    )


async def test_a_text_too_long_to_embed_is_refused_or_cut_openly(engine: RunningEngine) -> None:
    body = {"model": "tinybert", "input": ["short", "walk " * 100]}
    status, refused = await post(engine, "/v1/embeddings", body)
    assert status == 400
    assert refused["error"]["code"] == "context_length_exceeded"
    assert "64" in refused["error"]["message"]
    status, cut = await post(engine, "/v1/embeddings", body | {"truncate": True})
    assert status == 200
    assert cut["truncated"] == [1]


@pytest.mark.parametrize("given", [[], "", ["a", ""], [["a"]], 5, [1, -2], [2**40], {"a": 1}, [1.5]])
async def test_embedding_input_of_another_form_is_refused(engine: RunningEngine, given: Any) -> None:
    status, body = await post(engine, "/v1/embeddings", {"model": "tinybert", "input": given})
    assert status == 400
    assert body["error"]["param"] == "input"


async def test_the_lexical_embedder_says_what_it_is(engine: RunningEngine) -> None:
    status, body = await post(
        engine, "/v1/embeddings", {"model": "lexical", "input": ["sleep well", "well, sleep!"]}
    )
    assert status == 200
    assert "knows nothing of meaning" in body["note"]
    first, second = (np.array(item["embedding"]) for item in body["data"])
    assert first @ second == pytest.approx(1.0)


async def test_a_model_is_not_asked_for_what_it_does_not_do(engine: RunningEngine) -> None:
    for path, body in (
        ("/v1/embeddings", {"model": "tiny", "input": "x"}),
        ("/v1/chat/completions", {"model": "tinybert", "messages": HELLO}),
        ("/v1/chat/completions", {"model": "lexical", "messages": HELLO}),
    ):
        status, answer = await post(engine, path, body)
        assert status == 400
        assert answer["error"]["param"] == "model"


async def test_unknown_paths_are_told(engine: RunningEngine) -> None:
    assert (await post(engine, "/v1/nothing", {}))[0] == 404
