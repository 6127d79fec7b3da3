"""The billing journal: what a worker owes to the ledger, kept where `kill -9` cannot reach it.

Each request to a provider has a slot in a memory-mapped file of its worker, opened before the request's first byte is
sent, settled when tokens and money are known, and freed once the spool has the span on disk. The pages belong to the
kernel, so they outlive the process (not a power cut: what was not yet written back is then lost). Whoever finds the
file of a worker that is gone makes spans of its slots, with the ids that the worker had given them; the span store
takes each id once, so nothing is billed twice.

A slot's state is its first byte and is written last: a slot that the worker was just writing when it died counts as
what it was before.
"""

import fcntl
import logging
import mmap
import os
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import msgspec

from penstock.base.errors import BugError
from penstock.gateway.bills import PASSED_ON
from penstock.providers.prices import PriceBook
from penstock.spec.callers import APPS
from penstock.spec.spans import Span, SpanKind, SpanStatus
from penstock.spec.usage import TOKEN_CLASSES, Cost, Usage

SLOT_BYTES = 2048
N_SLOTS = 4096
RECOVERED = "penstock.recovered"
RATES = "penstock.cost.rates"
_MAGIC = b"PSJRNL01"
_HEADER_BYTES = 64
_SETTLED_AT = 1200
_FREE, _OPEN, _SETTLED = 0, 1, 2
_BLANK = bytes(SLOT_BYTES)
"""A free slot: what a call said of its user is not left in the file."""
_HEAD = struct.Struct("<H32s16s16sBqqHH")
"""Size of what follows the size, ids, whether it is the first, time, tokens, and the sizes of user and session."""
MAX_LABEL_BYTES = 200
KINDS: dict[str, SpanKind] = {
    "embeddings": "embedding",
    "count_tokens": "internal",
    "moderations": "internal",
    "search": "internal",  # the search itself is the span of the apps process below it
}
"""Operation → kind of its span, `llm` for all others."""
_log = logging.getLogger("penstock.journal")


class WorkerLost(BugError):
    """The gateway worker that served this call died before it could tell how the call ended."""

    code = "PS-9661"


class OpenedFor(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True, gc=False):
    """What all requests of one key to one target have in common."""

    operation: str
    project: str
    key_id: str | None
    route: str | None
    provider: str
    price_id: str | None
    model: str
    usd_per_million: Decimal | None
    """Price of input tokens when it was sent, None where it was not known."""
    price_source: str | None
    versions: dict[str, str] = {}

    def packed(self) -> bytes:
        """Return it as it stands in a slot, without what may be long if it would not fit."""
        data = _encode(self)
        if len(data) <= _SETTLED_AT - 4 - _HEAD.size - 2 * MAX_LABEL_BYTES:
            return data
        route = self.route[:64] if self.route else None
        return _encode(msgspec.structs.replace(self, versions={}, route=route))


class Opened(msgspec.Struct, frozen=True, gc=False):
    """What is known of a request when it is sent."""

    trace_id: str
    span_id: str
    parent_id: str | None
    is_first: bool
    """Not a further attempt of the same call."""
    start_ns: int
    input_tokens: int
    """Estimated from the body."""
    user_id: str | None
    session_id: str | None
    common: OpenedFor


class Settled(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True, gc=False):
    """What is known when it is over."""

    span_id: str
    parent_id: str | None
    kind: SpanKind
    end_ns: int
    status: SpanStatus
    error_code: str | None
    error_message: str | None
    http_status: int | None
    model: str | None
    streamed: bool
    attempts: int | None
    ttft_ms: float | None
    usage: tuple[int | None, ...] | None
    """In the order of `TOKEN_CLASSES`."""
    estimated: bool
    cost_usd: Decimal | None
    cost_source: str | None
    """None where the price was not loaded yet; whoever recovers looks it up."""


_encode = msgspec.msgpack.Encoder(decimal_format="string").encode
_common = msgspec.msgpack.Decoder(OpenedFor)
_settled = msgspec.msgpack.Decoder(Settled)


