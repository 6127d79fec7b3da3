"""Cohere's chat protocol, version 2, as one dialect.

What the hub loses, and what this dialect cannot say of what others can:

| said | here |
|---|---|
| unknown members (`documents`, `citation_options`, `safety_mode`, `priority` …) | kept, and written back to Cohere; else dropped |
| `tool_plan` | a thought; goes back to its own place |
| citations | kept with their text; those of other providers are left out of a client's reply |
| a document in a tool's result | kept whole (`Opaque`) |
| numbers of tokens in log probabilities | lost; a chunk of several tokens is one entry |
| the model that answered | never told |
| thoughts of other providers | their text is sent; signatures and sealed thoughts are dropped |
| a tool to be called by name | any is asked for; the name is dropped, unless there is but one |
| `parallel_tool_calls: false`, `n`, `top_logprobs`, `user`, `metadata`, message `name`, `is_error` | dropped |
| `strict` of some tools only | dropped; of all tools it is `strict_tools` |
| JSON beside tools | dropped: Cohere refuses the two together |
| `top_p`, `top_k`, penalties out of the documented ranges; stop sequences after the fifth | dropped |
| an effort for reasoning | thinking is switched on; how much is dropped |
| images in results, sounds, videos, files | dropped |
"""

from penstock.dialects.cohere.errors import read_error, write_error
from penstock.dialects.cohere.reply import read_reply, read_usage, write_reply
from penstock.dialects.cohere.request_read import peek, read_request
from penstock.dialects.cohere.request_write import write_request
from penstock.dialects.cohere.stream_read import Scanner, StreamReader
from penstock.dialects.cohere.stream_write import StreamWriter
from penstock.dialects.openai.splice import replace_model
from penstock.spec.hub import HubReply, HubRequest
from penstock.spec.routes import DialectName


class CohereDialect:
    """See `dialects.port.Dialect`."""

    name: DialectName = "cohere"
    stream_content_type = b"text/event-stream; charset=utf-8"

    peek = staticmethod(peek)
    replace_model = staticmethod(replace_model)
    read_request = staticmethod(read_request)
    write_request = staticmethod(write_request)
    read_reply = staticmethod(read_reply)
    read_usage = staticmethod(read_usage)
    read_error = staticmethod(read_error)
    write_error = staticmethod(write_error)
    stream_reader = StreamReader
    scanner = Scanner

    def write_reply(self, reply: HubReply, *, model: str, request: HubRequest) -> bytes:
        """Encode a reply for the client."""
        del model
        return write_reply(reply, request=request)

    def stream_writer(self, *, model: str, request: HubRequest) -> StreamWriter:
        """Return a writer for one stream."""
        del model
        return StreamWriter(wants_logprobs=bool(request.logprobs))


COHERE = CohereDialect()
