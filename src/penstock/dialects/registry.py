"""All chat dialects by name. The only place that knows which exist."""

from penstock.dialects.gemini.dialect import GEMINI
from penstock.dialects.openai.dialect import OPENAI
from penstock.dialects.port import Dialect
from penstock.spec.routes import DialectName

DIALECTS: dict[DialectName, Dialect] = {
    "openai": OPENAI,
    "gemini": GEMINI,
}
"""Stateless and shared; the assignment is what the type checker holds each dialect against its port with."""
