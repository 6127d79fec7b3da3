"""The control process: REST, OTLP and console in front; behind them collector, job worker and settings watch.

It owns the span store: no other process may open that file while this one runs.
"""

import dataclasses
import gc
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial

from penstock import __version__
from penstock.access.sessions import SessionSigner, load_session_secret
from penstock.base.logs import configure_logs
from penstock.console.app import mount_console
from penstock.control.app import create_control
from penstock.control.services import ControlServices
from penstock.deploy.errors import SnapshotDamaged, SnapshotInvalid, SnapshotMissing
from penstock.deploy.kept_replies import ResponseCacheService
from penstock.deploy.snapshots import read_snapshot
from penstock.jobs.worker import Worker
from penstock.main.app_rooms import create_apps_service
from penstock.main.compress_rooms import (
    compress_loop,
    create_compress_service,
    create_compressing,
    create_distiller,
)
from penstock.main.control_metrics import ControlMetrics
from penstock.main.copies import clear_copies, hold_copies
from penstock.main.cost_access import create_costs
from penstock.main.deploying import Deploying, create_deploying
from penstock.main.eval_ports import RoutePrices
from penstock.main.instance import find_addresses
from penstock.main.job_handlers import create_handlers
from penstock.main.job_kinds import TRACES_REMAP
from penstock.main.job_spans import Record, kinds_of_knowledge, with_spans
from penstock.main.journal_watch import JournalWatch
from penstock.main.knowledge_erasing import create_knowledge_erasures
from penstock.main.knowledge_sources import create_scheduler
from penstock.main.live_state import LiveReader
from penstock.main.load_engine import engine_urls
from penstock.main.loadtesting import LoadParts, LoadTesting, create_load_testing
from penstock.main.measuring import create_measures
from penstock.main.monitoring import Monitoring, create_monitoring
from penstock.main.quality import Quality, QualityParts, create_quality
from penstock.main.recording import Recording
from penstock.main.remapping import remap_handler
from penstock.main.serving import serve
from penstock.main.settings_watch import SettingsWatch
from penstock.main.stopping import CONTROL_DRAIN_S, CONTROL_THREADS, THREAD_STOP_S
from penstock.main.tune_rooms import Tuning, TuningParts, create_tuning, read_tune_settings, tuning_loop
from penstock.main.upkeeping import create_upkeep
from penstock.main.wiring import Installation
from penstock.spec.home import Home
from penstock.spec.snapshot import Snapshot
from penstock.store.spans.export_rows import DuckDBSpanExport
from penstock.store.spans.measures import DuckDBMeasures
from penstock.store.spans.session_queries import DuckDBSessions
from penstock.store.spans.trace_lists import DuckDBTraceLists
from penstock.telemetry.edge import SnapshotEdge
from penstock.telemetry.recorder import SpanRecorder
from penstock.traces.exports import ExportService
from penstock.traces.lists import TraceListService
from penstock.traces.measures.dashboards import DashboardService
from penstock.traces.scores import ScoreService
from penstock.traces.service import TraceService
from penstock.traces.sessions import SessionService
from penstock.traces.views import ViewService

GC_THRESHOLD = (50_000, 50, 100)
"""Requests and spans hold no cycles, and there is much else for the cycle collector to walk: 34 instead of 45 µs for
decoding a span with everything loaded."""
_log = logging.getLogger("penstock.control")


