"""The worker's half of the pipeline: encodes, sends, keeps what nobody took, and knows when to try again."""

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence

from penstock.sdk.records import Record, SpanRecord
from penstock.sdk.settings import SdkSettings
from penstock.sdk.spill import Batch, DiskSpill, MemorySpill, RecordKind
from penstock.sdk.transport import Answer, Transport
from penstock.sdk.troubles import Troubles
from penstock.sdk.wire import encode_body, encode_resource, encode_span, without_payload

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
LOOK_AGAIN_S = 5.0
"""Until what is kept and could not be read is tried again."""
MAX_AWAY = 3
"""Batches in a row that may fail before the rest is left for later, where somebody asked to try."""
MAX_SCORES = 500
"""Of one request: the collector takes a thousand."""
SLICE_S = 0.001
"""How long this thread holds the interpreter at once: the program would wait up to 5 ms (`sys.getswitchinterval`)."""
DROPPED_HEADER = "x-penstock-dropped"

_log = logging.getLogger("penstock.sdk")


class Sender:
    """Delivers records; for one thread, but its counts may be read from any."""

    def __init__(
        self,
        settings: SdkSettings,
        spill: DiskSpill | MemorySpill,
        transport: Callable[[SdkSettings], Transport],
        clock: Callable[[], float],
        dropped_before: Callable[[], int] = lambda: 0,
    ) -> None:
        self.n_sent = 0
        self.n_failed = 0
        self.n_dropped = 0
        self.n_payloads_dropped = 0
        self.problem: str | None = None
        self._settings = settings
        self._spill = spill
        self._connect = transport
        self._link: Transport | None = None
        self._clock = clock
        self._dropped_before = dropped_before
        self._resource = encode_resource(settings)
        self._pause_s = 0.0
        self._closed_until = float("-inf")
        self._troubles = Troubles()
        self._rest_due_s = float("-inf")
        """When to look at the rest again, all of which was tried."""
        self._encoding: Sequence[Record] = ()
        self._waiting: deque[Batch] = deque()
        """Encoded, the first of them perhaps on its way, none of them settled."""
        self._n_told = 0
        self._has_looked = False
        self._rng = random.Random()

    @property
    def n_spilled(self) -> int:
        """Records of this process in the spill folder."""
        return self._spill.n_records if self._spill.is_durable else 0

    @property
    def has_rest(self) -> bool:
        """Whether something waits for a collector that did not answer."""
        return self._spill.n_records > 0 or not self._has_looked

    @property
    def pause_s(self) -> float:
        """Seconds until the collector, which did not answer, is tried again."""
        return max(0.0, self._closed_until - self._clock())

    @property
    def wait_s(self) -> float:
        """Seconds until something of the rest is to be tried."""
        return max(0.0, max(self._closed_until, self._rest_due_s) - self._clock())

    def deliver(self, records: Sequence[Record], *, is_asked: bool) -> None:
        """Send records, or keep them when nobody answers; `is_asked` tries at once whatever happened before."""
        self._encoding = records
        self._waiting.extend(self._encode(records))
        self._encoding = ()
        while self._waiting:
            self._send(self._waiting[0], is_asked=is_asked)
            self._waiting.popleft()

    def deliver_rest(self, *, is_asked: bool, is_busy: Callable[[], bool]) -> None:
        """Send what was kept, oldest first, until the collector is away or newer records want their turn.

        A batch over which the collector stumbles holds up no other: the next ones are tried, and it comes last.
        """
        self._has_looked = True
        self._rest_due_s = float("-inf")
        self._count_gone()
        tried: set[str] = set()
        n_away = 0
        while (is_asked or self.pause_s <= 0) and n_away < MAX_AWAY:
            batch = self._choose(tried, is_asked=is_asked)
            if batch is None:
                due_s = self._clock() + LOOK_AGAIN_S
                self._rest_due_s = min(due_s, self._troubles.first_due_s())
                break
            tried.add(batch.name)
            answer = self._post(batch)
            if answer.verdict == "away":
                answer = self._note_trouble(batch, answer)
            if answer.verdict == "away":
                n_away += 1 if answer.is_there else MAX_AWAY  # where nobody is there, others fare no better
                continue
            n_away = 0
            self._troubles.forget(batch.name)
            n_own = self._spill.remove(batch)
            self._settle(batch, answer, n_own)
            if is_busy():
                break
        self._count_gone()

    def _choose(self, tried: set[str], *, is_asked: bool) -> Batch | None:
        """Return the oldest batch of the rest that never failed, or else one whose time has come again."""
        troubles = self._troubles
        early = set() if is_asked else troubles.early(self._clock())
        return self._spill.first(tried | troubles.names) or self._spill.first(tried | early)

    def _note_trouble(self, batch: Batch, answer: Answer) -> Answer:
        """Note that a batch of the rest failed; return what that means once it has done so for too long."""
        if not self._troubles.note(batch.name, self._clock(), is_at_fault=answer.is_there):
            return answer
        return Answer("too_large", reason=f"not taken while others were: {answer.reason}")

    def _count_gone(self) -> None:
        n_sent, n_lost = self._spill.take_gone()
        self.n_sent += n_sent
        self.n_dropped += n_lost
        if n_lost:
            _log.warning("penstock: %d records were lost with a damaged file of the spill folder", n_lost)

    def save_rest(self, records: Sequence[Record]) -> None:
        """Keep records and what is being sent right now; for the end of the program, from another thread."""
        for batch in self._encode([*self._encoding, *records]):
            self._keep(batch)
        for batch in list(self._waiting):
            self._spill.put(batch)  # not counted as dropped without room: the worker may yet deliver it

    def close(self) -> None:
        """Give the connection up."""
        if self._link is not None:
            self._link.close()

    def _encode(self, records: Sequence[Record]) -> list[Batch]:
        parts: dict[RecordKind, list[bytes]] = {"spans": [], "scores": []}
        since_s = time.perf_counter()
        for record in records:
            if time.perf_counter() - since_s > SLICE_S:
                time.sleep(0)
                since_s = time.perf_counter()
            try:
                if isinstance(record, SpanRecord):
                    parts["spans"].append(encode_span(record, self._settings))
                else:
                    parts["scores"].append(record.body)
            except Exception as error:  # one span that cannot be written must not take the others along
                self.n_failed += 1
                self.problem = f"a span could not be encoded: {type(error).__name__}: {error}"
                _log.warning("penstock: %s", self.problem)
        return [
            batch
            for kind, texts in parts.items()
            if texts
            for batch in split(
                Batch(kind=kind, resource=self._resource, parts=texts),
                self._settings.max_batch_bytes,
                MAX_SCORES if kind == "scores" else None,
            )
        ]

    def _send(self, batch: Batch, *, is_asked: bool = False) -> None:
        if self.pause_s > 0 and not is_asked:
            self._keep(batch)
            return
        answer = self._post(batch)
        if answer.verdict == "away":
            self._keep(batch)
        else:
            self._settle(batch, answer, len(batch.parts))

    def _post(self, batch: Batch) -> Answer:
        if self._link is None:
            self._link = self._connect(self._settings)
        path, body = encode_body(batch)
        n_lost = self.n_dropped + self._dropped_before()
        headers = {DROPPED_HEADER: str(n_lost - self._n_told)} if n_lost > self._n_told else {}
        try:
            answer = self._link.post(path, body, headers)
        except Exception as error:  # nothing that a server answers may end the thread or lose the batch
            answer = Answer("away", reason=f"{type(error).__name__}: {error}")
        if answer.verdict == "away" and answer.is_there and self._troubles.is_alone(batch.name):
            self.problem = answer.reason  # of this batch alone, so the others need not wait
        elif answer.verdict == "away":
            self._back_off(answer)
        else:
            self._troubles.n_passed += 1
            self._pause_s, self._closed_until = 0.0, float("-inf")
            self._n_told = n_lost
            self.problem = answer.reason if answer.verdict != "accepted" or answer.n_rejected else None
        return answer

    def _settle(self, batch: Batch, answer: Answer, n_own: int) -> None:
        """Count an answered batch of which `n_own` records are this process's own."""
        if answer.verdict == "accepted":
            n_rejected = min(answer.n_rejected, n_own)
            self.n_sent += n_own - n_rejected
            self.n_failed += n_rejected
            if n_rejected:
                _log.warning("penstock: %d spans were rejected: %s", n_rejected, answer.reason)
        elif len(batch.parts) > 1 and (
            answer.verdict == "too_large" or (batch.kind == "scores" and answer.is_of_body)
        ):  # scores are taken all or none: only the wrong one shall fail
            for half in split(batch, max(1, batch.size_bytes // 2)):
                self._send_again(half, n_own > 0)
        elif (
            answer.verdict == "too_large"
            and batch.kind == "spans"
            and (small := without_payload(batch.parts[0]))
        ):
            self.n_payloads_dropped += n_own
            self._send_again(Batch(kind="spans", resource=batch.resource, parts=[small]), n_own > 0)
        else:
            self.n_failed += n_own
            _log.warning("penstock: %d records were refused: %s", len(batch.parts), answer.reason)

    def _send_again(self, batch: Batch, is_own: bool) -> None:
        answer = self._post(batch)
        if answer.verdict == "away":
            self._keep(batch)
        else:
            self._settle(batch, answer, len(batch.parts) if is_own else 0)

    def _keep(self, batch: Batch) -> None:
        self._rest_due_s = float("-inf")
        if not self._spill.put(batch):
            self.n_dropped += len(batch.parts)

    def _back_off(self, answer: Answer) -> None:
        if self.problem is None:
            _log.warning("penstock: spans wait here, the collector is away: %s", answer.reason)
        self.problem = answer.reason
        self._pause_s = min(max(FIRST_PAUSE_S, self._pause_s * 2), LONGEST_PAUSE_S)
        pause = self._pause_s * (0.5 + self._rng.random() / 2)
        self._closed_until = self._clock() + max(pause, min(answer.retry_after_s or 0.0, 300.0))


def split(batch: Batch, max_bytes: int, max_parts: int | None = None) -> list[Batch]:
    """Return the batch in pieces of about `max_bytes` and at most `max_parts`, each of at least one record."""
    groups: list[list[bytes]] = [[]]
    size = 0
    for part in batch.parts:
        if groups[-1] and (size + len(part) > max_bytes or len(groups[-1]) == max_parts):
            groups.append([])
            size = 0
        groups[-1].append(part)
        size += len(part)
    return [Batch(kind=batch.kind, resource=batch.resource, parts=group) for group in groups]
