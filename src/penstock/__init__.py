"""Penstock: all of LLM operations in one program.

Importing this package does no I/O, starts no thread and loads none of the heavy libraries; the
architecture tests hold it to that. The names of the SDK are loaded when they are first used (PEP 562).
"""

import importlib

TYPE_CHECKING = False  # type checkers take it as true; importing `typing` for it would be most of this import
if TYPE_CHECKING:
    from penstock.main.evaluate import EvaluationReport, evaluate
    from penstock.sdk.carried import attributes
    from penstock.sdk.delivery import Delivery
    from penstock.sdk.judgements import feedback, score
    from penstock.sdk.observation import Observation, current_span, span, update
    from penstock.sdk.observe import observe
    from penstock.sdk.prompts import Prompt, prompt
    from penstock.sdk.propagation import headers, inject, inject_async
    from penstock.sdk.retrieval import Retrieved, RetrievedPassage, retrieve, retrieve_async
    from penstock.sdk.runtime import configure, flush, instrument_with, shutdown, tracer_provider

__version__ = "0.1.0"
__all__ = [
    "Delivery",
    "EvaluationReport",
    "Observation",
    "Prompt",
    "Retrieved",
    "RetrievedPassage",
    "__version__",
    "attributes",
    "configure",
    "current_span",
    "evaluate",
    "feedback",
    "flush",
    "headers",
    "inject",
    "inject_async",
    "instrument_with",
    "observe",
    "prompt",
    "retrieve",
    "retrieve_async",
    "score",
    "shutdown",
    "span",
    "tracer_provider",
    "update",
]
_HOMES = {
    "carried": ("attributes",),
    "delivery": ("Delivery",),
    "judgements": ("feedback", "score"),
    "observation": ("Observation", "current_span", "span", "update"),
    "observe": ("observe",),
    "prompts": ("Prompt", "prompt"),
    "propagation": ("headers", "inject", "inject_async"),
    "retrieval": ("Retrieved", "RetrievedPassage", "retrieve", "retrieve_async"),
    "runtime": ("configure", "flush", "instrument_with", "shutdown", "tracer_provider"),
}
_PLACES = {name: f"penstock.sdk.{module}" for module, names in _HOMES.items() for name in names}
_PLACES.update(evaluate="penstock.main.evaluate", EvaluationReport="penstock.main.evaluate")


def __getattr__(name: str) -> object:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'penstock' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(place), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
