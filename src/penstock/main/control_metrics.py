"""What the control process tells Prometheus: the record and its store, alerts and their messages, jobs, itself."""

import resource
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from penstock.jobs.service import JobService
from penstock.main.monitoring import Monitoring
from penstock.monitors.types import AlertView
from penstock.spec.home import Home
from penstock.telemetry.counters import RecordHealth
from penstock.telemetry.exposition import MetricFamily

_MAX_JOBS = 1000
_COUNTED = ("taken", "rejected", "refused", "dropped", "erased", "cut", "masked", "withheld", "logs")


class ControlMetrics:
    """Collects the numbers of a control process, each time anew."""

    def __init__(
        self, home: Home, record_health: Callable[[], RecordHealth], monitoring: Monitoring, jobs: JobService
    ) -> None:
        self._home = home
        self._record_health = record_health
        self._monitoring = monitoring
        self._jobs = jobs

    def collect(self) -> Sequence[MetricFamily]:
        """Return all families, in a fixed order."""
        return [
            *_of_record(self._record_health()),
            _of_store(self._home),
            *_of_alerts(self._monitoring.alerts.list()),
            MetricFamily(
                name="penstock_alert_messages",
                kind="gauge",
                text="Messages of alerts: pending, sent, dead (given up), dropped; those of 90 days.",
                samples=[
                    ({"state": state}, count)
                    for state, count in sorted(self._monitoring.channels.count_messages().items())
                ],
            ),
            self._of_jobs(),
            MetricFamily(
                name="penstock_control_resident_memory_bytes",
                kind="gauge",
                text="Memory of the control process.",
                samples=[({}, float(_resident_bytes()))],
            ),
        ]

    def _of_jobs(self) -> MetricFamily:
        found = self._jobs.list(states=("queued", "running"), limit=_MAX_JOBS)
        counts = Counter((job.kind, job.state) for job in found)
        return MetricFamily(
            name="penstock_jobs",
            kind="gauge",
            text="Jobs that wait or run.",
            samples=[
                ({"kind": kind, "state": state}, count) for (kind, state), count in sorted(counts.items())
            ],
        )


def _of_record(health: RecordHealth) -> Iterator[MetricFamily]:
    yield MetricFamily(
        name="penstock_record_total",
        kind="counter",
        text="What became of spans and log records from outside, by way or reason; see the page on the record's health.",
        samples=[
            ({"what": group, "name": name}, count)
            for group in _COUNTED
            for name, count in sorted(health.counts.get(group, {}).items())  # type: ignore[call-overload]  # one of the groups
        ],
    )
    yield _gauge(
        "penstock_record_unmapped_names",
        "Attribute names that no rule maps.",
        len(health.counts.get("unmapped", {})),
    )
    collector = health.collector
    yield _counter(
        "penstock_collector_stored_total", "Spans put into the store since the start.", collector.n_stored
    )
    yield _counter(
        "penstock_collector_undecodable_total",
        "Records that held no span that can be stored.",
        collector.n_undecodable,
    )
    yield _counter(
        "penstock_collector_skipped_bytes_total",
        "Damaged bytes that were passed over.",
        collector.n_skipped_bytes,
    )
    yield _gauge(
        "penstock_collector_waiting_bytes",
        "Acknowledged, on disk, and not in the store yet.",
        collector.waiting_bytes,
    )
    yield _gauge(
        "penstock_collector_failing", "1 while nothing can be stored.", collector.last_error is not None
    )
    yield MetricFamily(
        name="penstock_spool_dropped_total",
        kind="counter",
        text="What this process dropped because the disk was short: payloads, or whole records.",
        samples=[
            ({"what": "payload"}, health.spool_dropped_payloads),
            ({"what": "record"}, health.spool_dropped_records),
        ],
    )
    for name, kind, text, field in (
        ("penstock_forward_sent_total", "counter", "Spans sent on.", "n_sent"),
        ("penstock_forward_dropped_total", "counter", "Spans that were given up.", "n_dropped"),
        ("penstock_forward_failures_total", "counter", "Tries that failed.", "n_failed"),
        ("penstock_forward_waiting_bytes", "gauge", "What waits to be sent on.", "waiting_bytes"),
    ):
        yield MetricFamily(
            name=name,
            kind=kind,  # type: ignore[arg-type]  # one of the two
            text=text,
            samples=[({"to": forward.name}, getattr(forward, field)) for forward in health.forwards],
        )


def _of_store(home: Home) -> MetricFamily:
    files = {"spans": home.span_db, "spans_wal": Path(f"{home.span_db}.wal"), "control": home.control_db}
    samples = []
    for name, path in files.items():
        with suppress(OSError):
            samples.append(({"file": name}, float(path.stat().st_size)))
    return MetricFamily(name="penstock_store_bytes", kind="gauge", text="Sizes of files.", samples=samples)


def _of_alerts(views: Sequence[AlertView]) -> Iterator[MetricFamily]:
    yield MetricFamily(
        name="penstock_alert_state",
        kind="gauge",
        text="1 for the state that a rule is in.",
        samples=[
            ({"rule": view.rule.name, "state": view.status.state, "severity": view.rule.content.severity}, 1)
            for view in views
        ],
    )
    yield MetricFamily(
        name="penstock_alert_value",
        kind="gauge",
        text="What a rule measured last; absent where that is unknown.",
        samples=[
            ({"rule": view.rule.name, "unit": view.unit}, view.status.value)
            for view in views
            if view.status.value is not None
        ],
    )
    yield MetricFamily(
        name="penstock_alert_silenced",
        kind="gauge",
        text="1 while nobody is told of a rule.",
        samples=[({"rule": view.rule.name}, float(view.is_silenced)) for view in views],
    )
    yield MetricFamily(
        name="penstock_alert_evaluated_timestamp_seconds",
        kind="gauge",
        text="When a rule was evaluated last.",
        samples=[
            ({"rule": view.rule.name}, view.status.evaluated_ns / 1e9)
            for view in views
            if view.status.evaluated_ns is not None
        ],
    )


def _gauge(name: str, text: str, value: float) -> MetricFamily:
    return MetricFamily(name=name, kind="gauge", text=text, samples=[({}, float(value))])


def _counter(name: str, text: str, value: float) -> MetricFamily:
    return MetricFamily(name=name, kind="counter", text=text, samples=[({}, float(value))])


def _resident_bytes() -> int:
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )  # the most so far, where there is no /proc
