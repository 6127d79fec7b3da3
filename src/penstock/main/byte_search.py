"""Looks through every file of a home for texts, byte by byte: the proof that nothing of them is left, or the place.

Bounded memory: files are mapped, what is compressed is opened piece by piece. What was looked for, and how, is told
with the answer, so that nobody takes it for more than it is.
"""

import gzip
import json
import lzma
import mmap
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, cast

from penstock.store.spans.text_erasure import ERASED
from penstock.traces.upkeep.sweep import MAX_FOUND, MIN_NAME, Place, Sweep

MAX_NEEDLES = 64
N_FIRST = 4
"""Of a long list the first are always looked for, the others spread over it."""
PIECE = 1 << 20
MAX_OPENED = 1 << 30
"""Bytes that are unpacked of one compressed file."""
HOW = (
    "every file byte by byte, as UTF-8, UTF-16 and as JSON writes it",
    "gzip, xz, ZIP and office files unpacked; not the streams within PDF files",
    "indexes hold single words and vectors, no texts: they were written anew, and not taken over from older ones",
    "the span store by queries of every column that holds text, since its blocks are compressed",
)


def search_files(
    root: Path, texts: Sequence[str], *, is_stopped: Callable[[], bool] = lambda: False
) -> Sweep:
    """Look for texts in every file below `root`, within what is compressed too."""
    wanted = [text for text in dict.fromkeys(texts) if len(text) >= MIN_NAME]
    if not wanted:
        return Sweep(skipped=f"there is nothing of at least {MIN_NAME} characters to look for")
    first, rest = wanted[:N_FIRST], wanted[N_FIRST:]
    most = MAX_NEEDLES - len(first)
    chosen = [*first, *(rest[number * len(rest) // most] for number in range(most if rest else 0))]
    needles = make_needles(wanted if len(wanted) <= MAX_NEEDLES else chosen)
    n_files = n_bytes = 0
    found: list[Place] = []
    unreadable: list[str] = []
    for path in _walk(root):
        if is_stopped():
            return Sweep(n_files=n_files, n_bytes=n_bytes, found=found, skipped="it was stopped")
        try:
            size, n = count_in_file(path, needles)
        except FileNotFoundError:  # gone meanwhile, and with it what it held
            continue
        except OSError:
            unreadable.append(_tell(path.relative_to(root), wanted))
            continue
        n_files, n_bytes = n_files + 1, n_bytes + size
        if n and len(found) < MAX_FOUND:
            found.append(Place(file=_tell(path.relative_to(root), wanted), n=n))
    looked_for = f"{min(len(wanted), MAX_NEEDLES)} of {len(wanted)} ids and pieces of text"
    return Sweep(n_files=n_files, n_bytes=n_bytes, found=found, unreadable=unreadable, how=[looked_for, *HOW])


def make_needles(texts: Sequence[str]) -> list[bytes]:
    """Return the bytes by which texts are found."""
    needles: set[bytes] = set()
    for text in texts:
        ways = {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
        needles.update(way.encode("utf-8", "surrogatepass") for way in ways)
        needles.add(text.encode("utf-16-le", "surrogatepass"))
    return sorted(needles)


def count_in_file(path: Path, needles: Sequence[bytes]) -> tuple[int, int]:
    """Return the size of a file and how often the needles stand in it, or in what it holds compressed."""
    with path.open("rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode) or not facts.st_size:
            return 0, 0
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            n = sum(_occurrences(data, needle) for needle in needles)
            head = bytes(data[:6])
        n += sum(_count_in_stream(stream, needles) for stream in _open_packed(path, head))
    return facts.st_size, n


def _occurrences(data: mmap.mmap, needle: bytes) -> int:
    n, at = 0, data.find(needle)
    while at >= 0:
        n, at = n + 1, data.find(needle, at + len(needle))
    return n


def _open_packed(path: Path, head: bytes) -> Iterator[IO[bytes]]:
    """Yield what a file holds, unpacked; nothing for one that is not packed."""
    if head.startswith(b"\x1f\x8b"):
        with gzip.open(path) as unpacked:
            yield cast("IO[bytes]", unpacked)
    elif head.startswith(b"\xfd7zXZ"):
        with lzma.open(path) as stream:
            yield stream
    elif head.startswith(b"PK\x03\x04"):
        try:
            archive = zipfile.ZipFile(path)
        except zipfile.BadZipFile:
            return
        with archive:
            for member in archive.infolist():
                if member.flag_bits & 1:  # encrypted: nobody here can read it
                    continue
                with archive.open(member) as stream:
                    yield stream


def _count_in_stream(stream: IO[bytes], needles: Sequence[bytes]) -> int:
    overlap = max(map(len, needles)) - 1
    n, n_read, kept = 0, 0, b""
    try:
        while n_read < MAX_OPENED and (piece := stream.read(PIECE)):
            n_read += len(piece)
            data = kept + piece
            n += sum(_count_new(data, needle, len(kept)) for needle in needles)
            kept = data[-overlap:] if overlap else b""
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError):
        return n  # damaged, or no such file after all: its bytes were looked at as they are
    return n


def _count_new(data: bytes, needle: bytes, n_kept: int) -> int:
    """Count the needle where it does not lie wholly in what was looked at before."""
    n, at = 0, data.find(needle, max(0, n_kept - len(needle) + 1))
    while at >= 0:
        n, at = n + 1, data.find(needle, at + len(needle))
    return n


def _tell(file: Path, texts: Sequence[str]) -> str:
    """Return a file's name for a receipt, which must not name what was erased."""
    name = str(file)
    for text in sorted(texts, key=len, reverse=True):
        name = name.replace(text, ERASED)
    return name


def _walk(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        yield from (Path(folder) / each for each in sorted(names))
