"""Anthropic's Messages protocol as one dialect.

What the hub loses, and what this dialect cannot say of what others can:

| said | here |
|---|---|
| unknown members of a request, message, block, tool | kept, and written back to Anthropic; else dropped |
| `cache_control` marks | kept; also taken from clients of other dialects |
| server tools, their results, other blocks without a word in the hub | kept whole (`Opaque`) |
| citations of a text | kept; those of other providers are left out of a client's reply |
| signatures and sealed thoughts of other providers | shown to clients marked, taken back, never sent to Anthropic |
| `n`, `seed`, penalties, logprobs, `metadata`, message `name` | dropped |
| `temperature` over 1 | dropped |
| plain JSON mode | dropped; a schema is `output_config.format` |
| sounds, videos, files of other providers, image `detail` | dropped |
| system messages between others | their text moves to `system`; the place is dropped |
| `max_tokens` left open | 4096, or the budget for thinking + 4096 |
| an effort, for models before Claude 4.6 | a budget of tokens |
"""

from penstock.dialects.anthropic.errors import read_error, write_error
from penstock.dialects.anthropic.reply import read_reply, read_usage, write_reply
from penstock.dialects.anthropic.request_read import peek, read_request
from penstock.dialects.anthropic.request_write import write_request
from penstock.dialects.anthropic.stream_read import Scanner, StreamReader
from penstock.dialects.anthropic.stream_write import StreamWriter
from penstock.dialects.openai.splice import replace_model
from penstock.spec.hub import HubRequest
from penstock.spec.routes import DialectName


class AnthropicDialect:
    """See `dialects.port.Dialect`."""

    name: DialectName = "anthropic"
    stream_content_type = b"text/event-stream; charset=utf-8"

    peek = staticmethod(peek)
    replace_model = staticmethod(replace_model)
    read_request = staticmethod(read_request)
    write_request = staticmethod(write_request)
    read_reply = staticmethod(read_reply)
    write_reply = staticmethod(write_reply)
    read_usage = staticmethod(read_usage)
    read_error = staticmethod(read_error)
    write_error = staticmethod(write_error)
    stream_reader = StreamReader
    scanner = Scanner

    def stream_writer(self, *, model: str, request: HubRequest) -> StreamWriter:
        """Return a writer for one stream."""
        del request
        return StreamWriter(model=model)


ANTHROPIC = AnthropicDialect()
