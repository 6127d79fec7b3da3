"""What the gateway records of calls where rules mask content, or a project keeps none."""

import asyncio
import json
import os
import threading
from pathlib import Path

import msgspec
import pytest

from penstock.deploy.snapshots import build_snapshot, write_snapshot
from penstock.gateway.journal import Journal, OpenedFor
from penstock.gateway.serve import recover_in_background
from penstock.main.journal_watch import JournalWatch
from penstock.providers.prices import PriceBook
from penstock.spec.masks import MaskRule
from penstock.spec.snapshot import Limits
from penstock.telemetry.edge import SnapshotEdge
from penstock.telemetry.masks import MASKED
from penstock.telemetry.spool import SpoolReader, open_writer
from tests.gateway.conftest import KEY, Bench, key_row, until_ready
from tests.gateway.upstream import Exchange, answer

EMAIL = MaskRule(name="email", builtin="email")
IDENTITY = MaskRule(name="email", builtin="email", where=("identity",))
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


async def test_without_content_no_message_of_an_error_is_kept(bench: Bench) -> None:
    """Providers quote in them what was asked."""

    async def quote(exchange: Exchange) -> None:
        status = 503 if len(bench.upstream.seen) < 2 else 400
        await exchange.reply({"error": {"message": "cannot do 'Who is bob@example.com?'"}}, status=status)

    bench.upstream.handler = quote
    bench.write(limits=Limits(capture_payloads=False))
    await until_ready(bench)
    for _ in range(2):
        await bench.post(ASK)
    spans = await bench.sink.wait(2)
    record = msgspec.json.encode(spans)
    assert b"bob@" not in record
    assert b"cannot do" not in record
    assert {span.status for span in spans} == {"error"}
    assert all(span.error_code for span in spans)


async def test_the_journal_holds_no_name_that_a_rule_meets(bench: Bench, tmp_path: Path) -> None:
    go_on, asked = asyncio.Event(), asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        asked.set()
        await go_on.wait()
        await answer(exchange)

    bench.upstream.handler = slow
    bench.write(limits=Limits(masks=(IDENTITY,)))
    await until_ready(bench)
    assert bench.gateway is not None
    bench.gateway._recorder._journal = Journal(tmp_path / "journal")
    asking = asyncio.create_task(bench.post(ASK))
    await asked.wait()
    (path,) = (tmp_path / "journal").glob("*.bin")
    data = path.read_bytes()
    go_on.set()
    await asking
    assert b"[email]" in data
    assert b"ann@example.com" not in data


@pytest.mark.parametrize("finder", ["control process", "gateway"])
def test_what_a_killed_worker_left_passes_the_rules_before_it_is_written(tmp_path: Path, finder: str) -> None:
    snapshot = tmp_path / "current.json"
    limits = Limits(masks=(IDENTITY,))
    write_snapshot(snapshot, build_snapshot(providers=[], routes=[], keys=[], limits=limits))
    folder = tmp_path / "journal"
    journal = Journal(folder, n_slots=2)  # of a worker that began before there was a rule
    common = OpenedFor("chat", "default", None, "r", "p", "local", "m", None, None).packed()
    journal.begin(
        "a" * 32,
        "b" * 16,
        None,
        is_first=True,
        start_ns=1_790_000_000_000_000_000,
        input_tokens=5,
        user_id="ann@example.com",
        session_id=None,
        common=common,
    )
    journal._map.close()
    os.close(journal._descriptor)
    spool = open_writer(tmp_path / "spool", "any")
    if finder == "gateway":
        stop = recover_in_background(folder, spool, PriceBook(), snapshot)
        waiting = threading.Event()
        while any(folder.glob("*.bin")):
            waiting.wait(0.01)
        stop.set()
    else:
        assert JournalWatch(folder, spool, SnapshotEdge(snapshot), lambda: None).run_once() == 1
    (record,) = SpoolReader(spool.folder).read().payloads
    spool.close()
    assert b"ann@example.com" not in record
    assert b'"user_id":"[email]"' in record
