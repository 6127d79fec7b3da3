"""Calls that an observed program makes through a real gateway with the official client hang below its spans."""

import asyncio

import openai

import penstock
from tests.gateway.conftest import KEY, Bench
from tests.sdk.conftest import Collector, collector, sdk

__all__ = ["collector", "sdk"]  # fixtures


async def test_a_hook_of_the_client_is_enough(ready: Bench, sdk: Collector) -> None:
    @penstock.observe(kind="agent")
    async def answer(client: openai.AsyncOpenAI) -> None:
        await client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "Hi"}]
        )

    hooks = {"request": [penstock.inject_async]}
    sockets = openai.DefaultAsyncHttpxClient(event_hooks=hooks)
    async with openai.AsyncOpenAI(base_url=f"{ready.url}/v1", api_key=KEY, http_client=sockets) as client:
        with penstock.attributes(session_id="s1", user_id="ada"):
            await answer(client)
        await client.chat.completions.create(model="triage", messages=[{"role": "user", "content": "Hi"}])
    await asyncio.to_thread(penstock.flush)
    below, alone = await ready.sink.wait(2)
    (ours,) = sdk.spans
    assert (below.trace_id, below.parent_id) == (ours.trace, ours.id)
    assert (below.session_id, below.user_id) == ("s1", "ada")
    assert alone.trace_id != ours.trace
    assert alone.parent_id is None


async def test_headers_of_one_call_are_enough(ready: Bench, sdk: Collector) -> None:
    async with openai.AsyncOpenAI(base_url=f"{ready.url}/v1", api_key=KEY) as client:
        with penstock.span("ask") as it:
            await client.chat.completions.create(
                model="gpt-4o-mini",
                messages=[{"role": "user", "content": "Hi"}],
                extra_headers=penstock.headers(),
            )
    (span,) = await ready.sink.wait()
    assert (span.trace_id, span.parent_id) == (it.trace_id, it.span_id)
