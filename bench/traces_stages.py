"""Where the processor time of a span goes on its way from OTLP bytes to the file, stage by stage, in one thread.

    python bench/traces_stages.py [--requests 16]

Requests hold 500 spans as in `bench/traces.py`. Processor time, not time by the clock, and the best of three where a stage
can be done again: so figures of a busy machine can be compared, as long as they are from one run. `all_us` is the sum
of what a span passes through: decode, edge, spool, collector's store, checkpoints.
"""

import argparse
import gc
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from penstock.store.spans.append import prepare_spans
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.telemetry.edge import Edge
from penstock.telemetry.otlp import PROTOBUF, decode_otlp_batch
from penstock.telemetry.otlp_wire import read_spans
from penstock.telemetry.spool import SpoolWriter
from penstock.traces.estimates import CostEstimates
from record import record_result
from traces import SPANS_A_TRACE, TRACES_A_BATCH, make_batches

SPANS_A_REQUEST = TRACES_A_BATCH * SPANS_A_TRACE


class Clock:
    """Notes what each stage takes."""

    def __init__(self, n_spans: int) -> None:
        self._n_spans = n_spans
        self.figures: dict[str, float] = {}

    def time(self, name: str, do: Callable[[], Any], *, times: int = 1) -> Any:
        """Return what `do` returns, and note the least of its times."""
        took = []
        for _ in range(times):
            begun = time.process_time()
            done = do()
            took.append(time.process_time() - begun)
        self.figures[name] = round(min(took) / self._n_spans * 1e6, 1)
        print(f"{name:24}{self.figures[name]:8.1f}", flush=True)
        return done


def measure(folder: Path, n_requests: int) -> dict[str, float]:
    """Return the microseconds a span of each stage."""
    bodies = make_batches(n_requests * SPANS_A_REQUEST)
    edge, estimates, clock = Edge(), CostEstimates(folder / "none"), Clock(n_requests * SPANS_A_REQUEST)
    gc.disable()  # as the collector does; the rest makes few cycles
    clock.time(
        "protobuf_us", lambda: [ExportTraceServiceRequest.FromString(body) for body in bodies], times=3
    )
    clock.time("protobuf_and_values_us", lambda: [read_spans(body, PROTOBUF) for body in bodies], times=3)
    batches = clock.time("decode_us", lambda: [decode_otlp_batch(body, PROTOBUF) for body in bodies], times=3)
    admitted = clock.time(
        "edge_us", lambda: [[edge.admit(span) for span in batch.spans] for batch in batches], times=3
    )
    writer = SpoolWriter(folder / "spool")

    def put() -> None:
        for request in admitted:
            writer.append_durable([record for _, record in request], [span for span, _ in request])

    clock.time("spool_us", put)
    writer.close()
    spans = [span for request in admitted for span, _ in request]
    spans = clock.time("estimate_us", lambda: estimates.add(spans), times=3)
    clock.time("prepare_us", lambda: prepare_spans(spans), times=3)
    store = DuckDBSpanStore(folder / "spans.duckdb", threads=1)
    clock.time("append_us", lambda: store.append(spans))
    clock.time("close_us", store.close)
    passed = ("decode_us", "edge_us", "spool_us", "estimate_us", "append_us", "close_us")
    return {**clock.figures, "all_us": round(sum(clock.figures[name] for name in passed), 1)}


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=16)
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        figures = measure(Path(name), options.requests)
    record_result("traces_stages", figures, packages=("duckdb", "msgspec", "opentelemetry-proto"))


if __name__ == "__main__":
    main()
