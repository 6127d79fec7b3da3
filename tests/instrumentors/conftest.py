"""A receiver, a fake provider, and a provider of OpenTelemetry's own that sends to the receiver."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from penstock.spec.spans import Span
from tests.clients.upstream import UpstreamThread
from tests.fixtures.furnished import visit
from tests.instrumentors.receiver import Receiver, serve


@pytest.fixture(scope="package")
def receiver(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path) -> Iterator[Receiver]:
    root = tmp_path_factory.mktemp("receiver") / "home"
    root.mkdir()
    shutil.copy(migrated_sqlite, root / "control.db")
    with visit(root, has_routes=False) as house, serve(house) as running:
        yield running


@pytest.fixture(scope="package")
def upstream() -> Iterator[str]:
    """The origin of a provider that speaks six dialects."""
    thread = UpstreamThread()
    yield thread.start()
    thread.stop()


HERE = Path(__file__).parent


class Watch:
    """What an instrumentation saw while inside, as it is stored."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self.spans: list[Span] = []

    def finish(self) -> None:
        self.spans = self._receiver.take()

    def one(self, **wanted: Any) -> Span:
        """Return the one span whose fields are as wanted."""
        found = [
            span for span in self.spans if all(getattr(span, name) == value for name, value in wanted.items())
        ]
        assert len(found) == 1, [(span.name, span.kind) for span in self.spans]
        return found[0]

    def below(self, parent: Span) -> list[Span]:
        """Return the children of a span."""
        return [span for span in self.spans if span.parent_id == parent.span_id]


Watching = Callable[[Any], AbstractContextManager[Watch]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bear what these packages leave open or use of old: it is theirs."""
    for item in items:
        if item.path.is_relative_to(HERE):
            for rule in ("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"):
                item.add_marker(pytest.mark.filterwarnings(rule))


@pytest.fixture(scope="package")
def provider(receiver: Receiver) -> Iterator[TracerProvider]:
    """OpenTelemetry's own, set up as its manual says; one for all, since some instrumentations keep the first they get."""
    exporter = OTLPSpanExporter(
        endpoint=f"{receiver.url}/v1/traces", headers={"authorization": f"Bearer {receiver.key}"}
    )
    resource = Resource({"service.name": "instrumented", "service.version": "7"})
    made = TracerProvider(resource=resource, shutdown_on_exit=False)
    made.add_span_processor(SimpleSpanProcessor(exporter))
    yield made
    made.shutdown()


@pytest.fixture
def watching(receiver: Receiver, provider: TracerProvider) -> Watching:
    """Return `with watching(instrumentor) as watch`: everything inside is instrumented and sent over OTLP."""

    @contextmanager
    def watch(*instrumentors: Any) -> Iterator[Watch]:
        receiver.take()
        seen = Watch(receiver)
        for instrumentor in instrumentors:
            instrumentor.instrument(tracer_provider=provider, skip_dep_check=True)
        try:
            yield seen
        finally:
            for instrumentor in instrumentors:
                instrumentor.uninstrument()
        seen.finish()

    return watch
