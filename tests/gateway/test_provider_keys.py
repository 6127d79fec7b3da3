"""Keys and tokens of providers: what comes of a refused one, and that none goes further than its provider."""

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.deploy.snapshots import build_snapshot
from penstock.gateway.answers import Answer, AttemptFailed
from penstock.gateway.arrivals import peek_call
from penstock.gateway.calls import Call
from penstock.gateway.endpoints import CALLS
from penstock.gateway.table import ReadyTarget, Table
from penstock.gateway.verdicts import judge_status
from penstock.spec.routes import Provider, Route, Target
from tests.gateway.conftest import KEY, Bench, until_ready
from tests.gateway.test_faults import ASK, message_of, says
from tests.gateway.upstream import DONE, STREAM, Exchange, chunk


async def test_our_key_refused_by_a_provider_is_not_the_caller_s_401(bench: Bench) -> None:
    bench.write(api_key_env="FAKE_KEY")
    await until_ready(bench)
    bench.upstream.handler = says(b'{"error": {"message": "bad key sk-upstream-secret-123"}}', status=401)
    response = await bench.post(ASK)
    text = await message_of(response)
    assert response.status == 502
    assert "FAKE_KEY" in text
    assert "sk-upstream" not in text


GOOGLE_KEY = {
    "error": {
        "code": 400,
        "message": "API key not valid. Please pass a valid API key.",
        "status": "INVALID_ARGUMENT",
        "details": [
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}
        ],
    }
}  # fmt: skip
OPENAI_KEY = {"error": {"message": "Wrong key.", "type": "invalid_request_error", "code": "invalid_api_key"}}


@pytest.mark.parametrize(
    ("dialect", "status", "body"), [("gemini", 400, GOOGLE_KEY), ("openai", 403, OPENAI_KEY)]
)
async def test_our_key_refused_with_another_status_is_not_the_caller_s_fault_either(
    bench: Bench, dialect: str, status: int, body: dict[str, Any]
) -> None:
    bench.write(dialect=dialect, api_key_env="FAKE_KEY")
    await until_ready(bench)
    bench.upstream.handler = says(json.dumps(body).encode(), status=status, kind="application/json")
    response = await bench.post(ASK)
    text = await message_of(response)
    assert (response.status, json.loads(await response.read())["error"]["code"]) == (502, "PS-4603")
    assert "FAKE_KEY" in text
    assert f"HTTP {status}" in text


async def test_a_refused_key_from_a_secret_names_the_secret(ready: Bench) -> None:
    assert ready.gateway is not None
    table = ready.gateway._watch.table
    assert table is not None
    target = table.routes["triage"].targets[0]
    provider = msgspec.structs.replace(target.provider, secret="the-vault", api_key_env=None)
    call = Call(CALLS["/v1/chat/completions"], None)
    failed = judge_status(call, replace(target, provider=provider), 401, [], b"{}", now_s=0)
    assert "the-vault" in (failed.error.hint or "")


@pytest.mark.parametrize("waits", [False, True])
async def test_a_token_that_a_provider_quotes_goes_no_further(ready: Bench, waits: bool) -> None:
    token = "a-token-that-looks-like-nothing"

    class Signing:
        def __init__(self) -> None:
            self.waits = waits

        def static_headers(self) -> bytes | None:
            return None

        async def headers(self, *_: object) -> list[tuple[bytes, bytes]]:
            return [(b"authorization", b"Bearer " + token.encode())]

    async def quote(exchange: Exchange) -> None:
        told = {"message": f"{exchange.header('authorization')} may not do this", "type": "permission_error"}
        await exchange.reply({"error": told}, status=403)

    ready.upstream.handler = quote
    gateway = ready.gateway
    assert gateway is not None
    table = gateway._watch.table
    assert table is not None
    route = table.routes["gpt-4o-mini"]
    call = Call(CALLS["/v1/chat/completions"], None)
    call.body, call.route = json.dumps(ASK).encode(), route
    peek_call(call, 64)
    exchange: Any = gateway._attempts._asking._exchange
    with pytest.raises(AttemptFailed) as failed:
        await exchange.attempt(call, replace(route.targets[0], signer=Signing()), time.monotonic() + 30)
    answer = failed.value.answer
    assert answer is not None
    assert b"may not do this" in answer.body
    assert token.encode() not in answer.body
    assert token not in str(failed.value.error)
    assert token not in (call.attempt_log[0].message or "")


