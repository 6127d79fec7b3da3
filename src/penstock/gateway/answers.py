"""What one attempt at a target ends with: an `Answer` that can be relayed, or an `AttemptFailed` that says why not.

The seam between the code that asks one target (`exchange.py`), the code that decides which target is asked when
(`attempts.py`), and the code that gives the answer to the client (`relay.py`).
"""

from collections.abc import Sequence

from penstock.base.errors import PenstockError
from penstock.dialects.port import Scanner, StreamReader
from penstock.gateway.calls import AttemptRecord
from penstock.gateway.health import Lease
from penstock.gateway.table import ReadyTarget
from penstock.providers.http1 import Connection, Header, Inflater
from penstock.providers.transport import Upstreams
from penstock.spec.hub import Event, HubReply, Start, UsageSeen
from penstock.spec.routes import FaultKind
from penstock.spec.usage import Usage


class Answer:
    """A reply that is going to be relayed: its head, and what has been read of its body.

    Whoever holds an answer gives it to the client or calls `release`, which closes the connection to the provider
    unless the reply was read to a clean end.
    """

    __slots__ = (
        "_held",
        "_upstreams",
        "body",
        "connection",
        "content_type",
        "dropped",
        "events",
        "headers",
        "inflater",
        "is_stream",
        "lease",
        "reader",
        "record",
        "reply",
        "reply_model",
        "scanner",
        "status",
        "target",
        "usage",
    )

    def __init__(
        self,
        target: ReadyTarget,
        *,
        status: int,
        record: AttemptRecord | None = None,
        headers: Sequence[Header] = (),
        content_type: bytes = b"application/json",
        connection: Connection | None = None,
        upstreams: Upstreams | None = None,
        is_stream: bool = False,
        body: bytes = b"",
        inflater: Inflater | None = None,
    ) -> None:
        self.target = target
        self.status = status
        self.record = record
        """Of the attempt that brought it. Says `served`; whoever does not use the answer says otherwise."""
        self.headers = headers
        """As the provider sent them; names in lower case."""
        self.content_type = content_type
        self.connection = connection
        self.is_stream = is_stream
        self.body = body
        """The whole body, or the pieces of a same-dialect stream that have been read so far, undone of compression."""
        self.inflater = inflater
        self.scanner: Scanner | None = None
        """Has been fed `body`. Only for streams in the client's own dialect."""
        self.reader: StreamReader | None = None
        """Only for streams in another dialect than the client's."""
        self.events: list[Event] = []
        """What `reader` has given so far."""
        self.reply: HubReply | None = None
        """The whole reply, decoded, where the client speaks another dialect."""
        self.dropped: tuple[str, ...] = ()
        """What the request said and the target's dialect cannot."""
        self.usage: Usage | None = None
        """Of a whole body; that of a stream is known at its end."""
        self.reply_model: str | None = None
        self.lease: Lease | None = None
        """Of the target, which counts the answer as being in flight; to be told if a stream breaks."""
        self._upstreams = upstreams
        self._held = b""

    def take(self, piece: bytes) -> bytes:
        """Return what the next bytes of the provider add: undone of compression, without the key that it was sent.

        What may be the beginning of the key waits for the bytes that follow, or for `rest`.
        """
        if self.inflater is not None:
            piece = self.inflater.feed(piece)
        target = self.target
        if target.secret is None:
            return piece
        piece = target.mask(self._held + piece if self._held else piece)
        n_unsure = _beginning_of(target.secret, piece)
        if not n_unsure:
            self._held = b""
            return piece
        self._held = piece[-n_unsure:]
        return piece[:-n_unsure]

    def rest(self) -> bytes | None:
        """Return what still waits when no more bytes come; None for nothing."""
        rest, self._held = self._held, b""
        return rest or None

    def told_usage(self) -> Usage | None:
        """Return what the provider has told so far of what the answer used."""
        if self.usage is not None or not self.is_stream:
            return self.usage
        if self.scanner is not None:
            return self.scanner.usage()
        told: Usage | None = None
        for event in self.events:
            if isinstance(event, UsageSeen | Start):
                told = event.usage or told
        return told

    def release(self) -> None:
        """Let go of the connection and the lease. May be called twice."""
        if self.lease is not None:
            self.lease.end()
        connection, self.connection = self.connection, None
        if connection is not None and self._upstreams is not None:
            self._upstreams.release(self.target.origin, connection)


class AttemptFailed(Exception):
    """One attempt did not bring an answer that can serve the call.

    `fault` is None where no other attempt can help, because the request itself is wrong. `answer` is the provider's
    own error reply, in the client's dialect, to be relayed when nobody does better; it holds no connection.
    `retry_after_s` is how long the provider asked to be left alone. `was_sent` says whether the request, or a part of
    it, was written to the provider, who may then charge for it.
    """

    def __init__(
        self,
        error: PenstockError,
        *,
        fault: FaultKind | None,
        retry_after_s: float | None = None,
        answer: Answer | None = None,
        was_sent: bool = False,
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.fault = fault
        self.retry_after_s = retry_after_s
        self.answer = answer
        self.was_sent = was_sent


def _beginning_of(secret: bytes, data: bytes) -> int:
    """Return how many bytes at the end of `data` may be the beginning of `secret`."""
    if data.endswith(b"\n"):  # as most of a stream does, and no key holds
        return 0
    at = data.find(secret[:1], max(0, len(data) - len(secret) + 1))
    while at >= 0 and not secret.startswith(data[at:]):
        at = data.find(secret[:1], at + 1)
    return 0 if at < 0 else len(data) - at
