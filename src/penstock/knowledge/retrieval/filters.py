"""Which rows a search may find: filters as people and programs write them, and who asks."""

from typing import Any

from penstock.spec.knowledge import Condition


def read_filter(value: str | dict[str, Any]) -> Condition:
    """Return the condition that a text (`language:de modified:>2026-01-01`) or a JSON filter says."""
    raise NotImplementedError
