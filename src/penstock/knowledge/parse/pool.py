"""Parses in processes of their own, so that a hostile file costs its own document and nothing else.

A document that crashes its process, hangs or fills its memory is an error like any other; the process is
replaced. The limits are the recipe's: memory and processor time are held by the process itself, wall time by
this side, which kills the process with everything that it started.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from penstock.base.errors import InvalidInput, PenstockError
from penstock.knowledge.errors import (
    DocumentTooLarge,
    LockedDocument,
    ParserDied,
    ParserTooLarge,
    ParserTooSlow,
    PersonalDataRefused,
    UnreadableDocument,
    UnsupportedFormat,
)
from penstock.knowledge.parse.frames import Failure, Request, read_frame, write_frame
from penstock.knowledge.parse.kept import unpack_document
from penstock.knowledge.types import ParsedDocument
from penstock.spec.knowledge import ParseRecipe

Reader = Callable[[], bytes]
Outcome = ParsedDocument | PenstockError | OSError
WALL_FACTOR = 2.0
"""Wall time a document may take per second of processor time allowed: other work may hold the processors."""
WALL_EXTRA_S = 15.0
MAX_PROCESSES = 8
_ERRORS: dict[str, type[PenstockError]] = {
    kind.code: kind
    for kind in (
        InvalidInput,
        UnreadableDocument,
        UnsupportedFormat,
        DocumentTooLarge,
        LockedDocument,
        PersonalDataRefused,
        ParserDied,
        ParserTooSlow,
        ParserTooLarge,
    )
}


class ParserPool:
    """Up to `n` processes that parse, each bounded in memory and time. Safe to use from several threads.

    Processes start with the first documents and end with `close`. At most `n` documents are held as bytes.
    """

    def __init__(self, n: int | None = None, *, wall_s: float | None = None, retire_mb: int = 300) -> None:
        """Make a pool of `n` processes, by default one a processor.

        `wall_s` replaces the wall time by the recipe; a process that took more than `retire_mb` is replaced.
        """
        self.n = n or max(1, min(os.cpu_count() or 1, MAX_PROCESSES))
        self._wall_s = wall_s
        self._retire_mb = retire_mb
        self._free = threading.Semaphore(self.n)
        self._lock = threading.Lock()
        self._idle: list[_Process] = []
        self._is_closed = False

    def parse(self, name: str, data: bytes, recipe: ParseRecipe = ParseRecipe()) -> ParsedDocument:
        """Return what `parse_document` returns; wait for a free process.

        Raises `UnreadableDocument` also for a document on which its process died (`ParserDied`), took too long
        (`ParserTooSlow`) or ran out of memory (`ParserTooLarge`).
        """
        if len(data) > recipe.max_bytes:
            raise DocumentTooLarge(
                f"{name!r} has {len(data):,} bytes; the limit is {recipe.max_bytes:,}.",
                hint="Split it, or raise the limit.",
            )
        with self._free:
            process = self._take()
            try:
                reply = process.ask(
                    Request(name=_utf8(name), recipe=recipe, retire_mb=self._retire_mb),
                    data,
                    self._limit_of(recipe),
                )
            except BaseException:
                process.kill()
                raise
            if reply[:1].isupper():
                process.kill()
            else:
                self._give_back(process)
        return _read_reply(name, reply)

    def parse_all(
        self, items: Iterable[tuple[str, Reader]], recipe: ParseRecipe = ParseRecipe()
    ) -> Iterator[tuple[str, Outcome]]:
        """Yield name and outcome of each item, in the order of `items`, parsed side by side.

        Bytes are read just before they are parsed; no more than `n` documents are held at once, and no more
        than `2 n` results wait for their turn. `items` is read as it is needed, in the caller's thread.
        """
        waiting: deque[tuple[str, Future[Outcome]]] = deque()
        with ThreadPoolExecutor(self.n, thread_name_prefix="parse") as threads:
            try:
                for name, read in items:
                    waiting.append((name, threads.submit(self._outcome, name, read, recipe)))
                    if len(waiting) > 2 * self.n:
                        done, future = waiting.popleft()
                        yield done, future.result()
                while waiting:
                    done, future = waiting.popleft()
                    yield done, future.result()
            finally:
                for _, future in waiting:
                    future.cancel()

    def close(self) -> None:
        """End the processes that are idle; those at work end after their document."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for process in idle:
            process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _outcome(self, name: str, read: Reader, recipe: ParseRecipe) -> Outcome:
        try:
            return self.parse(name, read(), recipe)
        except (PenstockError, OSError) as error:
            return error

    def _limit_of(self, recipe: ParseRecipe) -> float:
        return self._wall_s if self._wall_s is not None else WALL_FACTOR * recipe.max_seconds + WALL_EXTRA_S

    def _take(self) -> "_Process":
        while True:
            with self._lock:
                process = self._idle.pop() if self._idle else None
            if process is None:
                return _Process()
            if process.is_alive():
                return process
            process.kill()

    def _give_back(self, process: "_Process") -> None:
        with self._lock:
            if not self._is_closed:
                self._idle.append(process)
                return
        process.kill()


