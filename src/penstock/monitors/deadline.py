"""A bound on a whole exchange over a socket: timeouts of sockets start anew with every byte that drips in."""

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Self


class Deadline:
    """Shuts the connection that it watches once the time is over, whoever is reading from it or shaking hands."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._end_s = time.monotonic() + timeout_s
        self._timer = threading.Timer(timeout_s, self._shut)
        self._timer.daemon = True
        self._twin: socket.socket | None = None
        """A second handle of the connection, which stays whatever is wrapped around the first."""

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_back: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._timer.join()
        if self._twin is not None:
            self._twin.close()

    @property
    def is_over(self) -> bool:
        """Whether no time is left."""
        return time.monotonic() >= self._end_s

    def left_s(self) -> float:
        """Return the seconds that are left; raise `TimeoutError` when none are."""
        left = self._end_s - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    def watch(self, link: socket.socket) -> None:
        """Watch a connection that was just made."""
        link.settimeout(self.left_s())
        self._twin = link.dup()
        if self.is_over:  # the timer has come and gone
            self._shut()

    def _shut(self) -> None:
        if self._twin is not None:
            with contextlib.suppress(OSError):
                self._twin.shutdown(socket.SHUT_RDWR)