class Journal:
    """The slots of one worker. `free` may be called from any thread, the rest from one."""

    def __init__(self, folder: Path, *, n_slots: int = N_SLOTS) -> None:
        """Make the file; raise `OSError` where there is no room for it."""
        folder.mkdir(parents=True, exist_ok=True)
        self.n_uncovered = 0
        """Requests that were sent without a slot, because none was free or the entry was too long."""
        self._path = folder / f"{os.getpid()}-{time.time_ns()}.bin"
        size = _HEADER_BYTES + n_slots * SLOT_BYTES
        part = self._path.with_suffix(".part")
        self._descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # The lock says that the worker lives; it is taken before anybody can find the file. Room is taken at once:
            # a page that finds the disk full when it is first written to would end the process.
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(self._descriptor, 0, size)
            self._map = mmap.mmap(self._descriptor, size)
            self._map[: len(_MAGIC)] = _MAGIC
            part.rename(self._path)
        except OSError:
            part.unlink(missing_ok=True)
            os.close(self._descriptor)
            raise
        # Last in, first out: a worker touches as few pages as it has calls under way.
        self._free = list(range(n_slots - 1, -1, -1))
        self._n_slots = n_slots

    def begin(
        self,
        trace_id: str,
        span_id: str,
        parent_id: str | None,
        *,
        is_first: bool,
        start_ns: int,
        input_tokens: int,
        user_id: str | None,
        session_id: str | None,
        common: bytes,
    ) -> int:
        """Open a slot and return its number, -1 if there is none. `common` is an `OpenedFor`, packed."""
        user = b"" if user_id is None else user_id.encode("utf-8", "replace")[:MAX_LABEL_BYTES]
        session = b"" if session_id is None else session_id.encode("utf-8", "replace")[:MAX_LABEL_BYTES]
        size = _HEAD.size + len(user) + len(session) + len(common)
        if not self._free or size > _SETTLED_AT - 2:
            self.n_uncovered += 1
            return -1
        slot = self._free.pop()
        at = _HEADER_BYTES + slot * SLOT_BYTES
        head = _HEAD.pack(
            size,
            trace_id.encode(),
            span_id.encode(),
            b"" if parent_id is None else parent_id.encode(),
            is_first,
            start_ns,
            input_tokens,
            len(user),
            len(session),
        )
        self._map[at + 2 : at + 2 + size] = b"".join((head, user, session, common))
        self._map[at] = _OPEN
        return slot

    def settle(self, slot: int, entry: Settled) -> None:
        """Write the true figures of an open slot."""
        data = _encode(entry)
        room = SLOT_BYTES - _SETTLED_AT - 2
        if len(data) > room:
            data = _encode(msgspec.structs.replace(entry, error_message=None, model=None))
            if len(data) > room:
                return  # stays open: recovered as an estimate
        at = _HEADER_BYTES + slot * SLOT_BYTES
        start = at + _SETTLED_AT
        size = len(data)
        self._map[start : start + 2 + size] = size.to_bytes(2, "little") + data
        self._map[at] = _SETTLED

    def free(self, slot: int) -> None:
        """Give a slot back: its span is on disk, or nothing is to be billed."""
        if not self._map.closed:
            at = _HEADER_BYTES + slot * SLOT_BYTES
            self._map[at : at + SLOT_BYTES] = _BLANK
            self._free.append(slot)

    @property
    def n_open(self) -> int:
        """Slots in use."""
        return self._n_slots - len(self._free)

    def close(self) -> None:
        """Let go of the file; it goes away unless slots are in use, which are then recovered by whoever comes."""
        if self._map.closed:
            return
        if not self.n_open:
            self._path.unlink(missing_ok=True)
        self._map.close()
        os.close(self._descriptor)


def open_journal(folder: Path) -> Journal | None:
    """Return a new journal, or None (and say so) where the disk has no room for one."""
    try:
        return Journal(folder)
    except OSError as error:
        _log.warning(
            "no billing journal, calls of a killed worker would not be billed", extra={"reason": str(error)}
        )
        return None


def recover_journals(folder: Path, store: Callable[[Sequence[Span]], None], prices: PriceBook) -> int:
    """Store a span for each slot that dead workers left, remove their files, and return how many there were.

    `store` returns once the spans are on disk. Files of living workers are left alone. Doing it twice, or by two
    processes at once, changes nothing.
    """
    total = 0
    for path in sorted(folder.glob("*.bin")):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            spans = [_span_of(*entry, prices) for entry in _read_slots(path.read_bytes())]
            if spans:
                store(spans)
                _log.warning("calls of a lost worker recovered", extra={"n_calls": len(spans)})
            path.unlink(missing_ok=True)
            total += len(spans)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
    return total


def _read_slots(data: bytes) -> Iterator[tuple[Opened, Settled | None]]:
    if not data.startswith(_MAGIC):
        return
    for at in range(_HEADER_BYTES, len(data) - SLOT_BYTES + 1, SLOT_BYTES):
        state = data[at]
        if state not in (_OPEN, _SETTLED):
            continue
        try:
            opened = _read_opened(data, at + 2)
            settled = _settled.decode(_sized(data, at + _SETTLED_AT)) if state == _SETTLED else None
        except (msgspec.MsgspecError, UnicodeError):
            _log.error("a slot of a lost worker cannot be read", extra={"at": at})
            continue
        yield opened, settled


