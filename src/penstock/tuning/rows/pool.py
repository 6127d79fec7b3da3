"""Chunks of rows over several processes, their results in the order of the rows.

A process of its own for each core, because templates are rendered in Python. A worker that loses its parent reads the
end of its pipe and goes.
"""

import gc
import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any

import msgspec

from penstock.base.errors import BugError
from penstock.spec.datasets import DatasetRow
from penstock.tuning.rows.chunks import Chunk, NumberedRow, RowWork
from penstock.tuning.rows.overlap import WordHashes

CHUNK_ROWS = 500
MIN_ROWS_FOR_POOL = 6000
"""Below, starting processes takes longer than they save."""
_MAX_PROCESSES = 8
_decoder = msgspec.msgpack.Decoder(list[tuple[int, DatasetRow]])


class RowWorkerDied(BugError):
    """A process that renders rows ended before its work did."""

    code = "PS-9570"


def count_processes(n_rows: int) -> int:
    """Return how many processes are worth it for so many rows; 1 means this one."""
    if n_rows < MIN_ROWS_FOR_POOL:
        return 1
    return min(_MAX_PROCESSES, len(os.sched_getaffinity(0)))


def chunked(rows: Iterable[NumberedRow], size: int = CHUNK_ROWS) -> Iterator[list[NumberedRow]]:
    """Yield rows some hundred at a time."""
    iterator = iter(rows)
    while chunk := list(islice(iterator, size)):
        yield chunk


def work_all(work: RowWork, chunks: Iterable[list[NumberedRow]], *, processes: int) -> Iterator[Chunk]:
    """Yield what becomes of each chunk, in order."""
    if processes <= 1:
        words = WordHashes()
        for chunk in chunks:
            yield work.work(chunk, words)
        return
    pool = _Pool(work, processes)
    try:
        yield from pool.run(chunks)
    finally:
        pool.close()


class _Pool:
    def __init__(self, work: RowWork, processes: int) -> None:
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        self._pipes: list[Connection] = []
        self._workers: list[Any] = []
        for _ in range(processes):
            ours, theirs = context.Pipe()
            worker = context.Process(target=_serve, args=(theirs, work), daemon=True)
            worker.start()
            theirs.close()
            self._pipes.append(ours)
            self._workers.append(worker)

    def run(self, chunks: Iterable[list[NumberedRow]]) -> Iterator[Chunk]:
        busy: deque[Connection] = deque()
        try:
            for number, chunk in enumerate(chunks):
                pipe = self._pipes[number % len(self._pipes)]
                data = msgspec.msgpack.encode(chunk)
                if len(busy) == len(self._pipes):
                    # before it is given more: both sides writing to full pipes would wait for each other for ever
                    done = busy.popleft().recv()
                    pipe.send_bytes(data)
                    busy.append(pipe)
                    yield done
                else:
                    pipe.send_bytes(data)
                    busy.append(pipe)
            while busy:
                yield busy.popleft().recv()
        except (EOFError, OSError) as error:
            raise RowWorkerDied(
                "A process that prepares rows was ended from outside.",
                hint="Usually the machine ran out of memory; free some and try again.",
            ) from error

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        for worker in self._workers:
            worker.join(5)
            if worker.is_alive():
                worker.kill()
                worker.join()


def _serve(pipe: Connection, work: RowWork) -> None:
    gc.freeze()  # what was imported stays: looking through it again and again takes a tenth of the time
    words = WordHashes()
    while True:
        try:
            rows = _decoder.decode(pipe.recv_bytes())
        except EOFError:
            return
        pipe.send(work.work(rows, words))
