"""What observing costs the program: microseconds a span on its own thread, beside OpenTelemetry's SDK in the same run.

    python bench/sdk.py [--spans 20000] [--rounds 5] [--record]

Every way leaves the same: a span around a function of two arguments, with its input and output as JSON and six
attributes, exported to a collector on this machine that acknowledges everything. `plain` is the bare function.
`otel-batch` is OpenTelemetry's TracerProvider with a BatchSpanProcessor and its OTLP/HTTP protobuf exporter, the
program writing JSON into attributes as instrumentations do. Rounds alternate; the median of the rounds is shown: a
call's mean, median, 99th percentile and maximum (a sender's thread that holds the interpreter shows there), and the
processor time a span of all threads of the process. `lost` is what did not arrive.
"""

import argparse
import json
import multiprocessing
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "sdk.jsonl"
QUESTION = {
    "role": "user",
    "content": "How many hours of sleep do most adults need, and what about naps? " * 4,
}
ANSWER = {"choices": [{"message": {"role": "assistant", "content": "Seven to nine hours a night. " * 8}}]}


def serve(ready: Any, counted: Any) -> None:
    """Acknowledge everything, count spans roughly by their names."""
    import http.server

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            with counted.get_lock():
                counted.value += body.count(b"bench-span")
            self.send_response(200)
            is_json = self.headers["content-type"] == "application/json"
            reply = b"{}" if is_json else b""
            self.send_header("content-type", self.headers["content-type"])
            self.send_header("content-length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    ready.put(server.server_port)
    server.serve_forever()


def work(question: Any, limit: int) -> Any:  # noqa: ARG001
    """What is observed: as good as nothing."""
    return ANSWER


Finish = Callable[[], None]


def repeat(call: Callable[[int], Any], n: int) -> list[float]:
    """Return the seconds of each call. Every hundred calls the program waits a moment, as programs do."""
    spent = []
    for number in range(n):
        started = time.perf_counter()
        call(number)
        spent.append(time.perf_counter() - started)
        if number % 100 == 99:
            time.sleep(0.001)
    return spent


def run_plain(_: str, n: int) -> tuple[list[float], Finish]:
    return repeat(lambda number: work(QUESTION, number), n), lambda: None


def run_penstock(url: str, n: int) -> tuple[list[float], Finish]:
    import penstock

    penstock.configure(url=url, key="ps-bench", service="bench", spill=False, max_buffer_bytes=1 << 30)
    observed = penstock.observe(name="bench-span", kind="llm")(work_penstock)
    spent = repeat(lambda number: observed(QUESTION, number), n)

    def finish() -> None:
        delivery = penstock.flush(120)
        assert delivery.is_complete, delivery
        penstock.shutdown()

    return spent, finish


def work_penstock(question: Any, limit: int) -> Any:  # noqa: ARG001
    import penstock

    penstock.update(
        model="gpt", provider="openai", usage={"input": 80, "output": 40}, session_id="s", user_id="u"
    )
    return ANSWER


def run_otel(url: str, n: int) -> tuple[list[float], Finish]:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource({"service.name": "bench"}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{url}/v1/traces")))
    tracer = provider.get_tracer("bench")

    def call(number: int) -> None:
        with tracer.start_as_current_span("bench-span") as span:
            span.set_attribute("openinference.span.kind", "LLM")
            span.set_attribute("input.value", json.dumps({"question": QUESTION, "limit": number}))
            span.set_attribute("gen_ai.request.model", "gpt")
            span.set_attribute("gen_ai.provider.name", "openai")
            span.set_attribute("gen_ai.usage.input_tokens", 80)
            span.set_attribute("gen_ai.usage.output_tokens", 40)
            span.set_attribute("session.id", "s")
            span.set_attribute("user.id", "u")
            span.set_attribute("output.value", json.dumps(work(QUESTION, number)))

    spent = repeat(call, n)

    def finish() -> None:
        provider.force_flush()
        provider.shutdown()

    return spent, finish


WAYS: dict[str, Callable[[str, int], tuple[list[float], Finish]]] = {
    "plain": run_plain,
    "otel-batch": run_otel,
    "penstock": run_penstock,
}


def measure(way: str, url: str, n: int, out: Any) -> None:
    """Run one way in a process of its own; warm up first."""
    import logging

    logging.disable(logging.CRITICAL)
    _, finish = WAYS[way](url, 200)
    finish()
    cpu = time.process_time()
    spent, finish = WAYS[way](url, n)
    finish()
    spent.sort()
    figures = [
        sum(spent) / n,
        spent[n // 2],
        spent[int(n * 0.99)],
        spent[-1],
        (time.process_time() - cpu) / n,
    ]
    out.put([each * 1e6 for each in figures])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spans", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--record", action="store_true", help="append to bench/results/sdk.jsonl")
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    ready, counted = spawn.Queue(), spawn.Value("q", 0)
    server = spawn.Process(target=serve, args=(ready, counted), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{ready.get()}"
    seen: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way in WAYS:
            before, out = counted.value, spawn.Queue()
            process = spawn.Process(target=measure, args=(way, url, options.spans, out))
            process.start()
            figures = out.get()
            process.join()
            sent = 0 if way == "plain" else options.spans + 200
            seen[way].append([*figures, sent - (counted.value - before)])
    server.terminate()
    row: dict[str, Any] = {
        "command": f"python bench/sdk.py --spans {options.spans} --rounds {options.rounds}",
        "python": platform.python_version(),
        "opentelemetry-sdk": version("opentelemetry-sdk"),
        "machine": f"{platform.machine()} {multiprocessing.cpu_count()} cores",
        "ways": {
            way: {
                **{
                    name: round(statistics.median(each[place] for each in rounds), 2)
                    for place, name in enumerate(("mean_us", "p50_us", "p99_us", "max_us", "cpu_us"))
                },
                "lost": max(int(each[-1]) for each in rounds),
            }
            for way, rounds in seen.items()
        },
    }
    print(json.dumps(row, indent=2))
    if options.record:
        with RESULTS.open("a") as file:
            file.write(json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **row}) + "\n")


if __name__ == "__main__":
    sys.exit(main())