def _read_opened(data: bytes, at: int) -> Opened:
    size, trace, span, parent, is_first, start_ns, tokens, n_user, n_session = _HEAD.unpack_from(data, at)
    user_at = at + _HEAD.size
    session_at = user_at + n_user
    common_at = session_at + n_session
    return Opened(
        trace.decode("ascii"),
        span.decode("ascii"),
        parent.decode("ascii").strip("\0") or None,
        bool(is_first),
        start_ns,
        tokens,
        data[user_at:session_at].decode("utf-8", "ignore") or None,
        data[session_at:common_at].decode("utf-8", "ignore") or None,
        _common.decode(data[common_at : at + size]),
    )


def _sized(data: bytes, at: int) -> bytes:
    size = int.from_bytes(data[at : at + 2], "little")
    return data[at + 2 : at + 2 + size]


def _span_of(opened: Opened, settled: Settled | None, prices: PriceBook) -> Span:
    """Return the span of a slot; what was never settled is estimated from what was sent."""
    common = opened.common
    kind = KINDS.get(common.operation, "llm") if opened.is_first else "attempt"
    attributes: dict[str, object] = {"gen_ai.operation.name": common.operation, RECOVERED: True}
    same = {
        "trace_id": opened.trace_id,
        "name": f"{common.operation} {common.route}" if kind != "attempt" else f"attempt {common.provider}",
        "start_ns": opened.start_ns,
        "project": common.project,
        "service": "gateway",
        "key_id": common.key_id,
        "user_id": opened.user_id,
        "session_id": opened.session_id,
        "route": common.route,
        "provider": common.provider,
        "versions": common.versions,
        "attributes": attributes,
        "payload_dropped": True,
    }
    if settled is None:
        usage: Usage | None = Usage(input_uncached=opened.input_tokens, estimated=True)
        cost = _estimate(opened, prices)
        attributes.update(_rates(cost.rates))
        return Span(
            span_id=opened.span_id,
            parent_id=opened.parent_id,
            kind=kind,
            model=common.model,
            status="error",
            status_message="The worker that served this call died; what it used is estimated.",
            error_code=WorkerLost.code,
            usage=usage,
            cost_usd=cost.usd,
            cost_source=cost.source,
            **same,  # type: ignore[arg-type]  # names and types are those of Span
        )
    usage = None
    if settled.usage is not None:
        counts = dict(zip(TOKEN_CLASSES, settled.usage, strict=True))
        usage = Usage(estimated=settled.estimated, **counts)  # type: ignore[arg-type]  # all of them are counts
    cost = _price(opened, settled.model or common.model, usage, prices)
    if settled.cost_source is not None:
        # what was computed at the time of the call stands; the rates are only told where they lead to it
        rates = cost.rates if cost.usd == settled.cost_usd else {}
        cost = Cost(usd=settled.cost_usd, source=settled.cost_source, rates=rates)
    attributes.update(_rates(cost.rates))
    return Span(
        span_id=settled.span_id,
        parent_id=settled.parent_id,
        kind=settled.kind,
        end_ns=settled.end_ns,
        status=settled.status,
        status_message=settled.error_message,
        error_code=settled.error_code,
        model=settled.model or common.model,
        http_status=settled.http_status,
        streamed=settled.streamed,
        attempts=settled.attempts,
        ttft_ms=settled.ttft_ms,
        usage=usage,
        cost_usd=cost.usd,
        cost_source=cost.source,
        **same,  # type: ignore[arg-type]  # names and types are those of Span
    )


def _estimate(opened: Opened, prices: PriceBook) -> Cost:
    common = opened.common
    rate = common.usd_per_million
    if common.provider == APPS or rate is None or common.price_source is None:
        return _price(opened, common.model, Usage(input_uncached=opened.input_tokens), prices)
    rates = {"input_uncached": rate} if rate else {}
    return Cost(usd=rate * opened.input_tokens / 1_000_000, source=common.price_source, rates=rates)


def _price(opened: Opened, model: str, usage: Usage | None, prices: PriceBook) -> Cost:
    common = opened.common
    if common.provider == APPS:
        return PASSED_ON
    cost = prices.price(common.price_id, model, usage, opened.start_ns, provider=common.provider)
    if cost.usd is None and model != common.model:
        return prices.price(common.price_id, common.model, usage, opened.start_ns, provider=common.provider)
    return cost


def _rates(rates: object) -> dict[str, object]:
    return {RATES: rates} if rates else {}
