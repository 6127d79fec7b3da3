"""Cuts what is to be embedded into requests, and texts that no request takes into parts."""

import re
from collections.abc import Iterator, Sequence

MAX_BATCH_TOKENS = 100_000
"""Estimated; providers take from about 120 000 to 300 000 in a request."""
_SPACE = re.compile(r"\s+")


def make_batches(
    texts: Sequence[str], counts: Sequence[int], *, size: int, max_tokens: int = MAX_BATCH_TOKENS
) -> Iterator[range]:
    """Yield ranges of texts, in order, of at most `size` texts and `max_tokens` tokens; a text over it goes alone."""
    first = total = 0
    for number in range(len(texts)):
        if number > first and (number - first >= size or total + counts[number] > max_tokens):
            yield range(first, number)
            first, total = number, 0
        total += counts[number]
    if first < len(texts):
        yield range(first, len(texts))


def halve_text(text: str) -> tuple[str, str] | None:
    """Return two parts of about equal length, cut at a space where one is near; None for what has no two parts."""
    text = text.strip()
    middle = len(text) // 2
    if not middle:
        return None
    spaces = [space.start() for space in _SPACE.finditer(text, middle // 2, len(text) - middle // 2)]
    cut = min(spaces, key=lambda place: abs(place - middle), default=middle)
    first, last = text[:cut].strip(), text[cut:].strip()
    return (first, last) if first and last else None
