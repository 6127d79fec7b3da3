"""All chat dialects by name. The only place that knows which exist."""

from penstock.dialects.anthropic.dialect import ANTHROPIC
from penstock.dialects.bedrock.dialect import BEDROCK
from penstock.dialects.cohere.dialect import COHERE
from penstock.dialects.gemini.dialect import GEMINI
from penstock.dialects.openai.dialect import OPENAI
from penstock.dialects.port import Dialect
from penstock.dialects.responses.dialect import RESPONSES
from penstock.spec.routes import DialectName

DIALECTS: dict[DialectName, Dialect] = {
    "openai": OPENAI,
    "responses": RESPONSES,
    "anthropic": ANTHROPIC,
    "gemini": GEMINI,
    "bedrock": BEDROCK,
    "cohere": COHERE,
}
"""Stateless and shared; the assignment is what the type checker holds each dialect against its port with."""
