"""An engine that dies at the n-th write transaction, before or after its commit; and a clock to turn by hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine


class Crash(BaseException):
    """The process is gone at this point: nothing after it runs."""


class CrashingEngine:
    """Passes everything to a real engine until its n-th write, counted from 1."""

    def __init__(self, engine: Engine, *, at_write: int, after_commit: bool) -> None:
        self._engine = engine
        self._at_write = at_write
        self._after_commit = after_commit
        self.n_writes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def connect(self) -> Any:
        """Reads are never the moment of death; a dead process does not read either."""
        if self.n_writes >= self._at_write:
            raise Crash
        return self._engine.connect()

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Yield a real transaction; at the n-th one, crash before or after the real commit."""
        if self.n_writes >= self._at_write:
            raise Crash
        self.n_writes += 1
        with self._engine.begin() as connection:
            yield connection
            if self.n_writes == self._at_write and not self._after_commit:
                raise Crash
        if self.n_writes == self._at_write:
            raise Crash


class HandClock:
    """Nanoseconds that move on by one microsecond a look, and by more when told."""

    def __init__(self) -> None:
        self.now_ns = 1_700_000_000_000_000_000

    def __call__(self) -> int:
        self.now_ns += 1_000
        return self.now_ns

    def pass_s(self, seconds: float) -> None:
        """Let time pass."""
        self.now_ns += int(seconds * 1e9)
