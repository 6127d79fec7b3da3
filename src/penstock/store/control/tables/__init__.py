"""Every control table, one module per room. Importing this package fills `metadata`."""

from penstock.store.control.metadata import metadata
from penstock.store.control.tables import (
    access,
    deploy,
    evaluations,
    gates,
    jobs,
    judges,
    knowledge,
    knowledge_erasure,
    knowledge_quality,
    measures,
    monitors,
    privacy,
    proposals,
    registry,
    tuning,
    views,
)

__all__ = [
    "access",
    "deploy",
    "evaluations",
    "gates",
    "jobs",
    "judges",
    "knowledge",
    "knowledge_erasure",
    "knowledge_quality",
    "measures",
    "metadata",
    "monitors",
    "privacy",
    "proposals",
    "registry",
    "tuning",
    "views",
]