def run_control(home: Home, *, host: str, port: int) -> None:
    """Serve until SIGTERM; then flush what lies in the spool."""
    configure_logs(process="control")
    installation = Installation(home, keeps_running=True)
    installation.prepare()
    clear_copies(home)  # of an export or backup that was killed
    gc.set_threshold(*GC_THRESHOLD)
    recording = Recording(home, installation.storage_file.settings.traces)
    recorder = SpanRecorder(recording.spool, SnapshotEdge(home.snapshot).admit)
    own = {**create_handlers(installation), TRACES_REMAP: remap_handler(recording.store)}
    handlers = with_spans(own, kinds_of_knowledge(own), recorder.record)
    worker = Worker(installation.engine, handlers, f"control-{os.getpid()}")
    watch = SettingsWatch(home, installation.take_up_settings)
    monitoring = create_monitoring(
        installation,
        DuckDBMeasures(recording.store.file),
        waiting_bytes=lambda: recording.collector.waiting_bytes,
    )
    quality = build_quality(installation, recording)
    tuning = build_tuning(installation, quality, recorder.record)
    deploying = create_deploying(installation)
    services = build_services(
        installation, recording, watch, monitoring, quality, tuning=tuning, deploying=deploying
    )
    load_testing = build_load_testing(installation, recording, quality)
    services = dataclasses.replace(services, load_tests=load_testing.service)
    loops: tuple[Callable[[threading.Event], None], ...] = (
        recording.collector.run,
        worker.run,
        watch.run,
        JournalWatch(
            home.journal, recording.spool, SnapshotEdge(home.snapshot), lambda: read_last_snapshot(home)
        ).run,
        monitoring.evaluator.run,
        monitoring.delivery.run,
        services.upkeep.run,
        *quality.loops,
        create_scheduler(installation).run,
        load_testing.loop,
        tuning_loop(installation.engine, tuning),
        compress_loop(installation.engine, create_compressing(installation)),
        *deploying.loops,
    )
    try:
        with ExitStack() as threads:
            for name, run in zip(CONTROL_THREADS, loops, strict=True):
                threads.enter_context(background(name, run))
            recording.start_grpc(installation.keys, host)
            recording.start_forwarding()
            app = create_control(services, mounts=[lambda app: mount_console(app, services)])
            serve(app, host=host, port=port, drain_s=CONTROL_DRAIN_S)
            recording.stop_taking()  # before the collector's last round, so that it takes the rest
    finally:
        recording.close()
        installation.close()


def build_quality(installation: Installation, recording: Recording) -> Quality:
    """Return the rooms of quality, joined."""
    home = installation.home
    return create_quality(
        QualityParts(
            home=home,
            engine=installation.engine,
            blobs=installation.blobs,
            registry=installation.registry,
            jobs=installation.jobs,
            spans=recording.store,
            trace_lists=TraceListService(DuckDBTraceLists(recording.store.file)),
            ingest=recording.ingest,
            gateway_url=find_addresses(home).gateway_url,
            internal_key=installation.internal_key,
            knowledge=installation.knowledge,
            embedders=installation.embedders,
            read_snapshot=lambda: read_last_snapshot(home),
            publish=lambda actor, note: _publish(installation, actor, note),
        )
    )


def build_tuning(installation: Installation, quality: Quality, record: Record) -> Tuning:
    """Return the rooms of tuning, joined."""
    return create_tuning(
        TuningParts(
            home=installation.home,
            engine=installation.engine,
            registry=installation.registry,
            datasets=quality.datasets,
            models=installation.models,
            jobs=installation.jobs,
            settings=read_tune_settings(installation.storage_file.settings),
            prices=RoutePrices(lambda: read_last_snapshot(installation.home), installation.registry),
            distil=create_distiller(installation.home, installation.registry, quality.datasets),
            record=record,
            environ=os.environ,
        )
    )


def build_load_testing(installation: Installation, recording: Recording, quality: Quality) -> LoadTesting:
    """Return load tests, joined."""
    home = installation.home
    return create_load_testing(
        LoadParts(
            engine=installation.engine,
            registry=installation.registry,
            blobs=installation.blobs,
            jobs=installation.jobs,
            datasets=quality.datasets,
            trace_lists=TraceListService(DuckDBTraceLists(recording.store.file)),
            read_snapshot=lambda: read_last_snapshot(home),
            gateway_url=find_addresses(home).gateway_url,
            internal_key=installation.internal_key,
            find_engine_urls=lambda: engine_urls(home),
        )
    )


def _publish(installation: Installation, actor: str, note: str) -> None:
    installation.publish_snapshot(actor=actor, note=note)


