"""What the gateway records of calls where rules mask content, or a project keeps none."""

import json

import msgspec
import pytest

from penstock.spec.masks import MaskRule
from penstock.spec.snapshot import Limits
from penstock.telemetry.masks import MASKED
from tests.gateway.conftest import KEY, Bench, key_row, until_ready

EMAIL = MaskRule(name="email", builtin="email")
ASK = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "Who is bob@example.com?"}],
    "user": "ann@example.com",
}


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_what_a_rule_meets_is_masked_in_the_span_and_never_in_the_call(
    bench: Bench, is_streamed: bool
) -> None:
    bench.write(limits=Limits(masks=(EMAIL,)))
    await until_ready(bench)
    response = await bench.post({**ASK, "stream": is_streamed})
    assert response.status == 200
    await response.read()
    assert b"bob@example.com" in bench.upstream.seen[0].body
    (span,) = await bench.sink.wait()
    assert b"@example.com" not in msgspec.json.encode([span.input, span.output, span.attributes])
    assert json.loads(msgspec.json.encode(span.input))["messages"][0]["content"] == "Who is [email]?"
    assert span.attributes[MASKED]["email"] == 2
    assert span.usage is not None


async def test_a_long_payload_is_masked_before_it_is_cut(bench: Bench) -> None:
    bench.write(limits=Limits(masks=(EMAIL,), max_payload_bytes=1000))
    await until_ready(bench)
    text = "x" * 925 + " bob@example.com " + "y" * 500  # the cut falls into the address
    await bench.post({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]})
    (span,) = await bench.sink.wait()
    assert span.input["penstock_cut"]["kept_bytes"] == 1000
    assert "bob" not in span.input["text"]


async def test_a_project_may_keep_no_content_and_its_metadata_stay(bench: Bench) -> None:
    bench.write(
        limits=Limits(project_capture={"secretive": False}),
        keys=[key_row(KEY, "test", project="secretive"), key_row("ps-open-key-0123456789", "open")],
    )
    await until_ready(bench)
    await bench.post(ASK)
    (span,) = await bench.sink.wait()
    assert (span.input, span.output, span.payload_dropped) == (None, None, True)
    assert (span.project, span.usage is not None) == ("secretive", True)
