"""How long a rendered prompt is: counted by the model's own tokenizer where that is at hand, else an estimate that says so."""

import json
from typing import Any

from penstock.prompts.types import TokenCount, Tokenizers
from penstock.templating.render import Rendered

PER_MESSAGE = 4
"""Tokens that chat templates put around a turn."""
_ASCII_CHARS_PER_TOKEN = 4.0
_OTHER_CHARS_PER_TOKEN = 1.5
_IMAGE_TOKENS = 800


def count_tokens(rendered: Rendered, model: str | None, tokenizers: Tokenizers | None) -> TokenCount:
    """Return how many tokens are sent: messages and tools."""
    texts, n_images = _texts_of(rendered)
    if tokenizers is not None and model is not None and not n_images and not rendered.tools:
        found = tokenizers.count(model, rendered.messages)
        if found is not None:
            return TokenCount(n_tokens=found[0], is_estimate=False, how=found[1])
    around = PER_MESSAGE * len(rendered.messages) + _IMAGE_TOKENS * n_images
    return TokenCount(
        n_tokens=sum(map(estimate_tokens, texts)) + around,
        is_estimate=True,
        how="estimate: 4 ASCII or 1.5 other characters a token",
    )


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a text has."""
    n_ascii = sum(char.isascii() for char in text)
    return round(n_ascii / _ASCII_CHARS_PER_TOKEN + (len(text) - n_ascii) / _OTHER_CHARS_PER_TOKEN + 0.49)


def _texts_of(rendered: Rendered) -> tuple[list[str], int]:
    texts: list[str] = []
    n_images = 0
    for message in rendered.messages:
        content: Any = message.get("content")
        if isinstance(content, str):
            texts.append(content)
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                texts.append(part["text"])
            else:
                n_images += 1
        if message.get("tool_calls"):
            texts.append(json.dumps(message["tool_calls"], ensure_ascii=False))
    if rendered.tools:
        texts.append(json.dumps(rendered.tools, ensure_ascii=False))
    return texts, n_images
