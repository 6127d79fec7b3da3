"""A stream as the one reply that it says, for the span: in the client's own dialect."""

from typing import Any

import msgspec

from penstock.dialects.assembly import assemble
from penstock.dialects.openai.replies import fold_stream
from penstock.dialects.registry import DIALECTS
from penstock.spec.hub import HubRequest
from penstock.spec.routes import DialectName


def fold_output(dialect: DialectName, body: bytes) -> Any:
    """Return the bytes of a stream, perhaps cut off, as a whole reply; text where they are of an unknown kind."""
    if dialect == "openai":
        return fold_stream(body)
    known = DIALECTS.get(dialect)
    if known is None:
        return body.decode("utf-8", "replace")
    reader = known.stream_reader()
    reply = assemble([*reader.feed(body), *reader.finish()], source=dialect)
    model = reply.model or ""
    request = HubRequest(source=dialect, model=model, messages=[])
    return msgspec.json.decode(known.write_reply(reply, model=model, request=request))