def build_services(
    installation: Installation,
    recording: Recording,
    watch: SettingsWatch,
    monitoring: Monitoring,
    quality: Quality,
    *,
    tuning: Tuning,
    deploying: Deploying,
) -> ControlServices:
    """Return what the control application works on."""
    home, store, ingest = installation.home, recording.store, recording.ingest

    own_metrics = ControlMetrics(home, ingest.record_health, monitoring, installation.jobs)
    live = LiveReader(home, os.environ, lambda: read_last_snapshot(home))

    measures = create_measures(store.file)
    trace_lists = TraceListService(DuckDBTraceLists(store.file))
    gateway_url = find_addresses(home).gateway_url
    cache = ResponseCacheService(home.cache, lambda: read_last_snapshot(home), os.environ)

    def publish(actor: str, note: str) -> None:
        installation.publish_snapshot(actor=actor, note=note)

    def find_problems() -> Mapping[str, str]:
        problems = {"collector": recording.collector.stats.last_error}
        return {part: text for part, text in problems.items() if text is not None}

    def find_warnings() -> Mapping[str, str]:
        told = {
            "settings": watch.problem,
            "configuration": installation.look_again() or None,
            "alerts": monitoring.find_warning(),
            "OTLP over gRPC": recording.grpc_warning,
            "models": deploying.find_warning(),
        }
        return {part: text for part, text in told.items() if text is not None}

    upkeep = create_upkeep(installation, store, recording.collector, cache)
    return ControlServices(
        sources=installation.sources,
        deployments=deploying.service,
        knowledge_erasures=create_knowledge_erasures(installation, upkeep, store, recording.collector, cache),
        traces=TraceService(store),
        trace_lists=trace_lists,
        trace_exports=ExportService(
            DuckDBTraceLists(store.file), DuckDBSpanExport(store.file), partial(hold_copies, home)
        ),
        views=ViewService(installation.engine),
        scores=ScoreService(store, ingest.store),
        measures=measures,
        dashboards=DashboardService(installation.engine, measures),
        alerts=monitoring.alerts,
        channels=monitoring.channels,
        trace_sessions=SessionService(DuckDBSessions(store.file)),
        upkeep=upkeep,
        costs=create_costs(store, lambda: read_last_snapshot(home)),
        keys=installation.keys,
        registry=installation.registry,
        models=installation.catalogue,
        jobs=installation.jobs,
        evaluations=quality.evaluations,
        experiments=quality.experiments,
        gates=quality.gates,
        judges=quality.judges,
        retrieval_quality=quality.retrieval,
        knowledge=installation.knowledge,
        apps=create_apps_service(installation),
        datasets=quality.datasets,
        cleaning=quality.cleaning,
        proposals=quality.proposals,
        prompts=quality.prompts,
        tuning=tuning.runs,
        compressing=create_compress_service(installation),
        sessions=SessionSigner(load_session_secret(home.run / "session.secret")),
        read_snapshot=lambda: read_last_snapshot(home),
        publish_snapshot=publish,
        configuration=installation.configuration,
        secrets=installation.secrets,
        cache=cache,
        users_of_secret=installation.users_of_secret,
        take_up_alias=installation.take_up_alias,
        ingest=ingest,
        find_problems=find_problems,
        read_metrics=lambda: [*own_metrics.collect(), *deploying.numbers.collect()],
        find_warnings=find_warnings,
        gateway_url=gateway_url,
        live=live,
        home_option=home.option,
        internal_key=installation.internal_key,
        version=__version__,
    )


def read_last_snapshot(home: Home) -> Snapshot | None:
    """Return what gateways were told last, or None when there is nothing they could use."""
    try:
        return read_snapshot(home.snapshot)
    except (SnapshotMissing, SnapshotDamaged, SnapshotInvalid):
        return None


@contextmanager
def background(name: str, run: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run `run(stop)` in a thread while inside; on leaving, ask it to stop and wait, within bounds."""
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(stop,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(THREAD_STOP_S)
        if thread.is_alive():
            _log.warning("a thread did not end in time", extra={"thread": name})
