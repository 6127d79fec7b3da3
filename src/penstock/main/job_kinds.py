"""The kinds of jobs that this program's worker does."""

MODEL_PULL = "model.pull"
"""Spec `{name, source}`: fetch, convert, prove and register a model."""
KNOWLEDGE_INGEST = "knowledge.ingest"
"""Spec `{name, folder}`: make a knowledge base hold what a folder holds, and an app answer from it."""
TRACES_REMAP = "traces.remap"
"""Spec `{}`: bring stored foreign spans up to the present mapping table."""
