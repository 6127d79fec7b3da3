"""Replies that must be one of given texts, as a grammar for llama.cpp (GBNF).

The request's form is vLLM's (`structured_outputs: {"choice": […]}`), so the same request works on either engine.
Texts become escaped literals: nothing a caller writes can be read as grammar.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from penstock.base.errors import InvalidInput
from penstock.providers.engines.errors import UnsupportedParameter

MAX_CHOICES = 128
MAX_CHOICE_CHARS = 4000
MAX_BIAS = 100.0


def read_choices(wanted: dict[str, Any] | None) -> tuple[str, ...]:
    """Return the texts a reply may be, empty when any; raise for forms that this engine does not hold to."""
    if wanted is None:
        return ()
    other = sorted(set(wanted) - {"choice", "choice_bias"})
    if other:
        raise UnsupportedParameter(
            f"`structured_outputs.{other[0]}` is not supported by the local engine; known: choice, choice_bias.",
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


def read_choice_bias(wanted: dict[str, Any] | None, choices: Sequence[str]) -> dict[str, float]:
    """Return what to add to the logit of a choice's first token, by choice (`choice_bias`, our extension)."""
    given = (wanted or {}).get("choice_bias")
    if given is None:
        return {}
    if not isinstance(given, dict) or not set(given) <= set(choices):
        raise InvalidInput(
            "`structured_outputs.choice_bias` must map some of the choices to numbers.",
            param="structured_outputs",
        )
    for bias in given.values():
        is_number = isinstance(bias, int | float) and not isinstance(bias, bool) and math.isfinite(bias)
        if not is_number or abs(bias) > MAX_BIAS:
            raise InvalidInput(
                f"`structured_outputs.choice_bias` holds numbers from -{MAX_BIAS:g} to {MAX_BIAS:g}.",
                param="structured_outputs",
            )
    return {choice: float(bias) for choice, bias in given.items()}


def bias_first_tokens(
    choices: Sequence[str], bias: Mapping[str, float], encode: Callable[[Sequence[str]], list[list[int]]]
) -> tuple[tuple[int, float], ...]:
    """Return token ids and what to add to their logits.

    Raises `InvalidInput` when a biased choice begins with the same token as a choice of another bias.
    """
    (empty,) = encode([""])
    biases: dict[int, float] = {}
    for choice, ids in zip(choices, encode(choices), strict=True):
        start = next(
            (place for place, pair in enumerate(zip(ids, empty, strict=False)) if pair[0] != pair[1]),
            len(empty),
        )
        first = ids[min(start, len(ids) - 1)]
        wanted = bias.get(choice, 0.0)
        if biases.setdefault(first, wanted) != wanted:
            raise InvalidInput(
                f"The choice {choice[:40]!r} begins like another one of another bias.",
                param="structured_outputs",
            )
    return tuple((token, value) for token, value in biases.items() if value)


def write_grammar(choices: Sequence[str]) -> str:
    """Return the grammar whose only sentences are `choices`."""
    return "root ::= " + " | ".join(quote_literal(choice) for choice in choices)


def quote_literal(text: str) -> str:
    """Return a text as a literal of a grammar."""
    return '"' + "".join(_escape(char) for char in text) + '"'


def _escape(char: str) -> str:
    code = ord(char)
    if char in '"\\':
        return f"\\{char}"
    if 32 <= code < 127:
        return char
    return f"\\U{code:08X}" if code > 0xFF else f"\\x{code:02X}"
