"""About how many tokens a text has: the one place for all who have to guess, because nobody has told."""

import re

BYTES_PER_TOKEN = 4
"""Of text."""
STREAM_BYTES_PER_TOKEN = 200
"""Of a stream that was not kept: a token comes in a JSON event of its own, of about this size."""
BLOB_TOKENS = 1000
"""What an image or a document inside a request is taken for."""
_LONG_BODY_BYTES = 8192
_BLOB = re.compile(rb"[A-Za-z0-9+/_-]{4096,}={0,2}")


def estimate_prompt_tokens(body: bytes) -> int:
    """Return about how many tokens a request's text has; images and files inside count as `BLOB_TOKENS` each."""
    size = len(body)
    if size <= _LONG_BODY_BYTES:
        return max(1, size // BYTES_PER_TOKEN)
    blobs = [found.end() - found.start() for found in _BLOB.finditer(body)]
    return max(1, (size - sum(blobs)) // BYTES_PER_TOKEN + BLOB_TOKENS * len(blobs))


def estimate_reply_tokens(size: int, *, streamed: bool) -> int:
    """Return about how many tokens a reply of `size` bytes has, of which nothing else is known."""
    return size // (STREAM_BYTES_PER_TOKEN if streamed else BYTES_PER_TOKEN)
