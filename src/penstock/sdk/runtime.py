"""The one set-up of the SDK in a process: read when first needed, exchanged by `configure`, renewed after a fork.

The provider is made once and kept, since instrumentations hold on to it; what `configure` changes is where its spans go.
"""

import atexit
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.trace import Tracer

from penstock import __version__
from penstock.sdk.delivery import Delivery
from penstock.sdk.errors import SdkSettingInvalid
from penstock.sdk.pipeline import Pipeline
from penstock.sdk.processor import MARK, OwnIds, ShareSampler, TraceProcessor, is_llm_scope
from penstock.sdk.records import SCOPE
from penstock.sdk.settings import Redaction, SdkSettings, build_settings

MAX_ATTRIBUTES = 20_000
"""Of a span: instrumentations write each part of each message of a long chat as an attribute of its own."""
FLUSH_S = 10.0

_log = logging.getLogger("penstock.sdk")


class Runtime:
    """Provider, tracer, processor and the pipeline behind them."""

    def __init__(self) -> None:
        self.guard = threading.RLock()
        self.settings: SdkSettings | None = None
        self.pipeline: Pipeline | None = None
        """None while nothing is recorded."""
        self.processor = TraceProcessor()
        self.sampler = ShareSampler()
        self._ids = OwnIds()
        self._own: TracerProvider | None = None
        self._joined: Any = None
        self._tracer: Tracer | None = None
        self._has_hooks = False
        self._has_told = False

    @property
    def provider(self) -> Any:
        """The tracer provider whose spans are sent: our own, or the one that was joined."""
        with self.guard:
            if self._joined is not None:
                return self._joined
            if self._own is None:
                limits = SpanLimits(
                    max_attributes=MAX_ATTRIBUTES,
                    max_span_attributes=MAX_ATTRIBUTES,
                    max_events=2000,
                    max_links=2000,
                    max_event_attributes=MAX_ATTRIBUTES,
                )
                self._own = TracerProvider(
                    sampler=self.sampler,
                    resource=Resource({MARK: True}),
                    shutdown_on_exit=False,
                    id_generator=self._ids,
                    span_limits=limits,
                )
                self._own.add_span_processor(self.processor)
            return self._own

    @property
    def is_joined(self) -> bool:
        """Whether our spans are made by a provider of the program."""
        return self._joined is not None

    @property
    def tracer(self) -> Tracer:
        """The tracer of our own spans."""
        if self._tracer is None:
            self._tracer = self.provider.get_tracer(SCOPE, __version__)
        return self._tracer

    def start(self) -> Pipeline | None:
        """Return the pipeline, set up from the environment if nobody has configured anything; None when off."""
        if self.settings is None:
            with self.guard:
                if self.settings is None:
                    self.apply(_settings_of_environment())
        return self.pipeline

    def apply(self, settings: SdkSettings, *, transport: Any = None) -> None:
        """Use these settings from now on; what waits under those before is sent as they say."""
        with self.guard:
            before, self.settings = self.pipeline, settings
            self.pipeline = None
            if settings.is_recording:
                extra = {} if transport is None else {"transport": transport}
                self.pipeline = Pipeline(settings, **extra)
            elif settings.is_on and not self._has_told:
                self._has_told = True
                _log.warning("penstock: nothing is recorded: set PENSTOCK_KEY to a key with the scope `call`")
            self.sampler.set_share(settings.sample if self.pipeline is not None else 0.0)
            self.processor.pipeline = self.pipeline
            self.processor.on_root_end = self._flush_at_root if settings.flush_at_root else None
            if not self._has_hooks:
                self._has_hooks = True
                atexit.register(self._at_exit)
                if hasattr(os, "register_at_fork"):
                    os.register_at_fork(after_in_child=self._after_fork)
        if before is not None:
            before.close(0.0 if self.pipeline is None else settings.exit_timeout_s)

    def join(self, provider: Any, wants: Callable[[str], bool] | None) -> None:
        """Let our spans be made by `provider`, and send those of its spans that `wants` chooses by their scope."""
        if not hasattr(provider, "add_span_processor"):
            raise SdkSettingInvalid(
                "This provider takes no span processors.",
                hint="Give the opentelemetry.sdk.trace.TracerProvider that your program has set up.",
            )
        with self.guard:
            if provider is self._joined:
                return
            pipeline = self.processor.pipeline
            self.processor.pipeline = None
            self.processor = TraceProcessor(wants, self.sampler.chooses)
            self.processor.pipeline = pipeline
            provider.add_span_processor(self.processor)
            self._joined = provider
            self._tracer = None

    def leave(self) -> None:
        """Go back to a provider of our own."""
        with self.guard:
            if self._joined is not None:
                pipeline, self.processor.pipeline = self.processor.pipeline, None
                self._joined, self._own, self._tracer = None, None, None
                self.processor = TraceProcessor()
                self.processor.pipeline = pipeline

    def _flush_at_root(self) -> None:
        pipeline, settings = self.pipeline, self.settings
        if pipeline is not None and settings is not None:
            pipeline.flush(settings.exit_timeout_s)

    def _at_exit(self) -> None:
        pipeline, settings = self.pipeline, self.settings
        if pipeline is not None and settings is not None:
            pipeline.close(settings.exit_timeout_s)

    def _after_fork(self) -> None:
        """The parent's thread and what waits there are the parent's: begin with nothing."""
        self.guard = threading.RLock()
        self._ids.reseed()
        if self.pipeline is not None and self.settings is not None:
            self.pipeline.orphan()
            self.pipeline = Pipeline(self.settings)
            self.processor.pipeline = self.pipeline


