"""Everything that is stored of a user, session or trace, handed out as one ZIP file: JSON lines and a manifest.

Written piece by piece to a target that need not be seekable, so that the file is never whole in memory or on our disk.
"""

import hashlib
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from penstock.base.clock import iso_from_ns
from penstock.base.clock import now_ns as wall_clock
from penstock.spec.spans import Span
from penstock.store.spans.port import SpanExport, SpanUpkeep, SubjectReader
from penstock.store.spans.upkeep_types import Subject
from penstock.traces.upkeep.erasure import check_subject

TRACES_AT_ONCE = 20
_PIECE = 256 * 1024
_encode = msgspec.json.Encoder(decimal_format="string", enc_hook=str).encode
_README = """What is stored of one {kind}, as of {at}.

traces.jsonl   one line a span of every trace in which it is named, with what was asked and answered
scores.jsonl   judgements of these traces, and those made by it
ledger.jsonl   what these calls cost; amounts in US dollars
manifest.json  how many lines each file has, and its SHA-256

Times end in _ns: nanoseconds since 1970-01-01 UTC.
"""


class HandedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the ZIP."""

    name: str
    n_lines: int
    n_bytes: int
    digest: str


class Handout:
    """Reads what there is of a subject. Every method may be called from any thread."""

    def __init__(self, upkeep: SpanUpkeep, reader: SubjectReader, spans: SpanExport) -> None:
        self._upkeep = upkeep
        self._reader = reader
        self._spans = spans

    def stream(self, subject: Subject) -> Iterator[bytes]:
        """Yield the ZIP in pieces; raise `BadSubject` before the first."""
        checked = check_subject(subject)
        trace_ids = self._upkeep.find_subject(checked).trace_ids
        return self._pieces(checked, trace_ids, wall_clock())

    def _pieces(self, subject: Subject, trace_ids: Sequence[str], at_ns: int) -> Iterator[bytes]:
        sink = _Sink()
        handed: list[HandedFile] = []
        parts: tuple[tuple[str, Iterable[Any]], ...] = (
            ("traces.jsonl", self._read_spans(trace_ids)),
            ("scores.jsonl", self._reader.read_scores(subject, trace_ids)),
            ("ledger.jsonl", self._reader.read_ledger(subject, trace_ids)),
        )
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:  # type: ignore[call-overload]  # a sink that is only written
            for name, rows in parts:
                yield from _write_lines(archive, sink, name, rows, handed)
            at = iso_from_ns(at_ns)
            manifest = {"kind": subject.kind, "id": subject.id, "at": at, "files": handed}
            archive.writestr("manifest.json", msgspec.json.format(_encode(manifest), indent=2))
            archive.writestr("README.txt", _README.format(kind=subject.kind, at=at))
        yield sink.take()

    def _read_spans(self, trace_ids: Sequence[str]) -> Iterator[Span]:
        for start in range(0, len(trace_ids), TRACES_AT_ONCE):
            yield from self._spans.read_traces(trace_ids[start : start + TRACES_AT_ONCE])


def _write_lines(
    archive: zipfile.ZipFile, sink: "_Sink", name: str, rows: Iterable[Any], handed: list[HandedFile]
) -> Iterator[bytes]:
    digest = hashlib.sha256()
    n_lines = n_bytes = 0
    with archive.open(name, "w", force_zip64=True) as target:
        for row in rows:
            line = _encode(row) + b"\n"
            target.write(line)
            digest.update(line)
            n_lines, n_bytes = n_lines + 1, n_bytes + len(line)
            if len(sink) > _PIECE:
                yield sink.take()
    handed.append(
        HandedFile(name=name, n_lines=n_lines, n_bytes=n_bytes, digest=f"sha256:{digest.hexdigest()}")
    )


class _Sink:
    """A file that is only written, and taken away in pieces."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        self._size += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing waits."""

    def take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        return data
