"""Whatever arrives, reading a request gives a checked request or an error of ours, never anything else."""

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.errors import CallerError
from penstock.providers.engines.requests import read_chat, read_completion, read_embedding
from penstock.providers.engines.types import SamplingPolicy

READERS: list[Callable[[bytes], Any]] = [read_chat, read_completion, read_embedding]
_FIELDS = [
    "model", "messages", "prompt", "input", "stream", "stream_options", "temperature", "top_p", "top_k", "min_p",
    "max_tokens", "max_completion_tokens", "stop", "seed", "n", "tools", "tool_choice", "logit_bias", "logprobs",
    "response_format", "encoding_format", "dimensions", "truncate", "user", "functions", "modalities",
]  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "type", "text"]), inner)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("read", READERS)
@given(body=st.dictionaries(st.sampled_from(_FIELDS), json_values, max_size=6))
@settings(max_examples=150, deadline=None)
def test_any_object_is_read_or_refused(read: Callable[[bytes], Any], body: dict[str, Any]) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "prompt": "x", "input": "x"} | body
    keep = {read_chat: "messages", read_completion: "prompt", read_embedding: "input"}[read]
    body = {
        name: value
        for name, value in body.items()
        if name == keep or name not in ("messages", "prompt", "input")
    }
    with contextlib.suppress(CallerError):
        assert read(json.dumps(body).encode()).model == body["model"]


@pytest.mark.parametrize("read", READERS)
@given(body=st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(read: Callable[[bytes], Any], body: bytes) -> None:
    with pytest.raises(CallerError):
        read(body)


def test_every_sampling_parameter_is_set_by_request_or_policy() -> None:
    policy = SamplingPolicy(
        temperature=0.7, top_p=0.9, top_k=40, min_p=0.1, repeat_penalty=1.1, max_tokens=64
    )
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    silent = read_chat(json.dumps(body).encode()).complete_sampling(policy)
    assert (silent.temperature, silent.top_p, silent.top_k, silent.min_p) == (0.7, 0.9, 40, 0.1)
    assert (silent.repeat_penalty, silent.max_tokens, silent.seed, silent.stop) == (1.1, 64, None, ())
    asked = read_chat(
        json.dumps(
            body
            | {
                "temperature": 0,
                "top_p": 0.5,
                "max_completion_tokens": 5,
                "max_tokens": 9,
                "stop": "a",
                "seed": -1,
            }
        ).encode()
    ).complete_sampling(policy)
    assert (asked.temperature, asked.top_p, asked.max_tokens) == (0.0, 0.5, 5)
    assert (asked.stop, asked.seed) == (("a",), 2**32 - 1)


@pytest.mark.parametrize("field", ["user", "metadata", "store", "service_tier", "parallel_tool_calls"])
def test_fields_that_only_describe_the_call_are_left_alone(field: str) -> None:
    read_chat(json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}], field: "y"}).encode())


def test_text_parts_and_the_developer_role_are_read_as_text_and_system() -> None:
    messages = [
        {"role": "developer", "content": "be calm"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ]
    request = read_chat(json.dumps({"model": "m", "messages": messages}).encode())
    assert request.messages is not None
    assert [(message.role, message.content) for message in request.messages] == [
        ("system", "be calm"),
        ("user", "ab"),
    ]