class _Process:
    """One process that parses, with a group of its own: what it starts ends with it."""

    def __init__(self) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "penstock.knowledge.parse.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._lock = threading.Lock()
        self._is_ended = False

    def is_alive(self) -> bool:
        """Return whether it can be asked again."""
        if self._is_ended:
            return False
        end = select.poll()
        end.register(self._streams()[1], 0)
        # By its end of the pipe, not by its exit status: while nobody asks for that, its number stays its own.
        return not end.poll(0)

    def ask(self, request: Request, data: bytes, limit_s: float) -> bytes:
        """Return the reply; raise the error of the document where there is none."""
        late = threading.Event()

        def end() -> None:
            late.set()
            self.kill()

        watch = threading.Timer(limit_s, end)
        watch.daemon = True
        watch.start()
        try:
            reply = self._exchange(request, data)
        finally:
            watch.cancel()
        if reply is not None:
            return reply
        self.kill()
        raise self._error(request.name, request.recipe, limit_s if late.is_set() else None)

    def kill(self) -> None:
        """End it and everything that it started, once: afterwards its number may be another process's."""
        with self._lock:
            if self._is_ended:
                return
            self._is_ended = True
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()
        for stream in (self._popen.stdin, self._popen.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _exchange(self, request: Request, data: bytes) -> bytes | None:
        asked, answered = self._streams()
        try:
            write_frame(asked, msgspec.json.encode(request))
            write_frame(asked, data)
            asked.flush()
            return read_frame(answered)
        except (OSError, ValueError):  # it died, or was killed while this side wrote or read
            return None

    def _streams(self) -> tuple[BinaryIO, BinaryIO]:
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        return self._popen.stdin, self._popen.stdout  # type: ignore[return-value]  # IO[bytes] that are binary

    def _error(self, name: str, recipe: ParseRecipe, limit_s: float | None) -> UnreadableDocument:
        ended = self._popen.returncode
        if limit_s is not None:
            return ParserTooSlow(
                f"{name!r}: parsing took more than {limit_s:.0f} s.",
                hint="Split it, or raise parse.max_seconds.",
            )
        if ended == -signal.SIGXCPU:
            return ParserTooSlow(
                f"{name!r}: parsing took more than {recipe.max_seconds:g} s of processor time.",
                hint="Split it, or raise parse.max_seconds.",
            )
        how = f"signal {signal.Signals(-ended).name}" if ended is not None and ended < 0 else f"exit {ended}"
        return ParserDied(
            f"{name!r}: the process that parsed it died ({how}).",
            hint=f"It is damaged, or needs more than {recipe.max_memory_mb} MB: save it anew.",
        )


def _read_reply(name: str, reply: bytes) -> ParsedDocument:
    kind, body = reply[:1].lower(), reply[1:]
    if kind == b"d":
        return unpack_document(body)
    if kind == b"m":
        raise ParserTooLarge(
            f"{name!r}: parsing needs more memory than parse.max_memory_mb allows.",
            hint="Split it, or raise it.",
        )
    failure = msgspec.json.decode(body, type=Failure)
    error = _ERRORS.get(failure.code or "")
    if error is None:
        raise ParserDied(f"{name!r}: the parser failed: {failure.message}", hint=failure.hint)
    raise error(failure.message, hint=failure.hint)


def _utf8(name: str) -> str:
    return name.encode("utf-8", "replace").decode("utf-8")
