"""Every control table, one module per room. Importing this package fills `metadata`."""

from penstock.store.control.metadata import metadata
from penstock.store.control.tables import access, jobs, knowledge, registry

__all__ = ["access", "jobs", "knowledge", "metadata", "registry"]
