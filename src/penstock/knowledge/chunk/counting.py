"""How long a text is: in words, or in tokens where no tokenizer is at hand."""

import math
from collections.abc import Callable, Sequence

TokenCounter = Callable[[Sequence[str]], list[int]]
"""Texts to their lengths in an embedder's tokens."""
CHARS_PER_WORD = 8
"""Text without spaces (other scripts, long codes) counts one word for so many characters."""
BYTES_PER_TOKEN = 2.5
"""Below what any common tokenizer makes of prose in any script (English 4 to 5, Chinese 3)."""


def count_words(text: str) -> int:
    """Return the size of `text` in words."""
    return max(len(text.split()), math.ceil(len(text) / CHARS_PER_WORD))


def estimate_tokens(texts: Sequence[str]) -> list[int]:
    """Return about how many tokens each text has; rather too many than too few."""
    return [math.ceil(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN) for text in texts]
