"""The official `openai` client under one instrumentation, scenario by scenario; a program of its own.

OpenLLMetry's wrappers stay on the client after `uninstrument`, so each instrumentation gets a process. One sends with
OpenTelemetry's own exporter, the other through Penstock's provider: both are ways that people take.
"""

import sys
from contextlib import suppress
from typing import Any

import openai
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import penstock

ASK: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What now?"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": SCHEMA}}
]


def chat(client: openai.OpenAI) -> None:
    client.chat.completions.create(model="text", messages=ASK)


def stream(client: openai.OpenAI) -> None:
    more: Any = {"stream": True, "stream_options": {"include_usage": True}}
    list(client.chat.completions.create(model="text", messages=ASK, **more))


def tools(client: openai.OpenAI) -> None:
    client.chat.completions.create(model="tools", messages=ASK, tools=TOOLS)


def responses(client: openai.OpenAI) -> None:
    client.responses.create(model="text", input="What now?")


def embeddings(client: openai.OpenAI) -> None:
    client.embeddings.create(model="any", input=["a", "b"])


def refused(client: openai.OpenAI) -> None:
    with suppress(openai.RateLimitError):
        client.chat.completions.create(model="limit", messages=ASK)


def left_early(client: openai.OpenAI) -> None:
    with client.chat.completions.create(model="text", messages=ASK, stream=True) as pieces:
        for piece in pieces:
            if piece.choices and piece.choices[0].delta.content:
                return


SCENARIOS = (chat, stream, tools, responses, embeddings, refused, left_early)


def main(kind: str, upstream: str, url: str, key: str) -> None:
    """Run every scenario below a span of its name."""
    instrumentor: Any
    if kind == "openinference":
        from openinference.instrumentation.openai import OpenAIInstrumentor as OpenInference

        provider = TracerProvider(resource=Resource({"service.name": "instrumented", "service.version": "7"}))
        exporter = OTLPSpanExporter(endpoint=f"{url}/v1/traces", headers={"authorization": f"Bearer {key}"})
        provider.add_span_processor(BatchSpanProcessor(exporter))
        instrumentor = OpenInference()
        instrumentor.instrument(tracer_provider=provider)
    else:
        from opentelemetry.instrumentation.openai import OpenAIInstrumentor as OpenLLMetry

        penstock.configure(url=url, key=key, service="instrumented", release="7", spill=False)
        provider = penstock.tracer_provider()
        instrumentor = OpenLLMetry()
        penstock.instrument_with(instrumentor)
    tracer = provider.get_tracer("scenarios")
    with openai.OpenAI(base_url=f"{upstream}/v1", api_key="k", max_retries=0) as client:
        for scenario in SCENARIOS:
            with tracer.start_as_current_span(scenario.__name__):
                scenario(client)
    assert provider.force_flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
