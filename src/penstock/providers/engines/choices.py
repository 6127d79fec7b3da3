"""Replies that must be one of given texts, as a grammar for llama.cpp (GBNF).

The request's form is vLLM's (`structured_outputs: {"choice": […]}`), so the same request works on either engine.
Texts become escaped literals: nothing a caller writes can be read as grammar.
"""

from collections.abc import Sequence
from typing import Any

from penstock.base.errors import InvalidInput
from penstock.providers.engines.errors import UnsupportedParameter

MAX_CHOICES = 128
MAX_CHOICE_CHARS = 4000


def read_choices(wanted: dict[str, Any] | None) -> tuple[str, ...]:
    """Return the texts a reply may be, empty when any; raise for forms that this engine does not hold to."""
    if wanted is None:
        return ()
    other = sorted(set(wanted) - {"choice"})
    if other:
        raise UnsupportedParameter(
            f"`structured_outputs.{other[0]}` is not supported by the local engine; known: choice.",
            param="structured_outputs",
        )
    texts = wanted.get("choice")
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidInput("`structured_outputs.choice` must be a list of texts.", param="structured_outputs")
    if not 1 <= len(texts) <= MAX_CHOICES or not all(0 < len(text) <= MAX_CHOICE_CHARS for text in texts):
        raise InvalidInput(
            f"`structured_outputs.choice` must hold 1 to {MAX_CHOICES} texts of 1 to {MAX_CHOICE_CHARS} characters.",
            param="structured_outputs",
        )
    return tuple(dict.fromkeys(texts))


def write_grammar(choices: Sequence[str]) -> str:
    """Return the grammar whose only sentences are `choices`."""
    return "root ::= " + " | ".join(_quote(choice) for choice in choices)


def _quote(text: str) -> str:
    return '"' + "".join(_escape(char) for char in text) + '"'


def _escape(char: str) -> str:
    code = ord(char)
    if char in '"\\':
        return f"\\{char}"
    if 32 <= code < 127:
        return char
    return f"\\U{code:08X}" if code > 0xFF else f"\\x{code:02X}"
