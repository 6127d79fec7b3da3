"""Every control table, one module per room. Importing this package fills `metadata`."""

from penstock.store.control.metadata import metadata
from penstock.store.control.tables import (
    access,
    deploy,
    evaluations,
    jobs,
    knowledge,
    measures,
    monitors,
    privacy,
    proposals,
    registry,
    views,
)

__all__ = [
    "access",
    "deploy",
    "evaluations",
    "jobs",
    "knowledge",
    "measures",
    "metadata",
    "monitors",
    "privacy",
    "proposals",
    "registry",
    "views",
]