def _settings_of_environment() -> SdkSettings:
    try:
        return build_settings({}, os.environ)
    except Exception:  # the edge between the program and its record: nobody asked for this to be set up
        _log.warning("penstock: nothing is recorded: the environment cannot be read", exc_info=True)
        return SdkSettings(is_on=False)


RUNTIME = Runtime()


def configure(
    *,
    url: str | None = None,
    key: str | None = None,
    service: str | None = None,
    release: str | None = None,
    environment: str | None = None,
    sample: float | None = None,
    capture: bool | None = None,
    redact: Redaction | None = None,
    spill: str | Path | bool | None = None,
    enabled: bool | None = None,
    flush_at_root: bool | None = None,
    max_buffer_bytes: int | None = None,
    max_payload_bytes: int | None = None,
    max_spill_bytes: int | None = None,
    timeout_s: float | None = None,
    exit_timeout_s: float | None = None,
    interval_s: float | None = None,
    provider: Any = None,
    scopes: Callable[[str], bool] | None = None,
) -> None:
    """Say where traces go and what is in them. Not needed where the environment says it.

    What is not given comes from the environment (`PENSTOCK_URL`, `PENSTOCK_KEY`, `PENSTOCK_SERVICE`, `PENSTOCK_RELEASE`,
    `PENSTOCK_ENVIRONMENT`, `PENSTOCK_SAMPLE`, `PENSTOCK_CAPTURE`, `PENSTOCK_TRACING`, `PENSTOCK_SPILL`), then from
    defaults. `provider` joins an OpenTelemetry provider that the program has: our spans are made by it and, of its own,
    those whose instrumentation scope `scopes` chooses are sent too (those about models, agents and retrieval unless told).
    `spill=False` writes nothing to disk. Raises `SdkSettingInvalid` for a value that means nothing; nothing else of the
    SDK raises.
    """
    given = {
        "url": url, "key": key, "service": service, "release": release, "environment": environment,
        "sample": sample, "capture": capture, "redact": redact, "spill": spill, "is_on": enabled,
        "flush_at_root": flush_at_root, "max_buffer_bytes": max_buffer_bytes, "max_payload_bytes": max_payload_bytes,
        "max_spill_bytes": max_spill_bytes, "timeout_s": timeout_s, "exit_timeout_s": exit_timeout_s,
        "interval_s": interval_s,
    }  # fmt: skip
    settings = build_settings(given, os.environ)
    if provider is not None:
        RUNTIME.join(provider, scopes or is_llm_scope)
    RUNTIME.apply(settings)


def flush(timeout_s: float = FLUSH_S) -> Delivery:
    """Try to deliver everything recorded so far; return what became of it, after at most `timeout_s`."""
    pipeline = RUNTIME.pipeline
    return Delivery() if pipeline is None else pipeline.flush(timeout_s)


def shutdown(timeout_s: float | None = None) -> Delivery:
    """Deliver, keep what nobody took in the spill folder, and record nothing more; runs by itself at exit."""
    pipeline, settings = RUNTIME.pipeline, RUNTIME.settings
    if pipeline is None or settings is None:
        return Delivery()
    return pipeline.close(settings.exit_timeout_s if timeout_s is None else timeout_s)


def tracer_provider() -> Any:
    """Return the OpenTelemetry provider whose spans Penstock gets, to hand to instrumentations."""
    RUNTIME.start()
    return RUNTIME.provider


def instrument_with(*instrumentors: Any, **options: Any) -> None:
    """Let instrumentations (OpenInference, OpenLLMetry, OpenTelemetry) send what they see to Penstock alone.

    Each is an object with `instrument(tracer_provider=…)`; `options` are passed on to all of them.
    """
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=tracer_provider(), **options)
