"""`llama-index` with both instrumentations in turn; a program of its own, as it needs an older `openai`."""

import json
import sys
from typing import Any

from llama_index.core import Document, SummaryIndex
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai import OpenAI
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor as OpenInference
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.llamaindex import LlamaIndexInstrumentor as OpenLLMetry
from opentelemetry.instrumentation.openai import OpenAIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor


def main(upstream: str, url: str, key: str) -> dict[str, Any]:
    """Ask a model and a retriever under each instrumentation."""
    got = {}
    for name, kinds in (
        ("openinference", (OpenInference,)),
        ("openllmetry", (OpenLLMetry, OpenAIInstrumentor)),
    ):
        exporter = OTLPSpanExporter(endpoint=f"{url}/v1/traces", headers={"authorization": f"Bearer {key}"})
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        instrumentors = [kind() for kind in kinds]
        for instrumentor in instrumentors:
            instrumentor.instrument(tracer_provider=provider, skip_dep_check=True)
        model = OpenAI(model="gpt-4o-mini", api_base=f"{upstream}/v1", api_key="k", max_retries=0)
        got[name] = model.chat([ChatMessage(role="user", content="What now?")]).message.content
        index = SummaryIndex.from_documents([Document(text="Water is wet.")])
        index.as_retriever().retrieve("wet")
        index.as_query_engine(llm=model).query("What now?")
        for instrumentor in instrumentors:
            instrumentor.uninstrument()
        provider.shutdown()
    return got


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))  # noqa: T201  # a program that prints
