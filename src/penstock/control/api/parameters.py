"""Kinds of query parameters that several routes take."""

from typing import Annotated

from pydantic import Field

StoredNumber = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""A time in nanoseconds, or the number of a row: what the stores can hold."""
