"""Other tools in the same program: what is theirs stays theirs, what is ours keeps its place."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import context as otel
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import penstock
from penstock.sdk.errors import SdkSettingInvalid
from penstock.sdk.processor import is_llm_scope
from penstock.sdk.runtime import RUNTIME
from tests.sdk.conftest import Collector, setup


class Theirs:
    """A provider that the program has set up for another tool."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False, **options)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def tracer(self, scope: str = "opentelemetry.instrumentation.fastapi") -> trace.Tracer:
        return self.provider.get_tracer(scope)

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}


@pytest.fixture
def theirs() -> Iterator[Theirs]:
    made = Theirs()
    yield made
    made.provider.shutdown()


def test_our_provider_is_not_the_global_one(sdk: Collector) -> None:
    before = trace.get_tracer_provider()
    with penstock.span("x"):
        trace.get_tracer("someone").start_span("theirs").end()
    penstock.flush()
    assert trace.get_tracer_provider() is before
    assert [span.name for span in sdk.spans] == ["x"]


def test_spans_of_other_providers_are_not_sent_and_not_our_parents(sdk: Collector, theirs: Theirs) -> None:
    http, sql = (theirs.tracer().start_as_current_span(name) for name in ("GET /", "SELECT"))
    with http, penstock.span("outer"), sql, penstock.span("inner"):
        pass
    penstock.flush()
    assert sorted(span.name for span in sdk.spans) == ["inner", "outer"]
    outer, inner = sdk.span("outer"), sdk.span("inner")
    assert outer.parent is None
    assert inner.parent == outer.id
    other = theirs.spans["GET /"].context
    assert other is not None
    assert {outer.trace, inner.trace} == {f"{other.trace_id:032x}"}  # one can be found from the other


def test_another_tools_sampling_does_not_thin_out_ours(sdk: Collector) -> None:
    off = Theirs(sampler=ALWAYS_OFF)
    with off.tracer().start_as_current_span("GET /"), penstock.span("kept"):
        pass
    assert penstock.flush().sent == 1


def test_a_span_of_another_process_stays_the_parent(sdk: Collector) -> None:
    remote = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}
    token = otel.attach(propagate.extract(remote))
    with penstock.span("served"):
        pass
    otel.detach(token)
    penstock.flush()
    span = sdk.span("served")
    assert (span.trace, span.parent) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")


def test_instrumentations_with_our_provider_nest_with_our_spans(sdk: Collector) -> None:
    class Instrumentor:
        def instrument(self, *, tracer_provider: Any, **options: Any) -> None:
            self.tracer = tracer_provider.get_tracer("openinference.instrumentation.x", "1")
            self.options = options

    instrumentor = Instrumentor()
    penstock.instrument_with(instrumentor, skip_dep_check=True)
    assert instrumentor.options == {"skip_dep_check": True}
    seen = instrumentor.tracer.start_as_current_span("call")
    with penstock.attributes(session_id="s1"), penstock.span("outer"), seen, penstock.span("inner"):
        pass
    penstock.flush()
    call = sdk.span("call")
    assert call.scope == "openinference.instrumentation.x"
    assert (call.parent, sdk.span("inner").parent) == (sdk.span("outer").id, call.id)
    assert call.attributes["session.id"] == "s1"


def test_a_span_with_thousands_of_attributes_keeps_them(sdk: Collector) -> None:
    tracer = penstock.tracer_provider().get_tracer("openinference.instrumentation.x")
    with tracer.start_as_current_span("long chat") as span:
        for number in range(3000):
            span.set_attribute(f"llm.input_messages.{number}.message.content", "hi")
    penstock.flush()
    assert len(sdk.span("long chat").attributes) == 3000


def test_a_joined_provider_gives_us_models_and_keeps_the_rest(
    collector: Collector, sdk: Collector, theirs: Theirs
) -> None:
    setup(collector, provider=theirs.provider)
    setup(collector, provider=theirs.provider)  # a second time changes nothing
    http = theirs.tracer().start_as_current_span("GET /")
    post = theirs.tracer("opentelemetry.instrumentation.requests").start_as_current_span("POST")
    model = theirs.tracer("openinference.instrumentation.openai").start_as_current_span("chat")
    with http, penstock.span("outer", input="secret"), post, model:
        pass
    assert penstock.flush().sent == 2
    outer, chat = sdk.span("outer"), sdk.span("chat")
    assert (outer.parent, chat.parent) == (None, outer.id)
    assert set(theirs.spans) == {"GET /", "outer", "POST", "chat"}
    assert "secret" not in str(theirs.spans["outer"].attributes)  # payloads go to us alone
    assert outer.input == "secret"


def test_which_scopes_are_taken_from_a_joined_provider_can_be_chosen(
    collector: Collector, sdk: Collector, theirs: Theirs
) -> None:
    setup(collector, provider=theirs.provider, scopes=lambda scope: scope == "mine")
    for scope in ("mine", "openinference.instrumentation.openai"):
        theirs.tracer(scope).start_span(scope).end()
    penstock.flush()
    assert [span.name for span in sdk.spans] == ["mine"]


def test_only_a_real_provider_can_be_joined(collector: Collector) -> None:
    with pytest.raises(SdkSettingInvalid):
        setup(collector, provider=trace.get_tracer_provider())


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("openinference.instrumentation.langchain", True),
        ("opentelemetry.instrumentation.openai.v1", True),
        ("opentelemetry.instrumentation.anthropic", True),
        ("opentelemetry.util.genai.handler", True),
        ("pydantic-ai", True),
        ("langfuse-sdk", True),
        ("opentelemetry.instrumentation.fastapi", False),
        ("opentelemetry.instrumentation.httpx", False),
        ("opentelemetry.instrumentation.sqlalchemy", False),
        ("my.shop", False),
    ],
)
def test_scopes_about_models_are_known(scope: str, expected: bool) -> None:
    assert is_llm_scope(scope) is expected


def test_a_share_of_traces_is_whole_and_the_same_everywhere(collector: Collector, sdk: Collector) -> None:
    setup(collector, sample=0.5)
    for number in range(200):
        with penstock.span("root"), penstock.span("child"):
            penstock.update(output=number)
    delivery = penstock.flush()
    assert 2 * 60 < delivery.sent < 2 * 140
    by_trace: dict[str, set[str]] = {}
    for span in sdk.spans:
        by_trace.setdefault(span.trace, set()).add(span.name)
    assert set(map(frozenset, by_trace.values())) == {frozenset({"root", "child"})}
    assert all(int(trace_id, 16) & (2**64 - 1) < 2**63 for trace_id in by_trace)


def test_a_programs_seed_does_not_make_ids_come_again(sdk: Collector) -> None:
    ids = set()
    for _ in range(2):
        random.seed(7)
        with penstock.span("x") as it:
            ids.add(it.trace_id)
    assert len(ids) == 2


def test_set_ups_can_be_exchanged_while_spans_are_open(collector: Collector, sdk: Collector) -> None:
    with penstock.span("outer", input="x" * 100):
        setup(collector, service="second")
        with penstock.span("inner"):
            pass
    penstock.flush()
    assert sdk.span("outer").resource["service.name"] == "second"
    pipeline = RUNTIME.pipeline
    assert pipeline is not None
    assert pipeline._bytes == 0