SECRET = b"sk-sk-upstream-sk"


def target_with_secret() -> ReadyTarget:
    provider = Provider(name="p", base_url="http://127.0.0.1:1/v1", api_key_env="P_KEY")
    route = Route(name="r", targets=(Target(provider="p", model="m"),))
    snapshot = build_snapshot(providers=[provider], routes=[route], keys=[])
    return Table(snapshot, environ={"P_KEY": SECRET.decode()}, internal_key=None).routes["r"].targets[0]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from([SECRET, SECRET[:9], SECRET[:3], SECRET[-2:], b"s", b"\n\n", b"data: "]), max_size=8
    ),
    st.data(),
)
def test_a_key_that_a_provider_echoes_is_masked_however_its_bytes_are_split(
    parts: list[bytes], data: st.DataObject
) -> None:
    target = target_with_secret()
    whole = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    answer = Answer(target, status=200)
    told = b"".join(answer.take(whole[a:b]) for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True))
    assert told + (answer.rest() or b"") == target.mask(whole)
    assert answer.rest() is None


async def test_a_key_echoed_in_two_reads_of_a_stream_does_not_reach_the_client(bench: Bench) -> None:
    bench.write(api_key_env="FAKE_KEY")
    await until_ready(bench)
    first_is_read = asyncio.Event()

    async def echo(exchange: Exchange) -> None:
        event = chunk({"content": "not with sk-upstream-secret-123 here"})
        cut = event.index(b"secret")
        await exchange.begin_stream()
        await exchange.piece(b"".join(STREAM[:2]) + event[:cut])
        await first_is_read.wait()
        await exchange.piece(event[cut:] + STREAM[3] + DONE)
        await exchange.end_stream()

    bench.upstream.handler = echo
    assert bench.client is not None
    response = await bench.client.post(
        f"{bench.url}/v1/chat/completions",
        headers={"authorization": f"Bearer {KEY}"},
        json={**ASK, "stream": True, "stream_options": {"include_usage": True}},
    )
    text = b""
    while b"Drink " not in text:
        text += await response.content.readany()
    first_is_read.set()
    text += await response.content.read()
    assert b"not with ********************** here" in text
    assert b"sk-up" not in text


async def test_what_looks_like_a_key_in_an_error_stands_in_no_span(ready: Bench) -> None:
    told = {"message": "Not with sk-somebody-elses-0123456789.", "type": "permission_error"}
    ready.upstream.handler = says(json.dumps({"error": told}).encode(), status=403, kind="application/json")
    await ready.post(ASK)
    (span,) = await ready.sink.wait()
    assert "sk-somebody" not in msgspec.json.encode([span.status_message, span.events]).decode()


async def test_waiting_for_a_token_ends_with_the_deadline_and_is_not_the_gateway_s_time(
    ready: Bench,
) -> None:
    class Silent:
        """A signer whose token service does not answer."""

        waits = True

        def static_headers(self) -> bytes | None:
            return None

        async def headers(self, *_: object) -> list[tuple[bytes, bytes]]:
            await asyncio.Event().wait()
            raise AssertionError

    gateway = ready.gateway
    assert gateway is not None
    table = gateway._watch.table
    assert table is not None
    route = table.routes["gpt-4o-mini"]
    target = replace(route.targets[0], signer=Silent())
    call = Call(CALLS["/v1/chat/completions"], None)
    call.body, call.route = json.dumps(ASK).encode(), route
    peek_call(call, 64)
    exchange: Any = gateway._attempts._asking._exchange
    with pytest.raises(AttemptFailed) as failed:
        await exchange.attempt(call, target, time.monotonic() + 0.05)
    assert (failed.value.fault, failed.value.was_sent) == ("timeout", False)
    assert failed.value.error.code == "PS-4213"
    assert call.upstream_s > 0.02
    assert ready.upstream.seen == []
