"""Filters of a trace list as they arrive from a URL: texts in, a checked query out."""

from collections.abc import Mapping

import msgspec

from penstock.base.errors import InvalidInput
from penstock.store.spans.types import TraceQuery


def build_query(fields: Mapping[str, object]) -> TraceQuery:
    """Return the query with these filters, empty ones left out; raise `InvalidInput` that names the wrong one."""
    try:
        return msgspec.convert(
            {name: value for name, value in fields.items() if value not in {None, ""}},
            TraceQuery,
            strict=False,
        )
    except msgspec.ValidationError as error:
        raise InvalidInput(f"A filter cannot be read: {error}.") from error
