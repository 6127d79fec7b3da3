"""What was recorded arrives, or is counted: dead collectors, refusals, large bodies, floods, ends of programs."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock.sdk.delivery import Delivery
from penstock.sdk.pipeline import Pipeline
from penstock.sdk.runtime import RUNTIME
from penstock.sdk.sender import DROPPED_HEADER
from penstock.sdk.transport import HttpTransport, judge
from tests.sdk.conftest import KEY, Collector, setup


def leave_spans(count: int, *, size: int = 0, name: str = "s") -> None:
    for number in range(count):
        with penstock.span(f"{name}{number}", input="x" * size if size else number):
            pass


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


def test_flush_says_what_was_acknowledged(sdk: Collector) -> None:
    leave_spans(3)
    penstock.score("a", 1, session_id="s")
    assert penstock.flush() == Delivery(sent=4)
    assert sdk.requests[0][1]["authorization"] == f"Bearer {KEY}"


def test_the_resource_names_the_program(collector: Collector, sdk: Collector) -> None:
    setup(collector, service="shop", release="1.2", environment="staging")
    leave_spans(1)
    penstock.flush()
    resource = sdk.spans[0].resource
    assert resource["service.name"] == "shop"
    assert resource["service.version"] == "1.2"
    assert resource["deployment.environment.name"] == "staging"


def test_while_nobody_answers_spans_wait_on_disk_and_arrive_once_somebody_does(
    collector: Collector, spilling: Path
) -> None:
    collector.answer = lambda path, body: (503, b'{"error":{"message":"not now"}}')
    leave_spans(3)
    penstock.score("a", 1, session_id="s")
    waiting = penstock.flush()
    assert (waiting.sent, waiting.pending, waiting.spilled) == (0, 4, 4)
    assert waiting.problem == "HTTP 503: not now"
    assert not waiting.is_complete
    leave_spans(2, name="later")
    assert penstock.flush().spilled == 6
    assert {path.stat().st_mode & 0o777 for path in files_in(spilling)} == {0o600}
    collector.answer = lambda path, body: (200, b"{}")
    assert penstock.flush() == Delivery(sent=6)
    assert sorted(span.name for span in collector.spans) == ["later0", "later1", "s0", "s1", "s2"]
    assert len(collector.scores) == 1
    assert files_in(spilling) == []


def test_what_waits_is_sent_without_being_asked(collector: Collector, spilling: Path) -> None:
    answered = threading.Event()
    states = iter([(503, b"")])

    def answer(path: str, body: bytes) -> tuple[int, bytes]:
        status = next(states, (200, b"{}"))
        if status[0] == 200:
            answered.set()
        return status

    collector.answer = answer
    leave_spans(1)
    assert answered.wait(120)
    assert penstock.flush().is_complete
    assert len(collector.spans) == 1


def test_a_collector_that_is_not_there_holds_nobody_up(sdk: Collector) -> None:
    setup(sdk, url="http://127.0.0.1:9")
    leave_spans(2)
    delivery = penstock.flush()
    assert (delivery.pending, delivery.sent) == (2, 0)
    assert "did not answer" in (delivery.problem or "")


def test_what_another_process_left_behind_is_sent(collector: Collector, spilling: Path) -> None:
    collector.answer = lambda path, body: (503, b"")
    leave_spans(2)
    penstock.flush()
    penstock.shutdown()
    assert len(files_in(spilling)) >= 1
    collector.answer = lambda path, body: (200, b"{}")
    setup(collector, spill=spilling)
    with penstock.span("new"):
        pass
    assert penstock.flush().sent == 1  # of this set-up's own
    assert sorted(span.name for span in collector.spans) == ["new", "s0", "s1"]


def test_what_waited_for_one_key_is_not_sent_with_another(collector: Collector, spilling: Path) -> None:
    collector.answer = lambda path, body: (503, b"")
    leave_spans(1)
    penstock.flush()
    setup(collector, spill=spilling, key="ps-another-project-000000")
    collector.answer = lambda path, body: (200, b"{}")
    with penstock.span("other"):
        pass
    penstock.flush()
    assert [span.name for span in collector.spans] == ["other"]
    assert len(files_in(spilling)) == 1


def test_what_another_process_sent_counts_as_sent(collector: Collector, spilling: Path) -> None:
    collector.answer = lambda path, body: (503, b"")
    leave_spans(2)
    assert penstock.flush().spilled == 2
    first, settings = RUNTIME.pipeline, RUNTIME.settings
    assert first is not None
    assert settings is not None
    collector.answer = lambda path, body: (200, b"{}")
    other = Pipeline(settings)
    assert other.flush(10) == Delivery()
    assert len(collector.spans) == 2
    assert first.flush(10) == Delivery(sent=2, problem="HTTP 503: no text")
    other.close(5)


def test_what_was_left_half_written_is_cleared_away_later(collector: Collector, spilling: Path) -> None:
    collector.answer = lambda path, body: (503, b"")
    leave_spans(1)
    penstock.flush()
    (whole,) = files_in(spilling)
    old, new = whole.with_name(".old.batch"), whole.with_name(".new.batch")
    for path in (old, new):
        path.write_bytes(b"{")
    os.utime(old, (1, 1))
    collector.answer = lambda path, body: (200, b"{}")
    setup(collector, spill=spilling)
    leave_spans(1)
    penstock.flush()
    assert files_in(spilling) == [new]


def test_a_damaged_file_stops_nothing(collector: Collector, spilling: Path) -> None:
    collector.answer = lambda path, body: (503, b"")
    leave_spans(1)
    penstock.flush()
    (path,) = files_in(spilling)
    path.with_name("00000000000000000000-1-0.batch").write_bytes(b"\x00garbage")
    collector.answer = lambda path, body: (200, b"{}")
    setup(collector, spill=spilling)
    with penstock.span("new"):
        pass
    penstock.flush()
    assert sorted(span.name for span in collector.spans) == ["new", "s0"]
    assert files_in(spilling) == []


def test_a_full_spill_folder_drops_and_counts(collector: Collector, sdk: Collector, tmp_path: Path) -> None:
    setup(collector, spill=tmp_path, max_spill_bytes=2000)
    collector.answer = lambda path, body: (503, b"")
    leave_spans(1, size=1000)
    assert penstock.flush().spilled == 1
    leave_spans(2, size=1000)
    delivery = penstock.flush()
    assert (delivery.spilled, delivery.dropped) == (1, 2)
    collector.answer = lambda path, body: (200, b"{}")
    delivery = penstock.flush()
    assert (delivery.sent, delivery.dropped, delivery.pending) == (1, 2, 0)
    assert [request[1].get(DROPPED_HEADER) for request in collector.requests] == ["2"]


def test_a_folder_that_cannot_be_written_drops_and_counts(
    collector: Collector, sdk: Collector, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    setup(collector, spill=tmp_path / "file")
    collector.answer = lambda path, body: (503, b"")
    leave_spans(2)
    assert penstock.flush().dropped == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refusal_is_counted_and_told(sdk: Collector, status: int, caplog: pytest.LogCaptureFixture) -> None:
    sdk.answer = lambda path, body: (status, b'{"error":{"message":"no such key"}}')
    leave_spans(2)
    assert penstock.flush() == Delivery(failed=2, problem=f"HTTP {status}: no such key")
    assert "no such key" in caplog.text


def test_spans_left_out_of_an_accepted_request_are_failures(sdk: Collector) -> None:
    reply = {"partialSuccess": {"rejectedSpans": "1", "errorMessage": "span 's0': no start"}}
    sdk.answer = lambda path, body: (200, json.dumps(reply).encode())
    leave_spans(3)
    assert penstock.flush() == Delivery(sent=2, failed=1, problem="span 's0': no start")


def test_a_body_that_is_too_large_is_halved_and_at_last_sent_without_payload(sdk: Collector) -> None:
    sdk.answer = lambda path, body: (413, b"") if len(body) > 4000 else (200, b"{}")
    leave_spans(6, size=800)
    leave_spans(1, size=8000, name="large")
    delivery = penstock.flush()
    assert (delivery.sent, delivery.failed, delivery.payloads_dropped) == (7, 0, 1)
    assert sdk.span("large0").attributes["penstock.payload_dropped"] is True
    assert sdk.span("large0").input is None
    assert sdk.span("s5").input == "x" * 800


def test_memory_is_bounded_payloads_go_before_spans_and_the_trace_says_so(
    collector: Collector, sdk: Collector
) -> None:
    setup(collector, max_buffer_bytes=40_000, interval_s=0.001)
    collector.gate.clear()  # the first request hangs, everything after it has to wait in memory
    leave_spans(1, name="first")
    with penstock.span("root"):
        leave_spans(200, size=1000)
    pipeline = RUNTIME.pipeline
    assert pipeline is not None
    assert pipeline._bytes <= 40_000 * 1.25
    delivery = pipeline.delivery
    assert delivery.dropped > 0
    assert delivery.payloads_dropped > 0
    collector.gate.set()
    delivery = penstock.flush()
    assert delivery.sent + delivery.dropped == 202
    assert delivery.pending == 0
    leave_spans(1, name="after")
    penstock.flush()
    told = [int(headers[DROPPED_HEADER]) for _, headers, _ in sdk.requests if DROPPED_HEADER in headers]
    assert sum(told) == delivery.dropped
    kept = [span for span in sdk.spans if span.name.startswith("s")]
    assert any(span.attributes.get("penstock.payload_dropped") for span in kept)
    assert pipeline._bytes == 0


def test_a_trace_that_lost_spans_says_how_many(collector: Collector, sdk: Collector) -> None:
    pipeline = RUNTIME.pipeline
    assert pipeline is not None
    with penstock.span("root") as root:
        pipeline._note_loss(int(root.trace_id or "", 16))
        pipeline._note_loss(int(root.trace_id or "", 16))
    penstock.flush()
    assert sdk.span("root").attributes["penstock.lost_spans"] == 2


def test_a_long_payload_is_cut_and_says_so(collector: Collector, sdk: Collector) -> None:
    setup(collector, max_payload_bytes=100)
    leave_spans(1, size=5000)
    penstock.flush()
    assert "characters more" in sdk.spans[0].input
    assert len(sdk.spans[0].input) < 150


def test_text_that_is_not_unicode_costs_no_span(sdk: Collector) -> None:
    with penstock.span("odd\ud800", input={"k\udfff": "v\ud800", "n": float("nan"), "big": 2**70}) as it:
        it.set("x", "\udc00")
    assert penstock.flush() == Delivery(sent=1)
    assert sdk.spans[0].input == {"k?": "v?", "n": None, "big": str(2**70)}


def test_one_span_that_cannot_be_encoded_does_not_take_others_along(
    sdk: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    from penstock.sdk import sender

    real = sender.encode_span

    def encode(record: Any, settings: Any) -> bytes:
        if record.span.name == "s1":
            raise ValueError("broken")
        return real(record, settings)

    monkeypatch.setattr(sender, "encode_span", encode)
    leave_spans(3)
    delivery = penstock.flush()
    assert (delivery.sent, delivery.failed) == (2, 1)


def test_a_connection_that_breaks_in_an_unknown_way_loses_nothing(
    collector: Collector, sdk: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(HttpTransport, "post", lambda *_: 1 / 0)
        leave_spans(2)
        delivery = penstock.flush()
    assert (delivery.pending, delivery.problem) == (2, "ZeroDivisionError: division by zero")
    assert penstock.flush() == Delivery(sent=2)


def test_retry_after_is_heeded() -> None:
    assert judge(429, b"", "7").retry_after_s == 7.0
    assert judge(503, b"", "Wed, 21 Oct 2015 07:28:00 GMT").retry_after_s == 0.0
    assert judge(503, b"", "soon").retry_after_s is None
    assert judge(500, b"<html>").verdict == "away"


# -- the end of the program


def run(code: str, collector: Collector, spill: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")},
        "PENSTOCK_URL": collector.url,
        "PENSTOCK_KEY": KEY,
        "PENSTOCK_SPILL": str(spill),
        **environment,
    }
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=given,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_a_program_that_just_ends_has_delivered(collector: Collector, tmp_path: Path) -> None:
    done = run(
        """
        import penstock
        @penstock.observe
        def work(): return 1
        for _ in range(50): work()
        """,
        collector,
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(collector.spans) == 50


def test_a_program_that_ends_while_nobody_answers_leaves_its_spans_on_disk(
    collector: Collector, tmp_path: Path
) -> None:
    collector.gate.clear()  # the request hangs until after the program's end
    done = run(
        """
        import penstock
        penstock.configure(exit_timeout_s=0.2)
        for number in range(20):
            with penstock.span(f"s{number}"): pass
        """,
        collector,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    collector.gate.set()
    held = b"".join(path.read_bytes() for path in files_in(tmp_path))
    assert [f'"s{number}"'.encode() in held for number in range(20)] == [True] * 20


def test_a_forked_child_sends_its_own_spans_and_none_twice(collector: Collector, tmp_path: Path) -> None:
    done = run(
        """
        import os, warnings
        warnings.simplefilter("ignore")
        import penstock
        with penstock.span("before"): pass
        with penstock.span("around") as around:
            child = os.fork()
            if child == 0:
                with penstock.span("in child"): pass
                assert penstock.flush().sent == 1
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            with penstock.span("in parent"): pass
        assert penstock.flush().sent == 3
        """,
        collector,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(span.name for span in collector.spans) == ["around", "before", "in child", "in parent"]
    assert len({span.id for span in collector.spans}) == 4
    assert collector.span("in child").parent == collector.span("around").id


def test_without_a_key_nothing_is_recorded_and_one_line_says_so(collector: Collector, tmp_path: Path) -> None:
    done = run(
        """
        import threading, penstock
        @penstock.observe
        def work(): return 1
        assert [work() for _ in range(3)] == [1, 1, 1]
        with penstock.span("x") as it: it.update(output=1); assert it.trace_id is None
        assert penstock.flush() == penstock.Delivery()
        assert threading.active_count() == 1
        """,
        collector,
        tmp_path,
        PENSTOCK_KEY="",
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("PENSTOCK_KEY") == 1
    assert collector.requests == []


@pytest.mark.parametrize("variable", [{"PENSTOCK_TRACING": "off"}, {"OTEL_SDK_DISABLED": "true"}])
def test_one_variable_switches_everything_off(
    collector: Collector, tmp_path: Path, variable: dict[str, str]
) -> None:
    done = run(
        "import penstock\nwith penstock.span('x'): pass\npenstock.flush()", collector, tmp_path, **variable
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert collector.requests == []


def test_a_wrong_variable_is_told_and_passed_over(collector: Collector, tmp_path: Path) -> None:
    code = "import penstock\nwith penstock.span('x'): pass\npenstock.flush()"
    done = run(code, collector, tmp_path, PENSTOCK_SAMPLE="many", PENSTOCK_CAPTURE="perhaps")
    assert done.returncode == 0
    assert "PENSTOCK_SAMPLE" in done.stderr
    assert "PENSTOCK_CAPTURE" in done.stderr
    assert len(collector.spans) == 1


def test_a_platform_that_freezes_processes_gets_each_trace_at_its_end(
    collector: Collector, tmp_path: Path
) -> None:
    code = """
        import os, signal, penstock
        with penstock.span("root"):
            with penstock.span("child"): pass
        os.kill(os.getpid(), signal.SIGKILL)
        """
    done = run(code, collector, tmp_path, AWS_LAMBDA_FUNCTION_NAME="answer")
    assert done.returncode == -signal.SIGKILL
    assert sorted(span.name for span in collector.spans) == ["child", "root"]


def test_configure_refuses_what_means_nothing() -> None:
    for wrong in ({"url": "ftp://x"}, {"sample": 2.0}, {"timeout_s": 0}, {"redact": "password"}):
        with pytest.raises(penstock.sdk.errors.SdkSettingInvalid):  # type: ignore[attr-defined]
            penstock.configure(**wrong)  # type: ignore[arg-type]
